"""From a network, images and a target to a smaller network of the same class."""

import hashlib
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from rich.progress import Progress
from torch import Tensor, nn

from stagewise_kd.networks.cpu_convolutions import fast_convolutions
from stagewise_kd.networks.hashes import weights_hash
from stagewise_kd.networks.shrunk import Change, Recipe, put
from stagewise_kd.sizing.alternatives import KEEP, Choices
from stagewise_kd.sizing.calls import device_of
from stagewise_kd.sizing.choice import Choice, Losses, reached
from stagewise_kd.sizing.costs import Costs, costs_of, milliseconds
from stagewise_kd.sizing.layers import apart, mixes
from stagewise_kd.sizing.repairing import repair_all, repair_alone
from stagewise_kd.sizing.scores import Scores, score
from stagewise_kd.sizing.target import Target, amount, shown
from stagewise_kd.system.console import console
from stagewise_kd.system.files import write_json, writing_into

CLOSE = 0.03  # of a latency: how far from its target a network may be measured
TRIES = 4
ROUNDS = 30


@dataclass(frozen=True)
class Smaller:
    """A network within its target.

    Args:
        model: of the class of the whole one, some of its modules replaced.
        recipe: what makes its shapes out of the whole network's; None where an alternative of the
            user's own was chosen.
        choice: the alternative of each block; its cost is measured where it is a latency.
        costs: by which it was chosen.
    """

    model: nn.Module
    recipe: Recipe | None
    choice: Choice
    costs: Costs


def scored(
    model: nn.Module,
    space: Sequence[Choices],
    images: Tensor,
    steps: int = 0,
    seed: int = 0,
    out: Path | None = None,
) -> tuple[list[Choices], Scores]:
    """All alternatives, repaired alone where asked for, and their scores.

    Args:
        model: the whole network, in eval mode.
        space: its blocks and their alternatives.
        images: as the model takes them, (N, C, H, W).
        steps: of repair before an alternative is scored.
        seed: of the order of images.
        out: a folder that keeps the scores of this network on these images, and goes on with them.
    """
    with nullcontext() if out is None else writing_into(out):
        return _scored(model, space, images, steps, seed, out)


def _scored(
    model: nn.Module,
    space: Sequence[Choices],
    images: Tensor,
    steps: int,
    seed: int,
    out: Path | None,
) -> tuple[list[Choices], Scores]:
    found = [*space]
    if steps:
        with progress("repairing alternatives") as note:
            for done, choices in enumerate(space):
                note(done, len(space))
                found[done] = repair_alone(model, choices, images, steps, seed)
    kept = out and out / f"scores-{_hash(model, space, images, steps, seed)}.json"
    modules = [one.module for choices in found for one in choices.alternatives.values()]
    with progress("scoring alternatives") as note, fast_convolutions(model, *modules):
        return found, score(model, found, images, kept, note)


def within(
    model: nn.Module,
    space: Sequence[Choices],
    losses: Losses,
    target: Target,
    image: Tensor,
    prefix: str = "",
) -> Smaller:
    """The network of least loss within a target; the whole one is left as it is.

    What is measured in parts may differ from the whole: a choice by latency is measured, and made
    again for as much less or more.

    Args:
        model: the whole network, in eval mode.
        space: its blocks and their alternatives.
        losses: of the alternatives.
        target: a kind of cost, and a share or a quantity with its unit.
        image: one, as the model takes it, (1, C, H, W).
        prefix: of the target's name in messages.

    Raises:
        UserError: nothing is that small.
    """
    kind, most = target
    image = image.to(device_of(model))
    asked = f"{prefix}{kind}={most}"
    costs = costs_of(kind, model, space, image)
    most = aimed = amount(kind, most, costs.whole)
    best = built(model, space, reached(costs, losses, aimed, asked), costs)
    if kind != "latency":
        return best
    seen: list[tuple[bool, float, Smaller]] = []
    for _ in range(TRIES):
        took = share_of_latency(best.model, model, image) * costs.whole
        off = took / most
        measured = replace(best, choice=replace(best.choice, cost=took))
        seen.append((off > 1 + CLOSE, abs(off - 1), measured))
        if abs(off - 1) < CLOSE or set(best.choice.chosen.values()) == {KEEP}:
            break
        aimed /= off
        best = built(model, space, reached(costs, losses, aimed, asked), costs)
    return min(seen, key=lambda each: each[:2])[2]


def built(model: nn.Module, space: Sequence[Choices], choice: Choice, costs: Costs) -> Smaller:
    """A copy of a network with the chosen alternatives in place."""
    copy = deepcopy(model)
    recipe: list[tuple[str, Change]] = []
    is_ours = True
    for choices in space:
        alternative = choices.alternatives[choice.chosen[choices.path]]
        if alternative.name == KEEP:
            continue
        put(copy, choices.path, deepcopy(alternative.module))
        if alternative.change is None:
            is_ours = False
        else:
            recipe.append((choices.path, alternative.change))
    return Smaller(copy.eval(), recipe if is_ours else None, choice, costs)


def restored(model: nn.Module, smaller: Smaller) -> Smaller:
    """A smaller network of the class of the whole one, whose pairs were gathered.

    Args:
        model: the whole network, as it was before.
        smaller: of its blocks and pairs, repaired or not.
    """
    if {name for name, _ in model.named_modules()}.issuperset(smaller.choice.chosen):
        return smaller  # it has blocks, and no pairs
    copy = deepcopy(model)
    for path in smaller.choice.chosen:
        pair = smaller.model.get_submodule(path)
        for name, layer in pair.named_modules():
            if mixes(layer) or apart(layer):
                put(copy, name, layer)
        copy.load_state_dict(pair.state_dict(), strict=False)  # of what else it holds
    recipe = smaller.recipe and [("", change) for _, change in smaller.recipe]
    return replace(smaller, model=copy.eval(), recipe=recipe)


def repair(model: nn.Module, smaller: Smaller, images: Tensor, steps: int, seed: int) -> None:
    """Let the blocks of the smaller network learn the features of the whole one, in order."""
    if steps:
        with progress("repairing blocks") as note:
            repair_all(model, smaller.model, smaller.choice.chosen, images, steps, seed, note)


@torch.no_grad()
def share_of_latency(smaller: nn.Module, model: nn.Module, image: Tensor) -> float:
    """How long one network takes, as a share of another, measured in turns."""
    nets = (smaller.eval(), model.eval())
    took = [milliseconds(partial(net, image), image.device) for _ in range(ROUNDS) for net in nets]
    pairs = [*zip(took[::2], took[1::2], strict=True)]
    return statistics.median(ours / theirs for ours, theirs in pairs[3:])


def told(smaller: Smaller) -> list[str]:
    """What was chosen, a line for each block that is changed and one for the whole."""
    costs, choice = smaller.costs, smaller.choice
    lines = [f"{path}: {name}" for path, name in choice.chosen.items() if name != KEEP]
    share = choice.cost / costs.whole
    device = costs.device and f" ({costs.device})"
    total = f"{shown(costs.kind, choice.cost)}{device}, {share:.1%} of the network's"
    return [*lines, f"{total}; predicted loss {choice.loss:.3g}"]


def keep(smaller: Smaller, scores: Scores, out: Path) -> None:
    """Write the choice, and what it was made from, into a folder."""
    facts = {"choice": asdict(smaller.choice), "costs": asdict(smaller.costs)}
    with writing_into(out):
        write_json(out / "choice.json", facts | asdict(scores))


@contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar; where the output is no terminal, nothing."""
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        row = bar.add_task(label)
        yield lambda done, of: bar.update(row, completed=done, total=of)


def _hash(model: nn.Module, space: Sequence[Choices], images: Tensor, steps: int, seed: int) -> str:
    """A number for all that scores depend on."""
    names = [(choices.path, [*choices.alternatives]) for choices in space]
    theirs = [weights_hash(a.module) for c in space for a in c.alternatives.values()]
    digest = hashlib.sha256(repr((str(model), weights_hash(model), names, theirs)).encode())
    digest.update(images.cpu().contiguous().numpy().tobytes())
    digest.update(repr((steps, seed if steps else None)).encode())
    return digest.hexdigest()[:16]
