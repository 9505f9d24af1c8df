"""How long student and teacher take, in each form that can be shipped, on this machine's CPU."""

import platform
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stagewise_kd.export.onnx_file import IMAGE, OnnxNet
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.networks.cost import in_turns

BATCHES = (1, 16)
SECONDS = 60  # for the rounds of one size of batch
Kind = tuple[str, str, str]  # network, runtime, precision


@dataclass(frozen=True)
class Timing:
    """Milliseconds that a batch takes: the median of its rounds, and the quartiles around it."""

    network: str
    runtime: str
    precision: str
    batch: int
    ms: float
    low: float
    high: float


@torch.no_grad()
def timings(nets: Mapping[Kind, BlockNet | OnnxNet], shape: Sequence[int]) -> list[Timing]:
    """The times of networks on the CPU, in turn: a busy machine slows all alike.

    Args:
        nets: by network, runtime and precision, of which torch's "bf16" is an autocast.
        shape: channels, height and width of an image.
    """
    found = []
    for batch in BATCHES:
        images = torch.zeros(batch, *shape)
        runs = {"/".join(kind): _run(net, kind[2], images) for kind, net in nets.items()}
        for kind, took in zip(nets, in_turns(runs, SECONDS).values(), strict=True):
            low, middle, high = (round(float(q), 3) for q in np.quantile(took, (0.25, 0.5, 0.75)))
            found.append(Timing(*kind, batch, middle, low, high))
    return found


def _run(net: BlockNet | OnnxNet, precision: str, images: Tensor) -> Callable[[], object]:
    """What is timed: the network alone, on images that are prepared."""
    if isinstance(net, OnnxNet):
        feed = {IMAGE: net.form.feed(images, net.mean, net.std).numpy()}
        return partial(net.session.run, None, feed)
    image = ((images - net.mean) / net.std).to(memory_format=torch.channels_last)

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            net.model(image)

    return run


def machine() -> str:
    """The CPU and how many of its threads are used."""
    name = platform.processor() or platform.machine()
    with suppress(OSError):  # Linux alone has it
        told = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text("utf-8"))
        name = told.group(1) if told else name
    threads = torch.get_num_threads()
    return f"{name}, {threads} thread{'s' * (threads > 1)}"
