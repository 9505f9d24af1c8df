"""Repair of changed blocks, one after the other, on the features of the whole network.

A block learns what the network gives at its place; where the next blocks are left out, what it
gives behind them.
"""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stagewise_kd.networks.shrunk import DROP, put
from stagewise_kd.sizing.alternatives import KEEP, Alternative, Choices
from stagewise_kd.sizing.calls import Call, device_of, joined, judging, recorded

BATCH = 64
LR = 1e-3


@torch.enable_grad()
def repaired(block: nn.Module, call: Call, steps: int, seed: int, lr: float = LR) -> nn.Module:
    """A copy of a block after some steps of Adam; normalization statistics stay.

    Args:
        block: what takes the place of the network's own.
        call: what it is called with, sample by sample, and what it should give; may lie elsewhere.
        steps: of Adam; 0 for none.
        seed: of the order.
        lr: the highest learning rate of a one-cycle schedule.
    """
    copy = judging(deepcopy(block))
    parameters = [p.requires_grad_() for p in copy.parameters()]
    if not steps or not parameters:
        return copy
    device = parameters[0].device
    count = len(call.output)
    scale = call.output.square().mean().clamp_min(1e-8).to(device)  # a dead block gives zeros
    draw = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(parameters, lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps + 1)
    for _ in range(steps):
        picked = torch.randperm(count, generator=draw)[:BATCH].to(call.output.device)
        some = call.mapped(lambda x, picked=picked: x[picked].to(device))  # type: ignore[misc]
        judging(copy)  # LeViT's kind of attention forgets what it has kept for eval mode
        loss = F.mse_loss(copy(*some.args, **some.kwargs), some.output) / scale
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return judging(copy)


def features(model: nn.Module, path: str, images: Tensor) -> Iterator[Call]:
    """What a block of a network is called with, and what it gives; batches, kept on the CPU."""
    for part in torch.split(images, BATCH):
        calls, _ = recorded(model, [path], part.to(device_of(model)))
        yield calls[path][0].mapped(Tensor.cpu)


def repair_alone(
    model: nn.Module, choices: Choices, images: Tensor, steps: int, seed: int
) -> Choices:
    """The alternatives of a block, repaired alone on what the whole network feeds the block."""
    call = joined(features(model, choices.path, images))
    found = {
        name: one
        if name == KEEP
        else Alternative(name, repaired(one.module, call, steps, seed), one.change)
        for name, one in choices.alternatives.items()
    }
    return Choices(choices.path, choices.call, found)


def repair_all(
    model: nn.Module,
    smaller: nn.Module,
    chosen: Mapping[str, str],
    images: Tensor,
    steps: int,
    seed: int,
    note: Callable[[int, int], None] = lambda done, of: None,
) -> None:
    """Repair the blocks of a smaller network in running order, each behind those repaired.

    Args:
        model: the whole network, from whose features they learn.
        smaller: the network with the alternatives in place; is changed.
        chosen: names of alternatives by path, in running order.
        images: as the network takes them, (N, C, H, W).
        steps: of Adam for each block.
        seed: of the order of images.
        note: is told how much is done, of how much.
    """
    targets = _targets(smaller, chosen, images[:2].to(device_of(model)))
    for done, (path, target) in enumerate(targets.items()):
        note(done, len(targets))
        given = joined(replace(call, output=None) for call in features(smaller, path, images))
        wanted = joined(Call((), {}, call.output) for call in features(model, target, images))
        call = replace(given, output=wanted.output)
        put(smaller, path, repaired(smaller.get_submodule(path), call, steps, seed))
        del given, wanted, call  # before those of the next block, which are as large
    note(len(targets), len(targets))


def _targets(smaller: nn.Module, chosen: Mapping[str, str], example: Tensor) -> dict[str, str]:
    """For each block from the first changed one on the block whose feature it learns."""
    calls, _ = recorded(smaller, [*chosen], example)
    found: dict[str, str] = {}
    last = ""
    for path, name in chosen.items():
        (call,) = calls[path]
        if name != DROP:
            last = found[path] = path
        elif last and call.tensors[0].equal(calls[found[last]][0].output):
            found[last] = path
    first = next((n for n, p in enumerate(found) if found[p] != p or chosen[p] != KEEP), len(found))
    return dict([*found.items()][first:])
