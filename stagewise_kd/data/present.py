"""Which classes the labels of a split show."""

from collections.abc import Mapping, Sequence

from stagewise_kd.system.errors import UserError, listed


def absent_classes(counts: Mapping[str, Sequence[int]], classes: Sequence[str]) -> list[str]:
    """A line for each split that has no label of some classes.

    Args:
        counts: labels of each class, by split: images, or pixels of masks.
        classes: their names.
    """
    lines = []
    for split, found in counts.items():
        absent = [name for name, count in zip(classes, found, strict=True) if not count]
        if absent:
            if split == "train":
                end = "a student cannot learn what it is not shown"
            else:
                end = "its scores are over the others" if any(found) else "its scores say nothing"
            lines.append(
                f"{split} has no label of {listed(absent)} ({len(absent)} of {len(classes)} "
                f"classes; labels of the others: {sum(found):,}): {end}"
            )
    return lines


def check_any(counts: Mapping[str, Sequence[int]]) -> None:
    """See that there are labels to learn from, and to choose epochs by.

    Raises:
        UserError: all of train or of val is void.
    """
    if void := [split for split in ("train", "val") if split in counts and not any(counts[split])]:
        raise UserError(
            f"{' and '.join(void)}: no pixel has a label, all are void; see that `void` "
            "names no class, and that the masks are those of the images"
        )
