"""From a data set to the splits that a run trains and is scored on."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils.data import Dataset

from cls_kd.sources import Part, Source
from cls_kd.transforms import augmented, none
from stagewise_kd.data.image_files import Size
from stagewise_kd.data.loaders import Data, View
from stagewise_kd.data.splits import split_hash, take_fraction, train_and_val
from stagewise_kd.system.errors import UserError

Augment = Callable[[Size], nn.Module]


class Samples(Dataset[Any]):
    """Images and labels; with an augmentation it is indexed by `View`, else by number.

    A view depends on the seed, the epoch and the sample alone, so it is the same in every stage,
    whichever process draws it, and however often the run was interrupted.
    """

    def __init__(self, part: Part, transform: nn.Module, seed: int | None = None) -> None:
        self._images = part.images
        self._labels = part.labels
        self._transform = transform
        self._seed = seed

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, key: View | int) -> tuple[Tensor, int]:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[View | int]) -> list[tuple[Tensor, int]]:
        numbers = [key.sample if isinstance(key, View) else key for key in keys]
        images = [self._images[number] for number in numbers]
        seeds = [key.seed(self._seed) for key in keys if isinstance(key, View)]
        changed = (
            augmented(self._transform, images, seeds) if seeds else map(self._transform, images)
        )
        return list(zip(changed, [self._labels[number] for number in numbers], strict=True))


def make_data(
    source: Source,
    size: Size,
    augment: Augment,
    *,
    fraction: float = 1.0,
    seed: int = 0,
    val: int | None = None,
    view_seed: int = 0,
    splits: str | None = None,
    rest_as_test: bool = False,
    protocol: str = "holdout",
) -> Data:
    """Choose the images of each split.

    Args:
        source: the data set.
        size: height and width that networks get.
        augment: makes the transform of train images.
        fraction: share of the train split that is used, class-balanced.
        seed: chooses the split.
        val: how many train images are held out, where the data set brings no val split; None for
            a tenth, at most 2,000.
        view_seed: chooses the augmented views.
        splits: folder with train.txt and val.txt, to be used instead of the seeded split.
        rest_as_test: report on the part of train that is not used, as published for 25 % data.
        protocol: "holdout" chooses epochs on a validation split; "paper" on the reported one.

    Raises:
        UserError: the options leave a split without images.
    """
    train, cut = train_and_val(
        source.train.names,
        source.train.labels,
        source.val is not None,
        seed=seed,
        val=val,
        splits=splits,
        protocol=protocol,
    )
    held_out = source.val or source.train.take(cut)
    taken = take_fraction(train, fraction, len(source.train.names))
    test = source.test
    if rest_as_test:
        test = source.train.take(sorted(train[len(taken) :]))
        if not test.names:
            raise UserError("data.rest_as_test=true: nothing of train is left; lower data.fraction")
    parts = {
        "train": source.train.take(taken),
        "val": test if protocol == "paper" else held_out,
        "test": test,
    }
    names = {split: part.names for split, part in parts.items()}
    whole = none(size)
    return Data(
        train=Samples(parts["train"], augment(size), view_seed),
        val=Samples(parts["val"], whole),
        test=Samples(parts["test"], whole),
        shape=(3, *size),
        split_hash=split_hash(names),
        splits=names,
    )
