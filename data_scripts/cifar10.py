"""CIFAR-10 (Krizhevsky 2009): 50,000 train and 10,000 test images, 32x32, 10 classes.

    python data_scripts/cifar10.py --root DIR [--archive FILE] [--seed 0]

Two archives are known by their checksums:

- the public cifar-10-python.tar.gz (170 MB, downloaded without --archive): laid out as
  DIR/cifar-10-batches-py, as torchvision reads it. Split files name the images train/00000 to
  train/49999, in torchvision's order.
- a JPEG copy with folders cifar10/{train,test}/<class>/: laid out as DIR/train and DIR/test.
"""

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from torchvision.datasets import CIFAR10

if not __package__:  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_scripts import Release, cut_train, image_folders, run_script


def batches(url: str, checksums: tuple[str, ...], dataset: type[CIFAR10] = CIFAR10) -> Release:
    """The release that torchvision reads with `dataset`."""
    return Release(
        "cifar10 (python batches)",
        url,
        checksums,
        (dataset.base_folder,),
        partial(batches_fault, dataset=dataset),
        partial(cut_train, train=partial(batches_train, dataset=dataset)),
    )


def batches_fault(root: Path, folder: str, dataset: type[CIFAR10]) -> str:
    """What torchvision finds wrong with the batches, or ""."""
    try:
        dataset(root, train=False)
    except RuntimeError:
        return "fails torchvision's integrity check: files are missing or damaged"
    return ""


def batches_train(root: Path, dataset: type[CIFAR10]) -> tuple[list[str], list[int]]:
    """Names train/<index> and class indices, in torchvision's order."""
    labels = dataset(root, train=True).targets
    return [f"train/{index:05d}" for index in range(len(labels))], labels


RELEASES = (
    batches(
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        ("md5:c58f30108f718f92721af3b95e74349a",),
    ),
    image_folders(
        "cifar10 (image folders)",
        None,
        ("sha256:0c4cc195541c967cb5ae7915a625001aa2c6485aa2c9070de2ca3bb1be48e9af",),
        {"train": 50_000, "test": 10_000},
        classes=10,
    ),
)


def main(
    argv: Sequence[str] | None = None,
    sizes: Mapping[str, Sequence[Release]] = {"full": RELEASES},
) -> int:
    """Run the script; returns the exit status."""
    return run_script(__doc__, sizes, argv)


if __name__ == "__main__":
    sys.exit(main())
