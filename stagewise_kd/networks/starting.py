"""The start of a student: the weights of any checkpoint, as far as they fit."""

from collections.abc import Sequence
from os.path import commonpath
from pathlib import Path
from typing import Any

from torch import Tensor, no_grad

from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.networks.inheriting import held_by
from stagewise_kd.networks.recognizing import Weights, modules_of, prefixes, under
from stagewise_kd.system.checkpoints import WEIGHTS, read_weights
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.files import read_json
from stagewise_kd.system.weights import COUNTER


def start_from(student: BlockNet, path: Path, classes: Sequence[str] | None = None) -> str:
    """Copy what fits of a checkpoint into a student, and tell in one line what that is.

    A tensor fits where name and shape agree: as the student names it, or its encoder by itself,
    behind whatever prefix the checkpoint has; all else stays as it is, and so does the head where a
    run tells of other classes, be they as many.

    Args:
        student: gets the weights.
        path: a run folder, one of `save_pretrained`, a safetensors or a torch file.
        classes: that the student is to tell apart.

    Raises:
        UserError: the checkpoint cannot be read, or nothing in it fits.
    """
    file = _file(path)
    weights = read_weights(file)
    described: dict[str, Any] = read_json(file.with_name("network.json")) or {}
    state: dict[str, Tensor] = dict(student.model.state_dict(keep_vars=True))
    known = described.get("classes", classes)
    heads = held_by(student, state, student.of_role("head") if known != classes else ())
    there = _by_the_students_names(weights, student, state)
    found = {k: v for k, v in there.items() if _fits(k, v, state) and k not in heads}
    if not any(value.ndim > 1 for value in found.values()):
        raise UserError(
            f"student.init={path}: no weights of the student have a name and shape of those there, "
            f"of {modules_of(weights)}; pick the student that they are of, or student.init=random"
        )
    with no_grad():
        for name, value in found.items():
            state[name].copy_(value)
    told = [f"student: {len(found)} of {len(state)} tensors from {path}"]
    told += _left(student, state, found, "other classes", {*heads})
    told += _left(student, state, found, "other shapes", there.keys() - heads.keys())
    told += _left(student, state, found, "not there", state.keys() - there.keys() - heads.keys())
    return "; ".join([*told, *_other_norm(student, described)])


def _file(path: Path) -> Path:
    """The weights of a run or of a folder that a library has saved; a file is its own."""
    if path.is_file():
        return path
    for folder in (path / "student", path):
        for name in WEIGHTS:
            if (folder / name).is_file():
                return folder / name
    what = f"holds no finished student and none of {', '.join(WEIGHTS)}" if path.is_dir() else None
    raise UserError(
        f"student.init={path}: {what or 'there is no such file or folder'}; give teacher, random, "
        "a finished run or a file of weights"
    )


def _by_the_students_names(
    weights: Weights, student: BlockNet, state: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The tensors of a checkpoint, where as many as can be are called as the student's."""
    tried = [
        {home + name: value for name, value in under(weights, prefix).items()}
        for home in dict.fromkeys(["", _encoders_home(student, state)])
        for prefix in prefixes(weights, under(state, home))
    ]
    return max(
        ({name: value for name, value in some.items() if name in state} for some in tried),
        key=lambda some: sum(_fits(name, value, state) for name, value in some.items()),
        default={},
    )


def _encoders_home(student: BlockNet, state: dict[str, Tensor]) -> str:
    """What all names of the encoder's tensors start with, such as "encoder."."""
    inside = held_by(student, state, student.of_role("encoder"))
    modules = [name.rpartition(".")[0].replace(".", "/") for name in inside]
    home = commonpath(modules).replace("/", ".") if modules else ""
    return f"{home}." if home else ""


def _fits(name: str, value: Tensor, state: dict[str, Tensor]) -> bool:
    return value.shape == state[name].shape


def _left(
    student: BlockNet, state: dict[str, Tensor], found: Weights, why: str, names: set[str]
) -> list[str]:
    """The blocks some of whose tensors stay as they are for a reason, if any."""
    left = {name for name in names - found.keys() if not name.endswith(COUNTER)}
    blocks = [name for name in student.names if left & held_by(student, state, [name]).keys()]
    return [f"{', '.join(blocks)}: {why}"] if blocks else []


def _other_norm(student: BlockNet, described: dict[str, Any]) -> list[str]:
    """How the images of a run were normalized, where that was in another way."""
    norm = {"mean": student.mean, "std": student.std}
    ours = {key: [round(x, 4) for x in value.flatten().tolist()] for key, value in norm.items()}
    theirs = {key: [round(x, 4) for x in described.get(key, ours[key])] for key in norm}
    hint = " ".join(f"data.{key}={value}".replace(" ", "") for key, value in theirs.items())
    return [] if ours == theirs else [f"its images were normalized by {hint}"]
