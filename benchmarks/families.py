"""Stagewise distillation across families of networks, at equal seconds of training.

python -m benchmarks.families --cifar10 DIR --camvid DIR --out DIR [--seconds 120] [--only NAME …]

Each pair runs three methods for about as many seconds: a run of one epoch tells how many epochs
fit, feature caches and all; baselines get the seconds that stagewise distillation took. Teachers
are trained by the first run, or taken from --teachers, a folder of checkpoints NAME. Prints a table
of the runs; a finished run is not run again.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from stagewise_kd.comparison.report import print_runs
from stagewise_kd.system.files import read_json

# without bfloat16, in which these networks take up to twice as long on a CPU
CIFAR = "cls data=cifar10 data.fraction=0.1 trainer.precision=32-true"
CAMVID = "seg data=camvid data.size=[96,128] trainer.precision=32-true"
PAIRS = {
    "efficientnet": f"{CIFAR} data.size=32 teacher=timm/efficientnet_b0 "
    "student=timm/mobilenetv3_small_100",
    "convnext": f"{CIFAR} data.size=64 teacher=timm/convnext_atto student=timm/convnext_atto "
    "student.arguments.depths=[1,1,4,2]",
    "resnet": f"{CIFAR} teacher=resnet34 student=timm/mobilenetv2_100",
    "vit": f"{CIFAR} data.size=64 teacher=timm/vit_tiny_patch16_224 "
    "student=timm/vit_tiny_patch16_224 student.arguments.depth=6",
    "fpn": f"{CAMVID} model=fpn teacher=smp/efficientnet-b0 student=smp/timm-mobilenetv3_small_100",
    "deeplab": f"{CAMVID} model=deeplabv3plus teacher=resnet34 student=resnet10",
}
METHODS = ("stagewise", "no_teacher", "hinton")


def main() -> None:
    """Run what is missing, and print a table for each pair."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("cifar10", "camvid", "teachers", "out"):
        parser.add_argument(f"--{name}", type=Path, required=name == "out")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--only", nargs="+", choices=list(PAIRS), default=list(PAIRS))
    args = parser.parse_args()
    for pair in args.only:
        front_end, *overrides = PAIRS[pair].split()
        root = args.cifar10 if front_end == "cls" else args.camvid
        own = [*args.teachers.glob(f"{pair}*")] if args.teachers else []
        taught = [f"teacher.checkpoint={own[0].absolute()}"] if own else []
        base = [f"{front_end}_kd", *overrides, f"data.root={root}", *taught]
        seconds = args.seconds
        for method in METHODS:
            seconds = timed(base, method, args.out / pair, seconds)
        print_runs([args.out / pair / method for method in METHODS])


def timed(base: list[str], method: str, out: Path, seconds: float) -> float:
    """Train by a method for about so many seconds, at least an epoch; the seconds that it took."""
    command = [*base, f"method={method}", "reuse=false"]
    epoch = run([*command, "epochs=1"], out / f"{method}-1")
    return run([*command, f"epochs={max(1, round(seconds / epoch))}"], out / method)


def run(command: list[str], out: Path) -> float:
    """Seconds of training of a run, which is finished or run now."""
    module, *overrides = command
    subprocess.run([sys.executable, "-m", module, "run", *overrides, f"out={out}"], check=True)
    result = read_json(out / "result.json")
    assert result is not None
    return float(result["seconds"])


if __name__ == "__main__":
    main()
