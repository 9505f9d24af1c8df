"""From a data set to the splits that a run trains and is scored on."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset

from seg_kd.masks import VOID
from seg_kd.pairs import Part, load_unlabelled
from seg_kd.sources import Source
from seg_kd.transforms import A, none, padded
from stagewise_kd.data.image_files import Size
from stagewise_kd.data.loaders import Data, View
from stagewise_kd.data.splits import split_hash, take_fraction, train_and_val
from stagewise_kd.system.errors import UserError

Augment = Callable[[Size], A.Compose]


class Samples(Dataset[Any]):
    """Images and masks; with an augmentation it is indexed by `View`, else by number.

    A view depends on the seed, the epoch and the sample alone, so it is the same in every stage,
    whichever process draws it, and however often the run was interrupted.
    """

    def __init__(self, part: Part, transform: A.Compose, seed: int | None = None) -> None:
        self._part = part
        self._transform = transform
        self._seed = seed

    def __len__(self) -> int:
        return len(self._part.names)

    def __getitem__(self, key: View | int) -> tuple[Tensor, Tensor]:
        """An image (C, H, W) and its mask (H, W), both uint8."""
        if isinstance(key, View):
            # One generator for all steps: set_random_seed would give each step the same numbers,
            # so that every image that is flipped is changed in brightness too.
            seed = key.seed(self._seed)
            self._transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
            key = key.sample
        image = np.ascontiguousarray(self._part.images[key].permute(1, 2, 0))
        found = self._transform(image=image, mask=self._part.masks[key].numpy())
        return torch.from_numpy(found["image"]).permute(2, 0, 1), torch.from_numpy(found["mask"])


class Void:
    """Masks of images without labels."""

    def __init__(self, count: int, size: Size) -> None:
        self._count = count
        self._size = size

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Tensor:
        return torch.full(self._size, VOID, dtype=torch.uint8)


def make_data(
    source: Source,
    augment: Augment,
    *,
    fraction: float = 1.0,
    label_fraction: float = 1.0,
    seed: int = 0,
    val: int | None = None,
    view_seed: int = 0,
    splits: str | None = None,
    unlabelled: str | None = None,
    protocol: str = "holdout",
) -> Data:
    """Choose the images of each split.

    Args:
        source: the data set.
        augment: makes the transform of train images from their size.
        fraction: share of the train split that is used.
        label_fraction: share of those images whose masks are used; the others train the stages
            that see no label.
        seed: chooses the split.
        val: how many train images are held out, where the data set brings no val split; None for
            a tenth, at most 2,000.
        view_seed: chooses the augmented views.
        splits: folder with train.txt and val.txt, to be used instead of the seeded split.
        unlabelled: folder of further images, for the stages that see no label.
        protocol: "holdout" chooses epochs on a validation split; "paper" on the reported one.

    Raises:
        UserError: the options leave a split without images.
    """
    whole = source.train
    if not whole.names:
        raise UserError("the train split holds no images")
    train, cut = train_and_val(
        whole.names,
        [0] * len(whole.names),  # segmentation has no label an image
        source.val is not None,
        seed=seed,
        val=val,
        splits=splits,
        protocol=protocol,
    )
    taken = take_fraction(train, fraction, len(whole.names))
    labelled = take_fraction(taken, label_fraction, len(taken), "data.label_fraction")
    labels = whole.take(labelled)
    channels, height, width = whole.images[0].shape
    more = _without_masks(whole.take(taken[len(labelled) :]), unlabelled, channels, (height, width))
    parts = {
        "train": labels,
        "val": source.test if protocol == "paper" else source.val or whole.take(cut),
        "test": source.test,
        **({"images": _joined(labels, more)} if more.names else {}),
    }
    names = {split: part.names for split, part in parts.items()}
    views = {
        split: Samples(part, augment((height, width)), view_seed)
        if split in ("train", "images")
        else Samples(part, none((height, width)))
        for split, part in parts.items()
    }
    return Data(
        **views,
        shape=(channels, *padded((height, width))),
        split_hash=split_hash(names),
        splits=names,
    )


def _without_masks(rest: Part, unlabelled: str | None, channels: int, size: Size) -> Part:
    """The train images whose masks are not used, and those of a folder."""
    part = Part(rest.names, rest.images, Void(len(rest.names), size))
    if unlabelled is None:
        return part
    names, images = load_unlabelled(unlabelled, size, channels)
    return _joined(part, Part(names, images, Void(len(names), size)))


def _joined(first: Part, second: Part) -> Part:
    return Part(
        first.names + second.names,
        ConcatDataset([first.images, second.images]),
        ConcatDataset([first.masks, second.masks]),
    )
