"""Imagenette (Howard 2019, second release): 9,469 train and 3,925 val images, 10 easy classes.

    python data_scripts/imagenette.py --root DIR [--archive FILE] [--size full|320|160] [--seed 0]

Laid out as DIR/train/<wnid> and DIR/val/<wnid>. The split files divide train; val stays unseen, as
the test set. Checksums: those of torchvision.datasets.Imagenette.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

if not __package__:  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_scripts import Release, image_folders, run_script

BUCKET = "https://s3.amazonaws.com/fast-ai-imageclas"


def bucket_releases(
    checksums: dict[str, tuple[str, ...]], counts: dict[str, int]
) -> dict[str, tuple[Release, ...]]:
    """Releases in fast.ai's bucket, by size; checksums: of each file name without .tgz."""
    sizes: dict[str, tuple[Release, ...]] = {}
    for name, known in checksums.items():
        size = name.partition("-")[2] or "full"
        sizes[size] = (image_folders(name, f"{BUCKET}/{name}.tgz", known, counts, classes=10),)
    return sizes


SIZES = bucket_releases(
    {
        "imagenette2": ("md5:fe2fc210e6bb7c5664d602c3cd71e612",),
        "imagenette2-320": ("md5:3df6f0d01a2c9592104656642f5e78a3",),
        "imagenette2-160": ("md5:e793b78cc4c9e9a4ccc0c1155377a412",),
    },
    {"train": 9469, "val": 3925},
)


def main(argv: Sequence[str] | None = None, sizes: Mapping[str, Sequence[Release]] = SIZES) -> int:
    """Run the script; returns the exit status."""
    return run_script(__doc__, sizes, argv)


if __name__ == "__main__":
    sys.exit(main())
