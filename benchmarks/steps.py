"""Seconds of a feature stage's training step: the published loop against the truncated one.

The published loop runs the whole student and the whole teacher at every step; ours runs both only
up to the block that trains. Both alternate in one process, so that the ratio holds on a noisy
machine. Data loading is not counted.

    python -m benchmarks.steps --student resnet10 --size 32 --batch 64
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from stagewise_kd.blocks import BlockNet
from stagewise_kd.losses import mse
from stagewise_kd.resnet import FEATURES, resnet


def main() -> None:
    """Print seconds and ratio of each stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--student", default="resnet10")
    parser.add_argument("--teacher", default="resnet34")
    parser.add_argument("--size", type=int, default=32, help="height and width in pixels")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    student, teacher = resnet(args.student, 10), resnet(args.teacher, 10).eval()
    image = torch.rand(args.batch, 3, args.size, args.size)
    image = image.contiguous(memory_format=torch.channels_last)
    table = Table("stage", "published ms", "truncated ms", "ratio")
    totals = [0.0, 0.0]
    for name in FEATURES:
        seconds = alternate(
            [step(student, teacher, image, name, whole) for whole in (True, False)], args.repeat
        )
        totals = [total + new for total, new in zip(totals, seconds, strict=True)]
        table.add_row(name, *row(seconds))
    table.add_row("all", *row(totals))
    Console().print(
        table, f"{args.student} from {args.teacher}, {args.batch}×{args.size}×{args.size}"
    )


def row(seconds: list[float]) -> list[str]:
    """Two times in milliseconds, and their ratio."""
    published, truncated = seconds
    return [f"{published * 1000:.1f}", f"{truncated * 1000:.1f}", f"{published / truncated:.2f}"]


def step(
    student: BlockNet, teacher: BlockNet, image: Tensor, name: str, whole: bool
) -> Callable[[], None]:
    """One training step of the stage of block `name`; `whole` runs all of both networks."""
    student.eval().requires_grad_(False)
    block = student.blocks[name].module
    optimizer = torch.optim.Adam(block.parameters(), lr=1e-4)
    until = {name, "logits"} if whole else {name}

    def run() -> None:
        student.requires_grad_(False)
        block.train().requires_grad_(True)
        with torch.no_grad():
            target = teacher.features({"image": image}, until)[name]
        loss = mse(student.features({"image": image}, until)[name], target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        block.eval()

    return run


def alternate(runs: list[Callable[[], None]], repeat: int) -> list[float]:
    """Median seconds of each function, called in turn after one warm-up."""
    seconds: list[list[float]] = [[] for _ in runs]
    for turn in range(repeat + 1):
        for taken, run in zip(seconds, runs, strict=True):
            start = time.perf_counter()
            run()
            if turn:
                taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in seconds]


if __name__ == "__main__":
    main()
