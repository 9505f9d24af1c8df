"""Augmentations of uint8 images; each is a function of the size that they end in."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from stagewise_kd.data.image_files import Size
from stagewise_kd.data.preparing import SMALL
from stagewise_kd.data.samples import Sample


class ShiftFlip(nn.Module):
    """A crop shifted by up to 1/8 of the size, and a horizontal flip; whole batches at once.

    The border is mirrored: a black one would shift the features that a student learns to match.
    """

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size

    def forward(self, image: Tensor) -> Tensor:
        """Augment one image (C, H, W) by a draw from torch's generator."""
        (found,) = self.batch([image], torch.randint(2**62, (1,)).tolist())
        return found

    def batch(self, images: Sequence[Tensor], seeds: Sequence[int]) -> Iterable[Tensor]:
        """Augment images (C, H, W), each by its own seed."""
        if len({image.shape for image in images}) > 1:
            pairs = zip(images, seeds, strict=True)
            return [one for image, seed in pairs for one in self.batch([image], [seed])]
        draws = [random.Random(seed) for seed in seeds]
        rows, columns = (
            self._places(draws, *sides)
            for sides in zip(images[0].shape[1:], self.size, strict=True)
        )
        flip = torch.tensor([draw.random() < 0.5 for draw in draws])
        columns = torch.where(flip[:, None], columns.flip(1), columns)
        number, channel = torch.arange(len(images)), torch.arange(len(images[0]))
        return torch.stack(list(images))[
            number[:, None, None, None],
            channel[:, None, None],
            rows[:, None, :, None],
            columns[:, None, None, :],
        ]

    @staticmethod
    def _places(draws: Sequence[random.Random], side: int, wanted: int) -> Tensor:
        """The rows or columns (B, wanted) that are taken, mirrored where they lie outside."""
        margin = wanted // 8
        starts = [draw.randint(-margin, side + margin - wanted) for draw in draws]
        places = (torch.tensor(starts)[:, None] + torch.arange(wanted)).abs()
        return torch.where(places < side, places, 2 * (side - 1) - places)


@dataclass(frozen=True)
class OfSamples:
    """A transform of images as one of samples: augmented by their seeds, or as it is without."""

    transform: nn.Module

    def __call__(self, samples: Sequence[Sample], seeds: Sequence[int]) -> list[Sample]:
        """The samples with their images transformed."""
        images = [image for image, _ in samples]
        found = augmented(self.transform, images, seeds) if seeds else map(self.transform, images)
        return list(zip(found, (label for _, label in samples), strict=True))


def augmented(
    transform: nn.Module, images: Sequence[Tensor], seeds: Sequence[int]
) -> Iterable[Tensor]:
    """Augment images (C, H, W), each by its own seed, whatever was drawn before."""
    if isinstance(transform, ShiftFlip):
        return transform.batch(images, seeds)
    found = []
    with torch.random.fork_rng(devices=[]):
        for image, seed in zip(images, seeds, strict=True):
            torch.default_generator.manual_seed(seed)
            found.append(transform(image))
    return found


def none(size: Size) -> nn.Module:
    """The image as it is validated."""
    return v2.CenterCrop(size)


def default(size: Size) -> nn.Module:
    """Random crop and horizontal flip: shifted by up to 1/8 of small images, rescaled on large."""
    if max(size) <= SMALL:
        return ShiftFlip(size)
    crop = v2.RandomResizedCrop(size, scale=(0.5, 1.0), antialias=True)
    return v2.Compose([crop, v2.RandomHorizontalFlip()])


def strong(size: Size) -> nn.Module:
    """The default, TrivialAugment and random erasing, for long training on few images."""
    return v2.Compose([default(size), v2.TrivialAugmentWide(), v2.RandomErasing(p=0.25)])


def paper(size: Size) -> nn.Module:
    """Small rotation, zoom, warp and lighting, no flip, as in the published experiments.

    The defaults of fastai v1's `get_transforms(do_flip=False)`: each of the geometric and of the
    lighting changes with probability 0.75.
    """
    return v2.Compose(
        [
            v2.RandomApply([v2.RandomAffine(degrees=[-10, 10], scale=(1.0, 1.1))], p=0.75),
            v2.RandomPerspective(distortion_scale=0.2, p=0.75),
            v2.RandomApply([v2.ColorJitter(brightness=0.2, contrast=0.2)], p=0.75),
            v2.CenterCrop(size),
        ]
    )
