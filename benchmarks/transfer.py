"""A distilled student as the start on other classes, and as the encoder of a U-Net.

python -m benchmarks.transfer --cifar10 DIR --out DIR [--camvid DIR]

A student is distilled on five classes of CIFAR-10, then trained on a few images of the other five:
all of it, its head alone, and beside it the same network from scratch and the teacher that it
learned from. The folder of CIFAR-10 is one of class folders. Prints a table; a finished run is not
run again.
"""

import argparse
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

from stagewise_kd.system.files import read_json

CIFAR = "data=folder data.size=32 data.mean=[0.4914,0.4824,0.4467] data.std=[0.2471,0.2435,0.2616]"
CAMVID = "data=camvid data.size=[96,128]"
ALONE = "method=no_teacher"
HEAD = f"{ALONE} method.trains=head"


def main() -> None:
    """Run what is missing, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cifar10", type=Path, required=True)
    parser.add_argument("--camvid", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=1000, help="of a class in train and in test")
    parser.add_argument("--few", type=int, default=50, help="of a class of the other five in train")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=200, help="of the optimizer on the few")
    args = parser.parse_args()
    halves = link_halves(args.cifar10, args.out / "data", args.images)
    cifar = [f"cls_kd {CIFAR} data.root={half} epochs={args.epochs}" for half in halves]
    store = f"teacher.store={args.out / 'teachers'} teacher.epochs={args.epochs}"
    distilled = args.out / "distilled"
    taught = run(f"{cifar[0]} {store}", distilled)
    few = f"{cifar[1]} data.images={5 * args.few} steps={args.steps}"
    print_rows(few, args.out / "few", distilled, taught["teacher_checkpoint"])
    if args.camvid:
        streets = f"seg_kd {CAMVID} data.root={args.camvid} epochs={args.epochs}"
        print_rows(streets, args.out / "camvid", distilled, None)


def link_halves(root: Path, out: Path, images: int) -> list[Path]:
    """Two data sets of links, of the first classes and of the others; so many images of each."""
    halves = [out / "first", out / "second"]
    for split in ("train", "test"):
        classes = sorted(folder for folder in (root / split).iterdir() if folder.is_dir())
        for place, folder in enumerate(classes):
            there = halves[2 * place // len(classes)] / split / folder.name
            there.mkdir(parents=True, exist_ok=True)
            for path in islice(sorted(folder.iterdir()), images):
                if not (there / path.name).exists():
                    (there / path.name).symlink_to(path.absolute())
    return halves


def print_rows(base: str, out: Path, student: Path, teacher: str | None) -> None:
    """Run a student from scratch and from what there is, and print their figures."""
    settings = {
        "from scratch": f"student=resnet10 student.init=random {ALONE}",
        "distilled, finetuned": f"student=resnet10 student.init={student} {ALONE}",
        "distilled, head alone": f"student=resnet10 student.init={student} {HEAD}",
    }
    if teacher:
        settings |= {
            "teacher, finetuned": f"student=resnet34 student.init={teacher} {ALONE}",
            "teacher, head alone": f"student=resnet34 student.init={teacher} {HEAD}",
        }
    print("| start | test | seconds |\n|---|---|---|")
    for name, own in settings.items():
        result = run(f"{base} {own}", out / name.replace(", ", "-").replace(" ", "-"))
        score = result["student_metrics"][result["metric"]]
        print(f"| {name} | {score:.1%} | {result['seconds']:.0f} |", flush=True)


def run(command: str, out: Path) -> dict[str, Any]:
    """The result of a run, which is finished or run now."""
    module, *overrides = command.split()
    line = [sys.executable, "-m", module, "run", *overrides, f"out={out}"]
    subprocess.run(line, check=True, stdout=sys.stderr)
    result = read_json(out / "result.json")
    assert result is not None
    return result


if __name__ == "__main__":
    main()
