"""Finding image files: which there are below a folder, and which are left out."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from PIL import Image

from stagewise_kd.data.image_files import open_picture, upright_size
from stagewise_kd.system.console import console
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.processes import rank

SPLITS = ("train", "val", "test")
NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}  # need programs beside Pillow


@cache
def readable() -> set[str]:
    """Suffixes of the pictures that Pillow opens."""
    Image.init()
    known = Image.registered_extensions().items()
    return {suffix for suffix, kind in known if kind in Image.OPEN and kind not in NO_PICTURES}


def is_hidden(name: str) -> bool:
    """Whether a file or folder is one that a system keeps beside the user's own."""
    return name.startswith(".") or name in ("@eaDir", "__MACOSX")


def find_images(folder: Path, left_out: Counter[str] | None = None) -> list[Path]:
    """All image files below a folder, sorted; hidden ones and those in hidden folders are not.

    Args:
        folder: is searched to any depth.
        left_out: counts the other files by suffix.
    """
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if any(is_hidden(part) for part in path.relative_to(folder).parts):
            continue
        if path.suffix.lower() in readable():
            found.append(path)
        elif left_out is not None:
            left_out[path.suffix.lower() or path.name] += 1
    return found


def say_left_out(root: Path | str, left_out: Counter[str]) -> None:
    """Say in one line which files are no images that can be read."""
    if left_out and rank() == 0:
        told = ", ".join(f"{count} {suffix}" for suffix, count in left_out.most_common())
        console.print(f"{root}: left out, no images: {told}", soft_wrap=True, highlight=False)


def unlabelled_files(root: str, setting: str = "data.unlabelled") -> tuple[list[str], list[Path]]:
    """Names and files of the images in `data.unlabelled`, or in the folder of another setting.

    Raises:
        UserError: there are none.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise UserError(f"{setting}={root}: no such folder")
    left_out: Counter[str] = Counter()
    paths = find_images(folder, left_out)
    if not paths:
        raise UserError(f"{setting}={root}: holds no images")
    say_left_out(root, left_out)
    within = "unlabelled/" if setting == "data.unlabelled" else ""
    return [f"{within}{path.relative_to(folder).as_posix()}" for path in paths], paths


def labelled_folder(root: str) -> Path:
    """The folder of `data.test`, or test/ in it.

    Raises:
        UserError: there is none.
    """
    path = Path(root)
    if not path.is_dir():
        raise UserError(f"data.test={root}: no such folder")
    return path / "test" if (path / "test").is_dir() else path


def size_of_all(paths: Sequence[Path], setting: str = "data.size") -> tuple[int, int]:
    """The one height and width of all images, from their headers.

    Raises:
        UserError: there are several.
    """
    found: dict[tuple[int, int], Path] = {}
    for path in paths:
        with suppress(Exception), open_picture(path) as file:  # damaged ones are listed later
            found.setdefault(upright_size(file), path)
    if len(found) != 1:
        told = ", ".join(f"{w}×{h} ({path})" for (h, w), path in [*found.items()][:3])
        raise UserError(f"images of {len(found)} sizes, {told}; give {setting}=[HEIGHT,WIDTH]")
    return next(iter(found))


def existing_root(root: str | None, name: str, marks: Sequence[str]) -> Path:
    """The folder that holds one of `marks`: `root` itself, or the folder of the data set in it.

    Args:
        root: what the config says.
        name: of the data set, and of its folder, in whatever case.
        marks: names of folders.

    Raises:
        UserError: there is no such folder.
    """
    if root is None:
        raise UserError(f"data={name} needs data.root=DIR, the folder that holds {marks[0]}/")
    path = Path(root)
    if not path.is_dir():
        raise UserError(f"data.root={root}: no such folder")
    held = sorted(path.iterdir())
    for candidate in (path, *(p for p in held if p.name.lower() == name.lower())):
        if any((candidate / mark).is_dir() for mark in marks):
            return candidate
    shown = ", ".join(p.name for p in held[:8]) or "nothing"
    raise UserError(f"data.root={root}: expected {' or '.join(marks)} in it, found {shown}")


def split_folders(
    root: str | None, name: str, is_split: Callable[[Path], bool] | None = None
) -> tuple[Path, dict[str, Path]]:
    """The folder of a data set, and below it those of train, val and test.

    Args:
        root: what the config says.
        name: of the data set.
        is_split: of data that a student is only scored on, which need no train/: whether a folder
            is the split itself.

    Raises:
        UserError: there is nothing to report on, or no train/ where that is needed.
    """
    if is_split and root is not None and Path(root).is_dir() and is_split(Path(root)):
        return Path(root), {"test": Path(root)}
    path = existing_root(root, name, SPLITS if is_split else SPLITS[:1])
    found = {split: path / split for split in SPLITS if (path / split).is_dir()}
    if [*found] == ["train"]:
        raise UserError(
            f"data.root={root}: holds train/ only; put the images to report on in test/"
        )
    if is_split:
        reported = "test" if "test" in found else "val"
        return path, {reported: found[reported]}
    return path, found
