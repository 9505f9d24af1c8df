"""Augmentations of uint8 images; each is a function of the size that they end in."""

from torch import nn
from torchvision.transforms import v2

from stagewise_kd.images import Size

SMALL = 96  # pixels: up to here a shifted crop is better than a rescaled one


def none(size: Size) -> nn.Module:
    """The image as it is validated."""
    return v2.CenterCrop(size)


def default(size: Size) -> nn.Module:
    """Random crop and horizontal flip: shifted by up to 1/8 of small images, rescaled on large."""
    if max(size) <= SMALL:
        # Mirrored, because black borders would shift the features that a student learns to match.
        margin = [size[1] // 8, size[0] // 8]
        crop: nn.Module = v2.RandomCrop(size, padding=margin, padding_mode="reflect")
    else:
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
            v2.RandomApply([v2.RandomAffine(degrees=10, scale=(1.0, 1.1))], p=0.75),
            v2.RandomPerspective(distortion_scale=0.2, p=0.75),
            v2.RandomApply([v2.ColorJitter(brightness=0.2, contrast=0.2)], p=0.75),
            v2.CenterCrop(size),
        ]
    )
