"""The start of a student: its teacher's weights, wherever their modules correspond."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor

from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.networks.matching import Match
from stagewise_kd.system.errors import UserError

Pick = Literal["first", "spread"]
Tree = dict[str, "Tree | Tensor"]
Picked = dict[str, tuple[list[str], int]]  # of a container: which of so many, in order


@dataclass(frozen=True)
class Inherited:
    """What a student has of its teacher.

    Args:
        tensors: parameters and statistics.
        total: of the student.
        picked: of each container of fewer modules than the teacher's: which ones, of how many.
    """

    tensors: int
    total: int
    picked: Picked

    def __str__(self) -> str:
        parts = [
            f"{path}: {', '.join(names)} of {total}" for path, (names, total) in self.picked.items()
        ]
        return "; ".join([f"{self.tensors} of {self.total} tensors from the teacher", *parts])


def inherit(
    student: BlockNet, teacher: BlockNet, match: Sequence[Match], pick: Pick = "spread"
) -> Inherited:
    """Copy the teacher's weights into the student, where names and shapes agree.

    Modules correspond that lie between matched features, at the same path; of modules that are
    numbered the student's are the first of the teacher's, or spread over them from the first to the
    last.

    Args:
        student: gets the weights.
        teacher: keeps them.
        match: pairs of features; what comes behind the last one corresponds too.
        pick: which of the teacher's numbered modules.

    Raises:
        UserError: there is no such pick.
    """
    if pick not in get_args(Pick):
        raise UserError(f"student.pick={pick}: give {' or '.join(get_args(Pick))}")
    ours, theirs = _tensors(student), _tensors(teacher)
    found: dict[str, str] = {}
    picked: Picked = {}
    for one, other in _runs(student, teacher, match):
        trees = _tree(held_by(student, ours, one)), _tree(held_by(teacher, theirs, other))
        found |= dict(_corresponding(*trees, "", "", pick, picked))
    with torch.no_grad():
        for name, source in found.items():
            ours[name].copy_(theirs[source])
    some = {path: (names, total) for path, (names, total) in picked.items() if names}
    fewer = {path: (names, total) for path, (names, total) in some.items() if len(names) < total}
    return Inherited(len(found), len(ours), fewer)


def _tensors(net: BlockNet) -> dict[str, Tensor]:
    return dict(net.model.state_dict(keep_vars=True))


def _runs(
    student: BlockNet, teacher: BlockNet, match: Sequence[Match]
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Names of the blocks between matched features, of both networks."""
    ends = [(student.names.index(ours), teacher.names.index(theirs)) for ours, theirs in match]
    ends = sorted({*ends, (len(student.names) - 1, len(teacher.names) - 1)})
    for (a, b), (c, d) in pairwise([(-1, -1), *ends]):
        yield student.names[a + 1 : c + 1], teacher.names[b + 1 : d + 1]


def held_by(
    net: BlockNet, tensors: Mapping[str, Tensor], names: Sequence[str]
) -> dict[str, Tensor]:
    """The tensors of some blocks, by their names in the model."""
    state = [net.blocks[name].module.state_dict(keep_vars=True).values() for name in names]
    held = {id(tensor) for values in state for tensor in values}
    return {name: tensor for name, tensor in tensors.items() if id(tensor) in held}


def _tree(tensors: Mapping[str, Tensor]) -> Tree:
    """Tensors by the modules that hold them."""
    root: Tree = {}
    for name, tensor in tensors.items():
        *path, last = name.split(".")
        node = root
        for step in path:
            node = node.setdefault(step, {})  # type: ignore[assignment]
        node[last] = tensor
    return root


def _corresponding(
    ours: Tree, theirs: Tree, path: str, source: str, pick: Pick, picked: Picked
) -> Iterator[tuple[str, str]]:
    """Names of the student's tensors, and of those of the teacher that they start as."""
    partner = _partners(ours, theirs, pick)
    if _numbered(ours) and _numbered(theirs):
        before, total = picked.get(path[:-1], ([], 0))
        picked[path[:-1]] = [*before, *partner.values()], total + len(theirs)
    direct = [name for name, child in ours.items() if isinstance(child, Tensor)]
    # a bias without its weights means nothing
    if all(name in theirs and _print(ours[name]) == _print(theirs[name]) for name in direct):
        yield from ((path + name, source + name) for name in direct)
    for name, other in partner.items():
        one, two = ours[name], theirs[other]
        if isinstance(one, dict) and isinstance(two, dict):
            yield from _corresponding(one, two, f"{path}{name}.", f"{source}{other}.", pick, picked)


def _partners(ours: Tree, theirs: Tree, pick: Pick) -> dict[str, str]:
    """Children by name; numbered ones by place, the nearest of those with the same tensors."""
    if not (_numbered(ours) and _numbered(theirs)) or ours.keys() == theirs.keys():
        return {name: name for name in ours if name in theirs}
    names, last = [*theirs], len(theirs) - 1
    found = {}
    for place, (name, child) in enumerate(ours.items()):
        spread = place * last / max(1, len(ours) - 1)
        wanted = min(place, last) if pick == "first" else round(spread)
        alike = [n for n, other in enumerate(names) if _print(theirs[other]) == _print(child)]
        if alike:
            found[name] = names[min(alike, key=lambda n: abs(n - wanted))]
    return found


def _numbered(tree: Tree) -> bool:
    return bool(tree) and all(name.isdecimal() for name in tree)


def _print(node: Tree | Tensor) -> object:
    """Names and shapes of all that a module holds."""
    if isinstance(node, Tensor):
        return node.shape
    return tuple((name, _print(child)) for name, child in sorted(node.items()))
