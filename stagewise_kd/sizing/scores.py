"""What each alternative of a block costs in accuracy, alone in the network, told without labels."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stagewise_kd.methods.losses import soft_cross_entropy
from stagewise_kd.networks.modes import forwards, modes_kept
from stagewise_kd.networks.outputs import logits_of
from stagewise_kd.sizing.alternatives import KEEP, Choices
from stagewise_kd.sizing.calls import device_of, judging, recorded
from stagewise_kd.system.files import read_json, write_json

BATCH = 50  # images of 224 by 224 pixels, or fewer larger ones, whose features are held at a time
divergence = partial(soft_cross_entropy, temperature=1.0)
Table = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Scores:
    """Of each alternative of each block, by path and name.

    Args:
        kl: divergence of the logits from the whole network's, a mean over images and pixels.
        error: of the block's feature: its squared distance from the network's, as a share.
    """

    kl: Table
    error: Table


def score(
    model: nn.Module,
    space: Sequence[Choices],
    images: Tensor,
    kept: Path | None = None,
    note: Callable[[int, int], None] = lambda done, of: None,
) -> Scores:
    """Score all alternatives, each alone in the network.

    What comes before the block gives what it gave in the whole network, and is not computed again.

    Args:
        model: the whole network; its modes stay as they are.
        space: its blocks and their alternatives, repaired or not.
        images: as the model takes them, (N, C, H, W).
        kept: a file in which the results are kept after each batch, and from which they go on.
        note: is told how much is done, of how much.
    """
    found = (read_json(kept) if kept else None) or {"images": 0, "sums": {}}
    sums: dict[str, dict[str, list[float]]] = found["sums"]
    size, device = batch_size(images), device_of(model)
    for start in range(found["images"], len(images), size):
        batch = images[start : start + size].to(device)
        note(start, len(images))
        with modes_kept(model), torch.no_grad():
            model.eval()
            for path, name, values in _of_batch(model, space, batch):
                before = sums.setdefault(path, {}).get(name, [0.0] * len(values))
                sums[path][name] = [a + b for a, b in zip(before, values, strict=True)]
        if kept:
            write_json(kept, {"images": start + len(batch), "sums": sums})
    note(len(images), len(images))
    return Scores(
        {p: {n: kl / len(images) for n, (kl, _, _) in row.items()} for p, row in sums.items()},
        {p: {n: off / max(of, 1e-12) for n, (_, off, of) in r.items()} for p, r in sums.items()},
    )


def batch_size(images: Tensor) -> int:
    """How many images (N, C, H, W) are computed at a time."""
    return max(1, min(BATCH, BATCH * 224**2 // (images.shape[2] * images.shape[3])))


def _of_batch(
    model: nn.Module, space: Sequence[Choices], images: Tensor
) -> Iterator[tuple[str, str, list[float]]]:
    """Path, name, and what is summed: divergence, squared error and square of the feature."""
    paths = [choices.path for choices in space]
    modules = {path: model.get_submodule(path) for path in paths}
    calls, logits = recorded(model, paths, images)
    known: dict[str, Callable[..., Any]] = {}
    for choices in space:
        (call,) = calls[choices.path]
        for name, alternative in choices.alternatives.items():
            if name == KEEP:
                yield choices.path, name, [0.0, 0.0, float(call.output.square().sum())]
                continue
            output = call.again(judging(alternative.module))
            away = float((output - call.output).square().sum())
            given = known | {choices.path: partial(_replayed, output)}
            with forwards({modules[path]: replay for path, replay in given.items()}):
                kl = float(divergence(logits_of(model(images)), logits)) * len(images)
            yield choices.path, name, [kl, away, float(call.output.square().sum())]
        known[choices.path] = partial(_replayed, call.output)


def _replayed(output: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """What was recorded; a copy, for the next module may write into it."""
    return output.clone()
