"""Finding and decoding the images of classes."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod
from pathlib import Path

from torch import Tensor

from stagewise_kd.data.finding import find_images, is_hidden, say_left_out, unlabelled_files
from stagewise_kd.data.image_files import (
    FileImages,
    Images,
    Size,
    keeps,
    open_picture,
)
from stagewise_kd.data.preparing import SMALL, covered, covering, to_tensor
from stagewise_kd.system.errors import listed, raise_faults


def decode(path: Path, size: Size) -> Tensor:
    """Read an image as uint8 (3, H, W), scaled so that it just covers a size.

    Raises:
        OSError: the file is no image, or damaged.
        ValueError: its pixels do not fit 8 bits.
    """
    with open_picture(path) as file:
        return to_tensor(covering(file, size))


def decoder(size: Size) -> Callable[[Path], Tensor]:
    """`decode` for images that are used at a size: large ones are kept a little larger."""
    return partial(decode, size=covered(size))


def load_images(paths: Sequence[Path], size: Size, in_memory: bool | None = None) -> FileImages:
    """Images as they are used at a size.

    Args:
        paths: the files.
        size: height and width that they are used at.
        in_memory: hold those that were read decoded; None where all fit.
    """
    keep = keeps(in_memory, 3 * len(paths) * prod(covered(size)))
    return FileImages(paths, decoder(size), keep, threads=max(size) > SMALL)


def load_folder(root: str, size: Size) -> tuple[list[str], Images]:
    """Names and images of a folder without classes, whatever folders are in it.

    Raises:
        UserError: there are none.
    """
    names, paths = unlabelled_files(root)
    return names, load_images(paths, size)


def class_folders(split: Path) -> list[Path]:
    """The folders of classes in a split, sorted."""
    return sorted(p for p in split.iterdir() if p.is_dir() and not is_hidden(p.name))


def find_classes(root: Path, splits: Mapping[str, Path]) -> dict[str, dict[str, list[Path]]]:
    """Image files by split and class folder; val and test may lack classes.

    Args:
        root: the folder of the data set.
        splits: folders in it.

    Raises:
        UserError: lists class folders of train without images, classes that it lacks, and splits
            without images.
    """
    left_out: Counter[str] = Counter()
    found = {
        split: {folder.name: find_images(folder, left_out) for folder in class_folders(path)}
        for split, path in splits.items()
    }
    bare = [path for split, path in splits.items() if not any(found[split].values())]
    faults = [f"{path} holds no images" for path in bare]
    if "train" in found:
        faults += _faults_of_train(splits["train"], found)
    raise_faults(f"{root}: not a usable image folder", faults)
    say_left_out(root, left_out)
    return {
        split: {name: paths for name, paths in members.items() if paths}
        for split, members in found.items()
    }


def _faults_of_train(folder: Path, found: Mapping[str, Mapping[str, list[Path]]]) -> list[str]:
    """What a student could not learn."""
    train = found["train"]
    empty = [name for name, paths in train.items() if not paths]
    faults = [f"{folder / name} holds no images; add some, or delete it" for name in empty]
    for split, members in found.items():
        if extra := [name for name, paths in members.items() if paths and name not in train]:
            faults.append(
                f"train/ lacks classes that {split}/ has: {listed(extra)}; add images of them to "
                f"train/, or take them out of {split}/"
            )
    if len(train) < 2:
        faults.append(f"class folders in {folder}: {len(train)}, at least 2 are needed")
    return faults
