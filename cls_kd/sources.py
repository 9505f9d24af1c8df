"""Data sets: where their images and labels come from."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torchvision.datasets import CIFAR10

from cls_kd.class_folders import class_folders, find_classes, load_images
from stagewise_kd.data.finding import (
    SPLITS,
    existing_root,
    labelled_folder,
    size_of_all,
    split_folders,
    unlabelled_files,
)
from stagewise_kd.data.image_files import ScaledImages, Size
from stagewise_kd.data.present import check_test_classes
from stagewise_kd.data.samples import Part, Repeated, Source
from stagewise_kd.data.shapes import CLASSES, draw_all
from stagewise_kd.system.errors import UserError, listed

Classes = Mapping[str, Mapping[str, list[Path]]]  # image files by split and class folder


def shapes(size: Size, train: int = 4000, test: int = 1000, seed: int = 0) -> Source:
    """Generated textured shapes on cluttered backgrounds, 10 classes."""
    if size[0] != size[1]:
        raise UserError(f"data.size={list(size)}: shapes are square, give one number")
    return Source(
        list(CLASSES), _drawn("train", train, size[0], seed), _drawn("test", test, size[0], seed)
    )


def _drawn(split: str, count: int, size: int, seed: int) -> Part:
    images, _, labels = draw_all(split, count, size, seed)
    names = [f"{split}/{index:06d}" for index in range(count)]
    return Part(names, torch.from_numpy(images).permute(0, 3, 1, 2), labels.tolist())


def cifar10(root: str | None, size: Size, in_memory: bool | None = None) -> Source:
    """CIFAR-10: torchvision's original files, or a copy as an image folder, at any size."""
    path = existing_root(root, "cifar10", ["train", CIFAR10.base_folder])
    if not (path / CIFAR10.base_folder).is_dir():
        return folder(str(path), size, in_memory=in_memory)
    parts = {}
    for split in ("train", "test"):
        try:
            found = CIFAR10(path, train=split == "train", download=False)
        except RuntimeError:
            raise UserError(
                f"{path / CIFAR10.base_folder}: files are missing or damaged; "
                "run data_scripts/cifar10.py again"
            ) from None
        names = [f"{split}/{index:05d}" for index in range(len(found.data))]
        images = torch.from_numpy(found.data).permute(0, 3, 1, 2)
        shown = images if size == (32, 32) else ScaledImages(images, size)
        parts[split] = Part(names, shown, list(found.targets))
    return Source(list(found.classes), parts["train"], parts["test"])


def folder(
    root: str | None,
    size: Size,
    class_names: dict[str, str] | None = None,
    name: str = "folder",
    in_memory: bool | None = None,
    known: Sequence[str] | None = None,
) -> Source:
    """An image folder: train/<class>/… and test/ or val/, or both.

    With both, epochs are chosen on val and test is reported; with one, that one is reported. Either
    may lack classes.

    Args:
        root: the folder that holds train/.
        size: height and width the images are used at.
        class_names: names to show for class folders, where those are codes.
        name: of the data set, for messages and for `root/<name>/train`.
        in_memory: hold the decoded images in memory; None where they fit.
        known: the classes of a student that is only scored: test/ or class folders alone will do.

    Raises:
        UserError: a folder is missing, or lists what is wrong with the folders and files.
    """
    shown = class_names or {}
    split = None if known is None else partial(_is_split, shown=shown, known=known)
    path, folders = split_folders(root, name, split)
    found = find_classes(path, folders)
    if known is None:
        known = [shown.get(code, code) for code in sorted(found["train"])]
    parts = _decoded(path, found, _numbers(path, found, shown, known), size, in_memory)
    test = parts.pop("test", None) or parts.pop("val")
    return Source([*known], parts.get("train", Part([], [], [])), test, parts.get("val"))


def images(
    root: str | None,
    size: Size | None,
    classes: Sequence[str],
    in_memory: bool | None = None,
    test: str | None = None,
    known: Sequence[str] | None = None,
) -> Source:
    """Any folder of images, at any depth, without labels and splits.

    Args:
        root: the folder.
        size: height and width the images are used at; None where all are of one size.
        classes: that the teacher tells apart.
        in_memory: hold the decoded images in memory; None where they fit.
        test: a folder with images of some classes that are scored, <class>/… or test/<class>/….
        known: the classes of a student that is only scored: on `test`, else on all images.

    Raises:
        UserError: there are none, or they differ in size; or `test` is of
            other classes.
    """
    none = Part([], [], [])
    if known is not None and test and size:
        classes, part = _labelled(test, size, classes, in_memory)
        return Source(classes, none, part)
    if root is None:
        raise UserError("data=images needs data.root=DIR, a folder of images")
    names, paths = unlabelled_files(root, "data.root")
    size = size or size_of_all(paths)
    every = Part(names, load_images(paths, size, in_memory), Repeated(0, len(names)))
    if known is not None:
        return Source([*classes], none, every, labelled=False)
    classes, part = _labelled(test, size, classes, in_memory) if test else ([*classes], none)
    return Source(classes, every, part, labelled=False)


def _labelled(
    root: str, size: Size, classes: Sequence[str], in_memory: bool | None
) -> tuple[list[str], Part]:
    """The classes, and the images of `data.test`."""
    path = labelled_folder(root)
    there = [folder.name for folder in class_folders(path)]
    if not there:
        raise UserError(f"data.test={root}: expected a folder for each class, found none")
    found = find_classes(path, {"test": path})
    known = [*classes] if {*there} <= {*classes} else there  # some may lack
    check_test_classes(root, classes, known)
    parts = _decoded(path, found, {name: n for n, name in enumerate(known)}, size, in_memory)
    return known, parts["test"]


def _is_split(path: Path, shown: Mapping[str, str], known: Sequence[str]) -> bool:
    """Whether a folder holds the folders of known classes; one may be called train."""
    there = {folder.name for folder in class_folders(path)}
    classes = {name for name in there if shown.get(name, name) in known}
    return bool(classes) and (classes == there or not there & {*SPLITS})


def _numbers(
    root: Path, found: Classes, shown: Mapping[str, str], known: Sequence[str]
) -> dict[str, int]:
    """The class of each folder by its number."""
    number = {name: place for place, name in enumerate(known)}
    there = sorted({code for members in found.values() for code in members})
    if strange := [code for code in there if shown.get(code, code) not in number]:
        raise UserError(
            f"{root}: holds the classes {listed(strange)}, which the student does not know; it "
            f"knows {listed(known)}; take those folders out"
        )
    return {code: number[shown.get(code, code)] for code in there}


def _decoded(
    root: Path,
    found: Classes,
    labels: Mapping[str, int],
    size: Size,
    in_memory: bool | None,
) -> dict[str, Part]:
    """The parts of an image folder, all files checked together."""
    rows = [
        (split, path, labels[name])
        for split, members in found.items()
        for name, paths in members.items()
        for path in paths
    ]
    names = [path.relative_to(root).as_posix() for _, path, _ in rows]
    images = load_images([path for _, path, _ in rows], size, in_memory)
    whole = Part(names, images, [label for _, _, label in rows])
    return {
        split: whole.take([name for name, row in zip(names, rows, strict=True) if row[0] == split])
        for split in found
    }
