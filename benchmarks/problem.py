"""What all variants train: the same networks on the same data by the same plan."""

from argparse import Namespace
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.transforms import v2

import cls_kd.front_end
import seg_kd.front_end
from cls_kd.transforms import default
from stagewise_kd.data.image_files import Size, sides
from stagewise_kd.data.preparing import SMALL
from stagewise_kd.data.samples import Part, Source
from stagewise_kd.methods.plan import Plan
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.runs.build import make_fitting, make_plan
from stagewise_kd.runs.composing import composing
from stagewise_kd.runs.config import resolved
from stagewise_kd.runs.front_end import FrontEnd, load_data
from stagewise_kd.system.names import Config
from stagewise_kd.training.setup import Setup

Networks = tuple[BlockNet, BlockNet]  # student and teacher


@dataclass(frozen=True)
class Problem:
    """Networks, data and stages, each stage of one term.

    Args:
        setup: the engine's view of it, with the default recipe.
        plan: five feature stages, then the rest on labels.
        plain: the train images one by one, as a loop without an engine loads them: float in [0, 1]
            (C, H, W) and label.
        views: augmented views that a cache holds.
    """

    setup: Setup
    plan: Plan
    plain: Dataset[Any]
    views: int

    @property
    def epochs(self) -> int:
        """Epochs of each stage."""
        return self.plan[0].epochs

    @property
    def batch(self) -> int:
        """Images of a step."""
        return self.setup.fitting.batch_size

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return len(self.plain) // self.batch  # type: ignore[arg-type]

    def networks(self) -> Networks:
        """Fresh copies of student and teacher, so that every run starts from the same weights."""
        student, teacher = deepcopy((self.setup.student, self.setup.teacher))
        device = self.setup.device
        return student.to(device).eval(), teacher.to(device).eval().requires_grad_(False)


class Plain(Dataset[Any]):
    """The samples of a part by number, transformed one by one."""

    def __init__(self, part: Part, transform: Callable[[Any, Any], tuple[Tensor, Any]]) -> None:
        self._part = part
        self._transform = transform

    def __len__(self) -> int:
        return len(self._part.names)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        return self._transform(self._part.images[index], self._part.labels[index])


def classification(args: Namespace, *overrides: str) -> Problem:
    """A ResNet from a larger one, on CIFAR-10 or random images."""
    config = _config("cls", args, *overrides)
    setup, plan, source = _made(cls_kd.front_end, config)
    augment = one_by_one(sides(args.size))

    def transform(image: Tensor, label: int) -> tuple[Tensor, int]:
        return augment(image).float() / 255, label

    part = source.train.take(setup.data.splits["train"])
    return Problem(setup, plan, Plain(part, transform), args.views)


def one_by_one(size: Size) -> nn.Module:
    """The default augmentation by torchvision's own transforms, which are faster on one image."""
    if max(size) > SMALL:
        return default(size)
    margin = [size[1] // 8, size[0] // 8]
    crop = v2.RandomCrop(size, padding=margin, padding_mode="reflect")
    return v2.Compose([crop, v2.RandomHorizontalFlip()])


def segmentation(args: Namespace) -> Problem:
    """A U-Net's encoder from a larger one, on CamVid or random frames."""
    config = _config("seg", args)
    setup, plan, source = _made(seg_kd.front_end, config)
    augment = instantiate(config["augment"])(args.size)

    def transform(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        pixels = np.ascontiguousarray(image.permute(1, 2, 0))
        found = augment(image=pixels, mask=mask.numpy())
        unit = torch.from_numpy(found["image"]).permute(2, 0, 1).float() / 255
        return unit, torch.from_numpy(found["mask"])

    part = source.train.take(setup.data.splits["train"])
    return Problem(setup, plan, Plain(part, transform), args.views)


def _made(front_end: FrontEnd, config: Config) -> tuple[Setup, Plan, Source]:
    """The networks, random but for a teacher's checkpoint, the data and the plan of a config."""
    torch.manual_seed(0)
    data, source = load_data(front_end, config)
    task = front_end.make_task(config, source)
    known = config["teacher"]["checkpoint"]
    teacher = (front_end.load_teacher if known else front_end.untrained_teacher)(config, source)
    student = front_end.make_student(config, source, teacher)
    plan = make_plan(front_end, config, task, student, teacher, data.shape)
    return Setup(student, teacher, task, data, make_fitting(config, {}, Path())), plan, source


def random_images(size: Sequence[int], count: int) -> Source:
    """Random images of ten classes."""
    names = [f"{index:06d}" for index in range(count)]
    labels = [index % 10 for index in range(count)]
    part = Part(names, _noise(count, 3, *size), labels)
    return Source([str(n) for n in range(10)], part, part.take(names[:10]))


def random_frames(size: Sequence[int], count: int) -> Source:
    """Random frames with random masks of eleven classes."""
    names = [f"{index:06d}" for index in range(count)]
    part = Part(names, _noise(count, 3, *size), _noise(count, *size) % 11)
    classes = [str(n) for n in range(11)]
    return Source(classes, part, part.take(names[:1]), blank=torch.zeros(*size))


def _noise(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8)


def _config(front_end: str, args: Namespace, *overrides: str) -> Config:
    """The front end's own config, so that what is measured is what it runs by default."""
    settings = {
        "student": args.student,
        "teacher": args.teacher,
        "data": "folder" if args.data == "random" else args.data,
        "data.root": args.root or "null",
        "data.size": f"[{args.size[0]},{args.size[1]}]",
        "data.fraction": args.fraction,
        "batch_size": args.batch,
        "epochs": args.epochs,
        "schedule": "sequential",  # as the published loop
        "workers": args.workers,
        "graft": "false",
        "trainer.accelerator": args.device,
    }
    with composing(front_end) as compose:
        composed = compose([*(f"{key}={value}" for key, value in settings.items()), *overrides])
    config = resolved(composed)
    if args.data == "random":
        made = {"cls": "random_images", "seg": "random_frames"}[front_end]
        source = {"_target_": f"{__name__}.{made}", "_partial_": True, "count": args.images}
        config["data"]["source"] = source
    return config
