"""What a network costs: parameters, multiply-adds, latency."""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from stagewise_kd.networks.blocks import IMAGE, BlockNet

REPETITIONS = 20
WARM_UP = 3
LEAST = 5  # rounds, however long they take
FUSED = (
    torch.ops.aten._scaled_dot_product_flash_attention,
    torch.ops.aten._scaled_dot_product_efficient_attention,
    torch.ops.aten._scaled_dot_product_cudnn_attention,
)


def costs(nets: Mapping[str, BlockNet], shape: tuple[int, ...]) -> dict[str, Any]:
    """Cost of "student" and, where there is one, "teacher".

    Args:
        nets: on one device; put in eval mode.
        shape: channels, height and width of the image.

    Returns:
        For each what `cost` tells and "latency_ms", the median; with a teacher "latency_ratio", the
        student's by the teacher's, measured in turns.
    """
    took = latencies(nets, shape)
    found: dict[str, Any] = {
        name: cost(net, shape) | {"latency_ms": round(statistics.median(took[name]), 3)}
        for name, net in nets.items()
    }
    if "teacher" in took:
        rounds = zip(took["student"], took["teacher"], strict=True)
        ratio = statistics.median(ours / theirs for ours, theirs in rounds)
        found["latency_ratio"] = round(ratio, 4)
    return found


def cost(net: BlockNet, shape: tuple[int, ...]) -> dict[str, float]:
    """Parameters and multiply-adds of one image.

    Args:
        net: the network; put in eval mode.
        shape: channels, height and width of the image.

    Returns:
        "params" of the whole network, "macs" of its convolutions and linear layers.
    """
    net.eval()
    image = torch.zeros(1, *shape, device=net.mean.device)
    with torch.no_grad():
        net(image)  # the first time blocks are tried out, too
        counted = macs(partial(net, image))
    return {"params": params(net.model), "macs": counted}


def params(module: nn.Module) -> int:
    """How many numbers the parameters of a module have."""
    return sum(parameter.numel() for parameter in module.parameters())


def macs(run: Callable[[], Any]) -> int:
    """Multiply-adds of convolutions and linear layers in what a function computes."""
    with counting() as counter:
        run()
    return counter.get_total_flops() // 2


def counting() -> FlopCounterMode:
    """A context that counts the operations in it, as a sum over all modules.

    What fused attention multiplies is no layer's, and torch counts it on GPUs alone.
    """
    counter = FlopCounterMode(display=False, custom_mapping=dict.fromkeys(FUSED, _nothing))
    # not by module: the hooks that tell which one runs fail where a parameter is an argument
    tracker: Any = nullcontext()
    tracker.parents = {"Global"}
    counter.mod_tracker = tracker
    return counter


def _nothing(*shapes: Any, **more: Any) -> int:
    return 0


@torch.no_grad()
def block_costs(net: BlockNet) -> dict[str, dict[str, int]]:
    """Parameters and multiply-adds of each block for one image.

    Args:
        net: measured; put in eval mode.
    """
    net.eval()
    have = {IMAGE: torch.zeros(1, *net.shapes[IMAGE], device=net.mean.device)}
    found = {}
    for name, block in net.blocks.items():
        with counting() as counter:
            have |= net.features(have, {name})
        found[name] = {"params": params(block.module), "macs": counter.get_total_flops() // 2}
    return found


@torch.no_grad()
def latencies(nets: Mapping[str, BlockNet], shape: tuple[int, ...]) -> dict[str, list[float]]:
    """Milliseconds for single images, the networks in turn: a busy machine slows all of them alike.

    Args:
        nets: by name, on one device; put in eval mode.
        shape: channels, height and width of the image.

    Returns:
        20 figures of each network, those of one round at the same place.
    """
    image = torch.zeros(1, *shape, device=next(iter(nets.values())).mean.device)

    def run(net: BlockNet) -> None:
        net.eval()(image).sum().item()  # which waits for the device

    return in_turns({name: partial(run, net) for name, net in nets.items()})


def in_turns(
    runs: Mapping[str, Callable[[], object]], seconds: float = math.inf
) -> dict[str, list[float]]:
    """Milliseconds of functions that run in turn.

    Args:
        runs: by name.
        seconds: after which no further round begins, once there are five.

    Returns:
        20 figures of each, or fewer; those of one round at the same place.
    """
    found: dict[str, list[float]] = {name: [] for name in runs}
    began = time.perf_counter()
    for number in range(REPETITIONS + WARM_UP):
        if number >= WARM_UP + LEAST and time.perf_counter() - began > seconds:
            break
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            found[name].append(1000 * (time.perf_counter() - start))
    return {name: figures[WARM_UP:] for name, figures in found.items()}
