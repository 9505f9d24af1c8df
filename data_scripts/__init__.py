"""One script per dataset: download or take an archive, verify, lay out, split.

What the scripts share: a `Release` is one published archive, `lay_out` puts it into a folder.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from data_scripts.archives import UNPACKING, ArchiveError, download, identify, unpack
from stagewise_kd.data.splits import split_train, val_count, write_split
from stagewise_kd.system.files import write_json

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png"}
SOURCE = "splits/source.json"  # what a script put into the root, and the seed of its splits


@dataclass(frozen=True)
class Release:
    """One published archive of a dataset.

    Args:
        name: what messages and source.json call it.
        url: where to download it; None if it can only be given as a file.
        checksums: "md5:<hex>" or "sha256:<hex>"; any one makes the archive known. ANY: no
            checksum is known, `fault` alone tells.
        folders: what of the archive is laid out.
        fault: (root, folder) -> what is wrong with the folder, or "".
        cut: (root, seed) -> the names in each of the splits.
        splits: what the split files are called.
    """

    name: str
    url: str | None
    checksums: tuple[str, ...]
    folders: tuple[str, ...]
    fault: Callable[[Path, str], str]
    cut: Callable[[Path, int], Sequence[list[str]]]
    splits: tuple[str, ...] = ("train", "val")


def image_folders(
    name: str, url: str | None, checksums: tuple[str, ...], counts: dict[str, int], classes: int
) -> Release:
    """A release of <top folder>/<split>/<class>/<image>, with so many images in each split."""
    fault = partial(count_fault, counts=counts, classes=classes)
    cut = partial(cut_train, train=train_images)
    return Release(name, url, checksums, tuple(counts), fault, cut)


def images(folder: Path, pattern: str = "*/*") -> list[Path]:
    """The images of a folder, by default one of class folders, sorted."""
    return sorted(path for path in folder.glob(pattern) if path.suffix.lower() in IMAGE_SUFFIXES)


def count_fault(root: Path, folder: str, counts: dict[str, int], classes: int) -> str:
    """What is wrong with the number of images or classes, or ""."""
    found = images(root / folder)
    arrived = f"{len(found)} images of {len({path.parent for path in found})} classes"
    expected = f"{counts[folder]} images of {classes} classes"
    return "" if arrived == expected else f"holds {arrived}, expected {expected}"


def train_images(root: Path) -> tuple[list[str], list[int]]:
    """Names relative to root, and class indices, of the images in train/."""
    found = images(root / "train")
    classes = sorted({path.parent.name for path in found})
    names = [path.relative_to(root).as_posix() for path in found]
    return names, [classes.index(path.parent.name) for path in found]


def cut_train(
    root: Path, seed: int, train: Callable[[Path], tuple[list[str], list[int]]]
) -> tuple[list[str], list[str]]:
    """Train and val names, cut from the names and class indices that train gives for root."""
    names, labels = train(root)
    return split_train(names, labels, val_count(len(names)), seed)


def split_files(root: Path, release: Release) -> list[Path]:
    """Where the splits of the release lie."""
    return [root / "splits" / f"{split}.txt" for split in release.splits]


def lay_out(root: Path, releases: Sequence[Release], archive: Path | None, seed: int) -> str:
    """Put one of the releases into root, and write its split files.

    Without an archive the first release is downloaded, unless root holds another one already.
    An interrupted run is resumed by the same call.

    Returns:
        One line that says what was done.

    Raises:
        ArchiveError: bad root or archive; nothing that was in root before is changed.
    """
    source = read_source(root, releases)
    release = choose_release(root, releases, archive, source)
    wanted = {"dataset": release.name, "seed": seed}
    if source and source != wanted:
        raise ArchiveError(f"{root} holds {source}, asked for {wanted}; choose another --root")
    missing = missing_folders(root, release)
    shutil.rmtree(root / UNPACKING, ignore_errors=True)  # left by a killed run
    splits = split_files(root, release)
    if source and not missing and all(path.exists() for path in splits):
        return f"{root} is finished already: {release.name}, splits of seed {seed}"
    if missing:
        place(root, release, archive, missing)
    (root / SOURCE).parent.mkdir(exist_ok=True)
    write_json(root / SOURCE, wanted)
    parts = dict(zip(splits, release.cut(root, seed), strict=True))
    for path, part in parts.items():
        write_split(path, part)
    sizes = ", ".join(f"{len(part)} in {path.name}" for path, part in parts.items())
    return f"{root} is finished: {release.name}, names: {sizes}"


def read_source(root: Path, releases: Sequence[Release]) -> dict[str, object] | None:
    """What an earlier run recorded of root, or None."""
    path = root / SOURCE
    if path.exists():
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except (TypeError, ValueError) as error:
            raise ArchiveError(f"{path}: no JSON object; delete it and run again") from error
    for path in (path for release in releases for path in split_files(root, release)):
        if path.exists():
            raise ArchiveError(
                f"{path} was not written by this script and would be overwritten; "
                "move it away, or choose another --root"
            )
    return None


def choose_release(
    root: Path,
    releases: Sequence[Release],
    archive: Path | None,
    source: dict[str, object] | None,
) -> Release:
    """The release that root holds, else the one that the archive is, else the first."""
    for release in releases:
        present = any((root / folder).exists() for folder in release.folders)
        if source.get("dataset") == release.name if source else present:
            return release
    if archive and not source:
        checksums = {sum_: release for release in releases for sum_ in release.checksums}
        return checksums[identify(archive, list(checksums))]
    return releases[0]


def missing_folders(root: Path, release: Release) -> list[str]:
    """The folders that root lacks; those that it has must be whole."""
    missing = [folder for folder in release.folders if not (root / folder).exists()]
    for folder in release.folders:
        if folder not in missing and (fault := release.fault(root, folder)):
            raise ArchiveError(
                f"{root / folder}: {fault}; it is left as it is: move it away, or choose "
                "another --root"
            )
    return missing


def place(root: Path, release: Release, archive: Path | None, folders: list[str]) -> None:
    """Unpack folders of the archive, downloaded if None, into root."""
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArchiveError(f"--root {root}: {error.strerror}; choose another folder") from error
    if archive:
        identify(archive, release.checksums)
    elif release.url:
        archive = download(release.url, root, release.checksums)
    else:
        raise ArchiveError(f"{root} lacks {', '.join(folders)}: pass --archive FILE to complete it")
    unpack(archive, root, folders, release.fault)


def run_script(
    doc: str, sizes: Mapping[str, Sequence[Release]], argv: Sequence[str] | None = None
) -> int:
    """The command line that every script has; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="folder to lay the dataset out in")
    parser.add_argument("--archive", type=Path, help="archive file; without one it is downloaded")
    parser.add_argument("--seed", type=int, default=0, help="seed of the splits")
    parser.set_defaults(size=next(iter(sizes)))
    if len(sizes) > 1:
        parser.add_argument("--size", choices=list(sizes), help="shorter side, pixels")
    given = parser.parse_args(argv)
    if given.seed < 0:
        parser.error(f"--seed {given.seed}: expected 0 or more")
    try:
        print(lay_out(given.root, sizes[given.size], given.archive, given.seed))
    except ArchiveError as error:
        print(error, file=sys.stderr)
        return 2
    return 0
