"""What validating, recording and saving a stage of few images costs beside its steps.

python -m benchmarks.few_images --steps 2000 --images 100
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

import cls_kd
from stagewise_kd.data import pace
from stagewise_kd.methods.plan import Plan
from stagewise_kd.methods.stagewise import stagewise
from stagewise_kd.methods.task import Task
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.networks.resnet import resnet
from stagewise_kd.training.recorder import Recorder

VAL = 50
TRAINER = {"accelerator": "auto", "precision": "auto"}


def main() -> None:
    """Print a row for a validation a pass, and one for as few as the engine makes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--size", type=int, default=32)
    given = parser.parse_args()
    print("| validated | stage | s | of which steps | beside them |")
    print("|---|---|---|---|---|")
    for name, rounds in (("each pass", 10**9), ("as it is", pace.ROUNDS)):
        pace.ROUNDS = rounds
        with _timed() as stepping:
            stages = _run(given.steps, given.images, given.size)
        for stage in stages:
            spent, steps = stage["seconds"], stepping[stage["name"]]
            row = f"{name} | {stage['name']} | {spent:.1f} | {steps:.1f} | {spent / steps - 1:.1%}"
            print(f"| {row} |")


def layer1(task: Task, student: BlockNet, teacher: BlockNet, *, epochs: int) -> Plan:
    """One cheap stage, from cached features."""
    return stagewise(task, student, teacher, epochs=epochs, head="teacher")[1:2]


def _run(steps: int, images: int, size: int) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (images + VAL, 3, size, size), generator=generator)
    train, val = pictures.to(torch.uint8).split([images, VAL])
    torch.manual_seed(0)
    student, teacher = resnet("resnet10", 10), resnet("resnet18", 10)
    more = {"val": val, "steps": steps, "method": layer1, "trainer": TRAINER}
    run = cls_kd.distill(student, teacher, train, **more)
    stages: list[dict[str, Any]] = run.result["stages"]
    return stages


@contextmanager
def _timed() -> Iterator[dict[str, float]]:
    """Seconds of the steps of each stage, waiting for their batches included."""
    found: dict[str, float] = {}
    start = Recorder.on_train_batch_start
    end = Recorder.on_train_batch_end

    def begin(recorder: Recorder, *args: Any) -> None:
        start(recorder, *args)
        recorder.began = recorder._idle_since  # type: ignore[attr-defined]

    def stop(recorder: Recorder, trainer: Any, module: Any, *args: Any) -> None:
        end(recorder, trainer, module, *args)
        name = module.stage.name
        found[name] = found.get(name, 0.0) + time.perf_counter() - recorder.began  # type: ignore[attr-defined]

    Recorder.on_train_batch_start, Recorder.on_train_batch_end = begin, stop  # type: ignore[method-assign]
    try:
        yield found
    finally:
        Recorder.on_train_batch_start, Recorder.on_train_batch_end = start, end  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
