"""What classification brings to the skeleton of a run: see `stagewise_kd.runs.front_end`."""

from typing import Any

import torch
from hydra.utils import instantiate

from cls_kd import teacher as teacher_module
from cls_kd.class_folders import load_folder
from cls_kd.networks import make_network, network_faults, pretrained
from cls_kd.task import Classification
from cls_kd.transforms import OfSamples, none
from stagewise_kd.data.image_files import Size, sides
from stagewise_kd.data.samples import Part, Source, Transform
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.networks.resnet import DEPTHS
from stagewise_kd.system.errors import UserError, raise_faults
from stagewise_kd.system.names import Config

PACKAGE = "cls_kd"
TASK = Classification.name


def check(config: Config) -> None:
    """Check that images have a size, and the options of networks.

    Raises:
        UserError: says what is wrong with them.
    """
    if config["data"]["size"] is None and config["data"].get("labelled", True):
        raise UserError("data.size=null: give one side in pixels, or [height,width]")
    raise_faults("bad settings", network_faults(config))


def make_views(config: Config, source: Source) -> tuple[Transform, Transform]:
    """The augmentation of the config, and a central crop."""
    size = _size(config, source)
    return OfSamples(instantiate(config["augment"])(size)), OfSamples(none(size))


def load_unlabelled(config: Config, source: Source) -> Part | None:
    """The images of `data.unlabelled`, at the size of the others."""
    root, size = config["data"]["unlabelled"], _size(config, source)
    if root is None:
        return None
    return source.unlabelled(*load_folder(root, size))


def _size(config: Config, source: Source) -> Size:
    """The size of images: that of the config, else the one that all have."""
    size = config["data"]["size"]
    return sides(size) if size is not None else (source.shape[1], source.shape[2])


def image_size(config: Config, source: Source) -> list[int]:
    """What images are scaled to when they are predicted."""
    return [*_size(config, source)]


def make_task(config: Config, source: Source) -> Classification:
    """One of the classes of the data."""
    return Classification(len(source.classes))


def untrained_teacher(config: Config, source: Source) -> BlockNet:
    """A network of the teacher's shape."""
    return make_network(config, config["teacher"], len(source.classes))


def load_teacher(config: Config, source: Source) -> BlockNet:
    """The teacher of `teacher.checkpoint`."""
    return teacher_module.load_teacher(config, source.classes)


def make_student(config: Config, source: Source, teacher: BlockNet | None) -> BlockNet:
    """The student with random weights, or in a teacher's own run perhaps with ImageNet's."""
    student = config["student"]
    torch.manual_seed(config["seed"])  # whatever building the teacher has drawn
    if student.get("pretrained"):  # a teacher in its own training run
        return pretrained(config, student, len(source.classes))
    theirs = teacher.origin.arguments.get("head") if teacher and teacher.origin else None
    head = student["head"] or (theirs if student["name"] in DEPTHS else None)
    return make_network(config, student | {"head": head}, len(source.classes))


def method_options(config: Config) -> dict[str, Any]:
    """None beside the config's own."""
    return {}


def told(config: Config, student: BlockNet) -> list[str]:
    """Nothing more of a student than the tables tell."""
    return []


def teacher_changes(config: Config) -> Config:
    """The teacher as a student of all data."""
    kept = ("name", "head", "pretrained", "at", "no_trace", "arguments")
    student = {key: config["teacher"].get(key) for key in kept}
    whole = {"fraction": 1.0, "images": None, "label_fraction": 1.0}
    whole |= {"unlabelled": None, "rest_as_test": False}
    return {"student": student, "data": config["data"] | whole}
