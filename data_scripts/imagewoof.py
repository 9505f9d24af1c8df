"""Imagewoof (Howard 2019, second release): 9,025 train and 3,929 val images, 10 dog breeds.

    python data_scripts/imagewoof.py --root DIR [--archive FILE] [--size full|320|160] [--seed 0]

Laid out as DIR/train/<wnid> and DIR/val/<wnid>. The split files divide train; val stays unseen, as
the test set. The publisher lists no checksums of whole files. Two packings are known: one by MD5s
that public data loaders share, one by the SHA-256s of TensorFlow Datasets.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

if not __package__:  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_scripts import Release, run_script
from data_scripts.imagenette import bucket_releases

SIZES = bucket_releases(
    {
        "imagewoof2": (
            "md5:9aafe18bcdb1632c4249a76c458465ba",
            "sha256:d6f2ffc7b95663f7701b94cea32db1683b9a50dd389382c7cca024e840af0379",
        ),
        "imagewoof2-320": (
            "md5:0f46d997ec2264e97609196c95897a44",
            "sha256:4e4905ed7643120daaf9bf3b2ef7f3a7e8396d9bdaf254a38c6f01f618b4973d",
        ),
        "imagewoof2-160": (
            "md5:3d200a7be99704a0d7509be2a9fbfe15",
            "sha256:663c22f69c2802d85e2a67103c017e047096702ffddf9149a14011b7002539bf",
        ),
    },
    {"train": 9025, "val": 3929},
)


def main(argv: Sequence[str] | None = None, sizes: Mapping[str, Sequence[Release]] = SIZES) -> int:
    """Run the script; returns the exit status."""
    return run_script(__doc__, sizes, argv)


if __name__ == "__main__":
    sys.exit(main())
