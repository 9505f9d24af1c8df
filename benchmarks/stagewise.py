"""Seconds of a stagewise run: the published loop, peers, the engine, and the limit.

All variants train the same networks on the same data for the same number of steps, in turn, in one
process, so that their ratios hold on a noisy machine. Graft scores are off.

    python -m benchmarks.stagewise --student resnet10 --size 32 --batch 64 --epochs 10
    python -m benchmarks.stagewise --data cifar10 --root DIR --fraction 0.25
    python -m benchmarks.stagewise --unet --data camvid --root DIR
"""

import argparse
import shlex
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import modelopt_loop, report, torchdistill_loop
from benchmarks.loops import MEASURED_EPOCHS, MIN_STEPS, engine, limit, published
from benchmarks.problem import Problem, classification, segmentation
from stagewise_kd.cli.guarding import guarded
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.files import write_json

SIZES = {False: [32, 32], True: [96, 128]}
BATCHES = {False: 64, True: 8}


def main() -> None:
    """Measure, print the table, write it as JSON."""
    args = parse(sys.argv[1:])
    found = measure(args, sys.argv[1:])
    report.print_tables(found)
    if args.json:
        write_json(args.json, found)


def parse(arguments: Sequence[str]) -> Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--student", default="resnet10")
    parser.add_argument("--teacher", default="resnet34", help="of the student's widths")
    parser.add_argument("--unet", action="store_true", help="a U-Net with these encoders")
    parser.add_argument("--size", type=int, nargs="+", help="pixels: one side, or height and width")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--epochs", type=int, default=10, help="of each stage")
    parser.add_argument("--views", type=int, default=2, help="that the cache holds")
    parser.add_argument("--data", default="random", help="random, cifar10, camvid or folder")
    parser.add_argument("--root", help="folder of the data set")
    parser.add_argument("--fraction", type=float, default=1.0, help="of the train split")
    parser.add_argument("--images", type=int, default=2000, help="of random data; a tenth is val")
    parser.add_argument("--workers", type=int, default=0, help="processes of every loader")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    left = ["a'", "b", "c", "f", "f'"]
    parser.add_argument("--skip", nargs="+", default=[], choices=left, help="variants")
    parser.add_argument("--repeat", type=int, default=3, help="of which the median is taken")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    args = parser.parse_args(arguments)
    size = args.size or SIZES[args.unet]
    args.size = size * 2 if len(size) == 1 else size
    args.batch = args.batch or BATCHES[args.unet]
    return args


def measure(args: Namespace, arguments: Sequence[str]) -> dict[str, Any]:
    """Run all variants in turn, as often as asked for; what `--json` writes."""
    problem = segmentation(args) if args.unet else classification(args)
    if not problem.steps:
        raise UserError(f"--batch {problem.batch}: more images than the train split has")
    chosen, notes = variants(problem)
    chosen = {name: chosen[name] for name in chosen if name not in args.skip}
    runs: report.Runs = {name: [] for name in chosen}
    for turn in range(args.repeat):
        for name, (label, run) in chosen.items():
            print(f"repetition {turn + 1}/{args.repeat}: {label}", file=sys.stderr)
            runs[name].append(run())
    described = report.machine(problem.setup.device)
    images = problem.steps * problem.batch * problem.epochs
    return {
        "title": title(args, problem),
        "command": shlex.join(["python", "-m", "benchmarks.stagewise", *arguments]),
        "machine": described,
        "settings": {key: value for key, value in vars(args).items() if key != "json"},
        "precision": problem.setup.fitting.precision,
        "variants": {name: label for name, (label, _) in chosen.items()},
        "figures": report.figures(runs, images, problem.plan),
        "caption": f"{report.describe(described)}. {caption(args)}",
        "notes": notes,
    }


def variants(problem: Problem) -> tuple[dict[str, tuple[str, Callable[[], Any]]], list[str]]:
    """Label and function of each variant by its letter, and what is left out and why."""
    precision = problem.setup.fitting.precision
    chosen = {"a": ("published, 32-true", partial(published, problem, "32-true"))}
    notes = []
    if precision == "32-true":
        notes.append("(a) once: float32 is the fastest precision here, and that of all others.")
    else:
        chosen["a'"] = (f"published, {precision}", partial(published, problem, precision))
    if torchdistill_loop.installed:
        run = partial(torchdistill_loop.torchdistill, problem)
        chosen["b"] = (f"torchdistill, {precision}", run)
    else:
        notes.append("(b) left out: torchdistill is not installed (extra `bench`).")
    chosen["c"] = (f"truncated, {precision}", partial(engine, problem, cached=False))
    chosen["d"] = (f"cached, {precision}", partial(engine, problem, cached=True))
    chosen["e"] = (f"limit, {precision}", partial(limit, problem))
    if modelopt_loop.installed:
        chosen["f"] = (f"modelopt, {precision}", partial(modelopt_loop.modelopt, problem))
        run = partial(modelopt_loop.modelopt_at_once, problem)
        chosen["f'"] = (f"modelopt, at once, {precision}", run)
        notes.append(
            "(f') learns all features in the epochs of one stage, told in equal parts: of the "
            "others' images it sees as many as one of their stages."
        )
    else:
        notes.append("(f) left out: nvidia-modelopt is not installed (extra `bench`).")
    return chosen, notes


def title(args: Namespace, problem: Problem) -> str:
    """What was trained."""
    kind = "U-Net encoder " if args.unet else ""
    stages, count = len(problem.plan), len(problem.plain)  # type: ignore[arg-type]
    return (
        f"{kind}{args.student} from {args.teacher}, {count:,} {args.data} images of "
        f"{args.size[0]}×{args.size[1]}, batch {problem.batch}, {stages} stages of "
        f"{problem.epochs} epochs"
    )


def caption(args: Namespace) -> str:
    """How the figures came about."""
    return (
        f"Medians of {args.repeat} repetitions, in turn. (a), (b) and (f) ran one epoch a stage, "
        f"(c) {min(args.epochs, MEASURED_EPOCHS)} and (e) the steps of one epoch, at least "
        f"{MIN_STEPS}; epochs of one kind are alike, so seconds are those times the number of "
        "epochs, set-up counted once. (d) ran all epochs, building the cache included; (e) counts "
        f"the inference passes of {args.views} views. All but (e) validate after every epoch. "
        "Memory is the growth of the resident set (on a GPU: the bytes allocated)."
    )


if __name__ == "__main__":
    sys.exit(guarded(main))
