"""Which classes the labels of a split show."""

from collections.abc import Mapping, Sequence
from typing import Any

from stagewise_kd.data.loaders import Data
from stagewise_kd.data.own import Own
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


def classes_fit(known: Sequence[str], found: Sequence[str]) -> bool:
    """Whether data has the classes that a network knows; one that only counts them takes any names.

    Args:
        known: by the network, in order; numbers of a checkpoint that tells no names.
        found: in the data, in order.
    """
    counted = [*known] == [str(number) for number in range(len(known))]
    return [*found] == [*known] or (counted and len(found) == len(known))


def check_test_classes(root: str, known: Sequence[str], found: Sequence[str]) -> None:
    """Check that `data.test` has the classes of the teacher.

    Raises:
        UserError: they are others, or in another order.
    """
    if not classes_fit(known, found):
        raise UserError(
            f"data.test={root}: the classes are {listed(found)}, the teacher's {listed(known)}; "
            "name them as the teacher does, in its order"
        )


def check_any(data: Data, void: int | None) -> None:
    """See that there are labels to learn from, and to choose epochs by.

    Args:
        data: of a run that learns from labels. Samples of a user's own are read up to the first
            one that has any.
        void: stands for no label, in the masks of a user's own samples.

    Raises:
        UserError: all of train or of val is void.
    """
    splits = {"train": data.train, "val": data.val}
    if bare := [name for name, split in splits.items() if _is_void(name, split, data, void)]:
        raise UserError(
            f"{' and '.join(bare)}: no pixel has a label, all are void; see that `void` "
            "names no class, and that the masks are those of the images"
        )


def _is_void(name: str, split: Any, data: Data, void: int | None) -> bool:
    if name in data.counts:
        return not any(data.counts[name])
    if void is None or not isinstance(split, Own):
        return False
    return all(bool((split[number][1] == void).all()) for number in range(len(split)))
