"""Accuracy at equal seconds: every way to train a student, at several budgets of time.

A short probe of each way tells its seconds an epoch; then each budget is filled with as many epochs
as fit. Ways that end in `finetune` spend half of the budget on it. Seconds are those of training
the student, filling the cache included. All ways start with the same weights: with the teacher's,
or with random ones. Finished runs are kept, so that the same command goes on.

    python -m benchmarks.frontier --root data/cifar10 --teacher resnet34.safetensors --out frontier
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from stagewise_kd.comparison.drawing import COLOURS, save
from stagewise_kd.comparison.runs import read_result
from stagewise_kd.methods.method import method_names
from stagewise_kd.system.files import write_text

PROBE = 2  # epochs of each stage
METHODS = {name: [f"method={name}"] for name in method_names() if name != "stagewise"}
SCHEDULES = {
    "sequential, uncached": ["schedule=sequential", "cache.budget_gb=0"],
    "sequential": ["schedule=sequential"],
    "concurrent": ["schedule=concurrent"],
}
WAYS = METHODS | SCHEDULES
USUAL = ["no_teacher", "hinton", *SCHEDULES]
FINETUNE = " + finetune"


def main() -> None:
    """Run what is missing, write table.csv and the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", required=True, help="CIFAR-10, as data.root")
    parser.add_argument("--teacher", required=True, help="checkpoint of a ResNet34")
    parser.add_argument("--student", default="resnet10")
    parser.add_argument("--init", choices=["teacher", "random"], default="teacher")
    parser.add_argument("--fraction", type=float, default=0.25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budgets", type=int, nargs="+", default=[60, 120, 240, 480])
    parser.add_argument("--ways", nargs="+", default=USUAL, choices=[*WAYS], metavar="WAY")
    parser.add_argument("--out", type=Path, default=Path("frontier"))
    args = parser.parse_args()
    common = [
        *("data=cifar10", f"data.root={args.root}", f"data.fraction={args.fraction}"),
        *(f"teacher.checkpoint={args.teacher}", f"student={args.student}", "graft=false"),
        *(f"student.init={args.init}", f"seed={args.seed}", "reuse=false"),
    ]
    rows = [
        row
        for way in args.ways
        for finetune in ((False, True) if way in SCHEDULES else (False,))
        for row in frontier(way, finetune, common, args.budgets, args.out)
    ]
    table = pd.DataFrame(rows)
    args.out.mkdir(parents=True, exist_ok=True)
    write_text(args.out / "table.csv", table.to_csv(index=False))
    save(draw(table), args.out / "frontier")
    print(table.to_string(index=False))


def frontier(
    way: str, finetune: bool, common: Sequence[str], budgets: Sequence[int], out: Path
) -> list[dict[str, object]]:
    """One row a budget: the way, its epochs, seconds and test accuracy."""
    name = way + FINETUNE * finetune
    tail = PROBE if finetune else 0
    probe = run([*common, *WAYS[way]], PROBE, tail, out / name / "probe")
    last = probe["stages"][-1]["seconds"] if finetune else 0
    rows = []
    for budget in budgets:
        share = budget / 2 if finetune else budget
        epochs = max(1, round(PROBE * share / (probe["seconds"] - last)))
        more = max(1, round(tail * share / last)) if finetune else 0
        found = run([*common, *WAYS[way]], epochs, more, out / name / str(budget))
        row = {"way": name, "budget": budget, "epochs": epochs, "finetune_epochs": more}
        rows.append(
            row | {"seconds": found["seconds"], "accuracy": found["student_metrics"]["accuracy"]}
        )
    return rows


def run(overrides: Sequence[str], epochs: int, finetune: int, out: Path) -> dict:
    """The result of one run, which is trained unless it is there."""
    more = [f"method.finetune_epochs={finetune}"] if finetune else []
    command = [sys.executable, "-m", "cls_kd", "run", *overrides, *more]
    subprocess.run([*command, f"epochs={epochs}", f"out={out}"], check=True)
    return read_result(out)


def draw(table: pd.DataFrame) -> Figure:
    """Accuracy over seconds, a line a way."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot(xlabel="seconds of training", ylabel="test accuracy", xscale="log")
    for index, (way, rows) in enumerate(table.groupby("way", sort=False)):
        dashes = ("-", "--")[index // len(COLOURS) % 2]
        colour = COLOURS[index % len(COLOURS)]
        axes.plot(rows["seconds"], rows["accuracy"], dashes, color=colour, marker="o", label=way)
    budgets = sorted(table["budget"].unique())
    axes.set_xticks(budgets, [str(budget) for budget in budgets])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(color="#e0e0e0")
    axes.legend(frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    main()
