"""From a data set to the splits that a run trains and is scored on."""

from collections.abc import Mapping

from stagewise_kd.data.loaders import Data
from stagewise_kd.data.reading import read_files
from stagewise_kd.data.samples import Part, Samples, Source, Transform
from stagewise_kd.data.splits import (
    few,
    split_hash,
    take_fraction,
    train_and_val,
    val_count,
    with_every_class,
)
from stagewise_kd.system.errors import UserError, listed


def make_data(
    source: Source,
    augment: Transform,
    whole: Transform,
    *,
    fraction: float = 1.0,
    images: int | None = None,
    label_fraction: float = 1.0,
    seed: int = 0,
    val: int | None = None,
    view_seed: int = 0,
    splits: str | None = None,
    unlabelled: Part | None = None,
    rest_as_test: bool = False,
    protocol: str = "holdout",
) -> Data:
    """Choose the images of each split.

    Args:
        source: the data set.
        augment: of train images.
        whole: of the others: as they are validated.
        fraction: share of the train split that is used, class-balanced, at least one of each class.
        images: instead of a fraction so many, in the proportions of the classes, those that are
            held out for validation among them.
        label_fraction: share of those images whose labels are used; the others train the stages
            that see no label.
        seed: chooses the split.
        val: how many train images are held out, where the data set brings no val split; None for
            a tenth, at most 2,000.
        view_seed: chooses the augmented views.
        splits: folder with train.txt and val.txt, to be used instead of the seeded split.
        unlabelled: further images, for the stages that see no label.
        rest_as_test: report on the part of train that is not used, as published for 25 % data.
        protocol: "holdout" chooses epochs on a validation split; "paper" on the reported one.

    Raises:
        UserError: the options leave a split without images.
    """
    every = source.train
    if not every.names:
        raise UserError("the train split holds no images")
    if images is not None:
        if splits is not None or fraction != 1:
            raise UserError(f"data.images={images}: leave out data.fraction and data.splits")
        every = every.take(few(every.names, every.groups, images, seed))
        val = max(1, val_count(images)) if val is None else val
    groups = every.groups
    if images is not None and len({*groups}) == len(groups):  # any held out is its class's last
        groups = [0] * len(groups)
    train, cut = train_and_val(
        every.names,
        groups,
        source.val is not None,
        seed=seed,
        val=val,
        splits=splits,
        protocol=protocol,
    )
    kinds = dict(zip(every.names, every.groups, strict=True))
    if splits is not None and (lost := {*kinds.values()} - {kinds[name] for name in train}):
        told = listed([source.classes[kind] for kind in sorted(lost)])
        raise UserError(f"{splits}/train.txt: lists no image of {told}; add some of each class")
    taken = with_every_class(take_fraction(train, fraction, len(every.names)), train, kinds)
    labels = take_fraction(taken, label_fraction, len(taken), "data.label_fraction")
    labelled = with_every_class(labels, taken, kinds)
    test = source.test
    if rest_as_test:
        used = {*taken, *cut}
        test = source.train.take(sorted(name for name in source.train.names if name not in used))
        if not test.names:
            raise UserError("data.rest_as_test=true: nothing of train is left; lower data.fraction")
    parts = {
        "train": every.take(labelled),
        "val": test if protocol == "paper" else source.val or every.take(cut),
        "test": test,
    }
    known = {*labelled}
    rest = [name for name in taken if name not in known]
    more = _without_labels(source, rest, unlabelled)
    if more.names:
        parts["images"] = parts["train"] + more
    if not test.names:
        del parts["test"]
    read_files(part.images for part in parts.values())
    names = {split: part.names for split, part in parts.items()}
    views = {
        split: Samples(part, augment, view_seed)
        if split in ("train", "images")
        else Samples(part, whole)
        for split, part in parts.items()
    }
    return Data(
        views["train"],
        views["val"],
        views.get("test", views["val"]),
        tuple(views["val"][0][0].shape),
        split_hash(names),
        names,
        views.get("images"),
        labelled=source.labelled,
        tested=bool(test.names),
        counts=_counts(source, parts),
    )


def scored_alone(source: Source, whole: Transform) -> Data:
    """The split that is reported, of a data set without train; it stands for the others too."""
    read_files([source.test.images])
    samples, names = Samples(source.test, whole), {"test": source.test.names}
    counts = _counts(source, {"test": source.test}) if source.labelled else {}
    return Data(
        samples,
        samples,
        samples,
        tuple(samples[0][0].shape),
        split_hash(names),
        names,
        labelled=source.labelled,
        counts=counts,
    )


def _counts(source: Source, parts: Mapping[str, Part]) -> dict[str, list[int]]:
    """Labels of each class in the splits that have them."""
    having = [split for split in parts if split != "images"] if source.labelled else ["test"]
    labelled = {split: parts[split] for split in having if split in parts}
    found = {split: part.counts(len(source.classes)) for split, part in labelled.items()}
    return {split: counts for split, counts in found.items() if counts}


def _without_labels(source: Source, rest: list[str], unlabelled: Part | None) -> Part:
    """The train images whose labels are not used, and further ones."""
    part = source.unlabelled(rest, source.train.take(rest).images)
    return part if unlabelled is None else part + unlabelled
