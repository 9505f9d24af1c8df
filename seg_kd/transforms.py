"""Augmentations of uint8 images and their masks; each is a function of the size they end in.

All end in padding to a multiple of 32 at the bottom and right, as networks need it. Masks are
scaled by nearest neighbour, and their padding is void, so that losses and metrics leave it out.
"""

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import cv2
import numpy as np
import torch

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would ask a server
import albumentations as A
from numpy.typing import NDArray
from torch import Tensor

from seg_kd.masks import VOID
from stagewise_kd.data.image_files import Size
from stagewise_kd.data.preparing import STRIDE
from stagewise_kd.data.samples import Sample

cv2.setNumThreads(0)  # its threads only wait for each other beside those of the loader and torch

Pixels = NDArray[np.uint8]


class MirrorPad(A.PadIfNeeded):
    """Mirrors an image at its border: black ones would move the features that a student matches."""

    def apply(
        self,
        img: Pixels,
        pad_top: int,
        pad_bottom: int,
        pad_left: int,
        pad_right: int,
        **params: Any,
    ) -> Pixels:
        """Pad an image (H, W, C)."""
        return np.pad(img, ((pad_top, pad_bottom), (pad_left, pad_right), (0, 0)), "reflect")


class Tint(A.HueSaturationValue):
    """Hue and saturation of the colours alone: a fourth channel stays, grey images do too."""

    def apply(
        self, img: Pixels, hue_shift: int, sat_shift: int, val_shift: int, **params: Any
    ) -> Pixels:
        """Change an image (H, W, C)."""
        if img.shape[2] < 3:
            return img
        colours = super().apply(
            np.ascontiguousarray(img[..., :3]), hue_shift, sat_shift, val_shift, **params
        )
        return np.concatenate([colours, img[..., 3:]], axis=2)


@dataclass(frozen=True)
class OfSamples:
    """A transform of an image and its mask as one of samples."""

    transform: A.Compose

    def __call__(self, samples: Sequence[Sample], seeds: Sequence[int]) -> list[Sample]:
        """The samples transformed, each by its seed where there are any."""
        return [self._one(image, mask, seed) for (image, mask), seed in zip_longest(samples, seeds)]

    def _one(self, image: Tensor, mask: Tensor, seed: int | None) -> Sample:
        if seed is not None:
            # One generator for all steps: set_random_seed would give each step the same numbers,
            # so that every image that is flipped is changed in brightness too.
            self.transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
        pixels = np.ascontiguousarray(image.permute(1, 2, 0))
        found = self.transform(image=pixels, mask=mask.numpy())
        return torch.from_numpy(found["image"]).permute(2, 0, 1), torch.from_numpy(found["mask"])


def padded(size: Size) -> Size:
    """Height and width that an image has at the end."""
    return size[0] + -size[0] % STRIDE, size[1] + -size[1] % STRIDE


def none(size: Size) -> A.Compose:
    """The image as it is validated."""
    return _ending([], size)


def light(size: Size) -> A.Compose:
    """Horizontal flip, scale by 0.75 to 1.5, exposure by 0.8 to 1.2."""
    # Multiplied as light is; added to all pixels, it cost 3 points of mIoU on CamVid's test split.
    exposure = A.RandomBrightnessContrast(brightness_limit=0, contrast_limit=0.2, p=1)
    return _ending([*_flip_and_scale(size), exposure], size)


def strong(size: Size) -> A.Compose:
    """The light one, with rotation, shear, hue, saturation, gamma, blur and noise."""
    return _ending(
        [
            A.Affine(
                rotate=(-10, 10),
                shear=(-5, 5),
                mask_interpolation=cv2.INTER_NEAREST,
                fill_mask=VOID,
                p=0.5,
            ),
            *_flip_and_scale(size),
            A.RandomBrightnessContrast(p=0.5),
            Tint(p=0.5),
            A.RandomGamma(p=0.3),
            A.OneOf([A.GaussianBlur(), A.GaussNoise(std_range=(0.02, 0.1))], p=0.3),
        ],
        size,
    )


def _flip_and_scale(size: Size) -> list[A.BasicTransform]:
    height, width = size
    return [
        A.HorizontalFlip(p=0.5),
        A.RandomScale(
            (-0.25, 0.5), mask_interpolation=cv2.INTER_NEAREST, area_for_downscale="image", p=1
        ),
        MirrorPad(height, width, position="random", fill_mask=VOID),
        A.RandomCrop(height, width),
    ]


def _ending(steps: list[A.BasicTransform], size: Size) -> A.Compose:
    end = A.PadIfNeeded(*padded(size), position="top_left", fill=0, fill_mask=VOID)
    return A.Compose([*steps, end])
