"""Test accuracy of one student that is distilled by the engine and by its peers.

python -m benchmarks.peers --cifar10 DIR --checkpoint FILE [--epochs 10] [--only WAY …]

Networks, images, augmentation, optimizer and its schedule are the same for all; the student starts
with random weights. `torchdistill` and the engine's `sequential` learn one feature after the other,
`modelopt` and the engine's `concurrent`, its default, all at once: `modelopt` in as many epochs as
a feature has, `modelopt-longer` in as many as they have together, as `concurrent`. The engine keeps
the best epoch of each stage by validation images, peers the last. Seconds are those of training and
validating. Prints a row each.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from benchmarks import modelopt_loop, torchdistill_loop
from benchmarks.loops import engine
from benchmarks.meter import Spent
from benchmarks.modelopt_loop import at_once
from benchmarks.problem import Networks, Problem, classification
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.training.score import scores

Train = Callable[[Problem, Networks], dict[str, Spent]]
WAYS = ("torchdistill", "modelopt", "modelopt-longer", "sequential", "concurrent")


def main() -> None:
    """Train by each way that is installed, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cifar10", dest="root", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True, help="of the teacher")
    parser.add_argument("--teacher", default="resnet34", help="of the student's widths")
    parser.add_argument("--student", default="resnet10")
    parser.add_argument("--fraction", type=float, default=0.25, help="of train; a tenth is val")
    parser.add_argument("--epochs", type=int, default=10, help="of each stage")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=WAYS, default=WAYS, metavar="WAY")
    usual = {"data": "cifar10", "size": [32, 32], "views": 4, "workers": 0, "device": "auto"}
    parser.set_defaults(**usual)
    args = parser.parse_args()
    make = partial(classification, args, f"teacher.checkpoint={args.checkpoint}")
    sequential, concurrent = (
        make(f"seed={args.seed}", f"schedule={schedule}")
        for schedule in ("sequential", "concurrent")
    )
    print(f"teacher: {accuracy(sequential, sequential.networks()[1]):.1%}")
    print("| way | epochs of features | seconds | test accuracy |")
    print("|---|---|---|---|")
    found = ways(sequential, concurrent)
    for way in args.only:
        torch.manual_seed(args.seed)
        told = row(*found[way]) if way in found else "not installed (extra `bench`) | – | –"
        print(f"| {way} | {told} |", flush=True)


def ways(sequential: Problem, concurrent: Problem) -> dict[str, tuple[Problem, Train]]:
    """What each way trains, and how; of those that are installed."""
    found: dict[str, tuple[Problem, Train]] = {}
    if torchdistill_loop.installed:
        found["torchdistill"] = sequential, partial(torchdistill_loop.torchdistill, epochs=None)
    if modelopt_loop.installed:
        lengths = {"modelopt": sequential.epochs, "modelopt-longer": concurrent.epochs}
        for way, epochs in lengths.items():
            joint = replace(sequential, plan=at_once(sequential.plan, epochs))
            found[way] = joint, partial(modelopt_loop.modelopt, epochs=None)
    train = partial(engine, cached=True)
    return found | {"sequential": (sequential, train), "concurrent": (concurrent, train)}


def row(problem: Problem, train: Train) -> str:
    """The figures of a student that is trained."""
    networks = problem.networks()
    seconds = sum(spent.seconds for spent in train(problem, networks).values())
    epochs = sum(stage.epochs for stage in problem.plan if not stage.sees_labels)
    return f"{epochs} | {seconds:.0f} | {accuracy(problem, networks[0]):.1%}"


def accuracy(problem: Problem, net: BlockNet) -> float:
    """Share of the test images that a network is right on."""
    setup = problem.setup
    return scores({"it": net.to(setup.device).eval()}, setup.data.test, setup)["it"]["accuracy"]


if __name__ == "__main__":
    main()
