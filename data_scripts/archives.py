"""Dataset archives: download or resume, verify, unpack safely."""

import gzip
import hashlib
import lzma
import shutil
import stat
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from rich.console import Console
from rich.progress import DownloadColumn, Progress
from rich.progress import open as open_with_progress

UNPACKING = ".stagewise-kd-unpacking"  # holds what `unpack` has not finished
ANY = "any"  # in place of a checksum, where none lasts and only the contents tell
UNREADABLE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    EOFError,
    RuntimeError,  # zipfile, of an encrypted member or an unknown compression
    ValueError,  # zipfile, of names or offsets that make no sense
    lzma.LZMAError,
    zlib.error,
)


class ArchiveError(Exception):
    """A fault that the user can mend; its message is one line."""


def identify(path: Path, checksums: Sequence[str]) -> str:
    """The one of the checksums ("md5:<hex>" or "sha256:<hex>") that the archive has, else ANY.

    Raises:
        ArchiveError: no such file, or it has none of them; where ANY is one, it is no archive.
    """
    if not path.is_file():
        raise ArchiveError(f"{path}: no such archive file; check the path given as --archive")
    found: dict[str, str] = {}
    for checksum in checksums:
        if checksum == ANY:
            continue
        algorithm = checksum.partition(":")[0]
        if algorithm not in found:
            found[algorithm] = f"{algorithm}:{digest(path, algorithm)}"
        if checksum == found[algorithm]:
            return checksum
    if ANY in checksums:
        refuse_other(path)
        return ANY
    raise ArchiveError(
        f"{path}: wrong checksum: {path.stat().st_size} bytes with {', '.join(found.values())}, "
        f"expected {' or '.join(checksums)}; it is truncated, damaged or another version: "
        "get it again"
    )


def digest(path: Path, algorithm: str) -> str:
    """Checksum of a file, hexadecimal."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest()
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be read: {error.strerror}") from error


def refuse_other(path: Path) -> None:
    """Raise ArchiveError for a file that does not begin as a tar or is not whole as a zip."""
    try:
        found = zipfile.is_zipfile(path) if is_zip(path) else tarfile.is_tarfile(path)
    except UNREADABLE:
        found = False
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be read: {error.strerror}") from error
    if not found:
        raise ArchiveError(
            f"{path}: unreadable or truncated: {path.stat().st_size} bytes, expected a whole tar "
            "or zip archive; get it again"
        )


def is_zip(path: Path) -> bool:
    """Whether a file begins as a zip archive does."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def download(url: str, folder: Path, checksums: Sequence[str]) -> Path:
    """Download an archive into folder, or the rest of it; it gets its name once verified.

    Raises:
        ArchiveError: no connection, a broken one, or a wrong checksum.
    """
    target = folder / url.rpartition("/")[2]
    if target.exists():
        identify(target, checksums)
        return target
    part = target.with_name(target.name + ".part")
    try:
        fetch(url, part)
    except (OSError, HTTPException) as error:
        done = part.stat().st_size if part.exists() else 0
        raise ArchiveError(
            f"cannot download {url}: {error}; {done} bytes have arrived; run again to resume, or "
            "get the file elsewhere and pass it as --archive"
        ) from error
    try:
        identify(part, checksums)
    except ArchiveError:
        part.unlink()
        raise
    return part.replace(target)


def fetch(url: str, part: Path) -> None:
    """Append to part the bytes of url that it lacks.

    Raises:
        OSError: no connection, or a broken one.
    """
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        error.close()
        if start and error.code == 416:  # nothing is left to send; the checksum will tell
            return
        raise
    with response:
        if response.status != 206:  # the server sends everything
            start = 0
        length = response.headers["Content-Length"]
        total = start + int(length) if length else None
        receive(response, part, start, total)
    if total is not None and part.stat().st_size < total:
        raise OSError(f"the connection broke before the end of {total} bytes")


def receive(response: Any, part: Path, start: int, total: int | None) -> None:
    """Write a response to part, from byte start on, with a progress bar."""
    with Progress(*Progress.get_default_columns(), DownloadColumn(), **terminal()) as progress:
        task = progress.add_task(f"download {part.stem}", total=total, completed=start)
        with part.open("ab" if start else "wb") as file:
            while chunk := response.read(1 << 20):
                file.write(chunk)
                progress.advance(task, len(chunk))


def terminal() -> dict[str, Any]:
    """Arguments of a progress bar: on stderr, shown where that is a terminal."""
    console = Console(stderr=True)
    return {"console": console, "disable": not console.is_terminal}


def unpack(
    archive: Path,
    root: Path,
    folders: Sequence[str],
    fault: Callable[[Path, str], str],
) -> None:
    """Unpack folders of an archive into root; they appear there whole, or not at all.

    The folders may lie at the archive's top, or one or two folders below it.

    Args:
        archive: a zip, or a tar with any compression that tarfile reads.
        root: where the folders go; must not have them yet.
        folders: the rest of the archive is dropped.
        fault: (parent, folder) -> what is wrong with an unpacked folder, or "".

    Raises:
        ArchiveError: unreadable, unsafe or incomplete archive.
    """
    temporary = root / UNPACKING
    try:
        extract(archive, temporary)
        parent = parent_of(folders, temporary)
        for folder in folders:
            if found := fault(parent, folder):
                raise ArchiveError(f"{archive}: {folder} {found}; get another copy of the archive")
        for folder in folders:
            (parent / folder).rename(root / folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def parent_of(folders: Sequence[str], top: Path) -> Path:
    """The folder, at most two below top, that holds most of the folders; the shallowest one."""
    candidates = [top, *sorted(top.glob("*")), *sorted(top.glob("*/*"))]
    return max(candidates, key=lambda path: sum((path / name).is_dir() for name in folders))


def extract(archive: Path, folder: Path) -> None:
    """Extract every member of an archive; links, devices and paths out of folder are refused."""
    try:
        folder.mkdir()
        extract_all = extract_zip if is_zip(archive) else extract_tar
        with open_with_progress(archive, "rb", description="unpack", **terminal()) as file:
            extract_all(archive, file, folder)
    except UNREADABLE as error:
        raise ArchiveError(
            f"{archive}: unreadable or truncated ({error}), expected a whole tar or zip archive; "
            "get it again"
        ) from error
    except OSError as error:
        raise ArchiveError(
            f"cannot unpack {archive} into {folder.parent}: {error}; check free space and "
            "permissions, then run again"
        ) from error


def extract_tar(archive: Path, file: BinaryIO, folder: Path) -> None:
    """Extract every member of the opened tar archive."""
    with tarfile.open(fileobj=file, mode="r:*") as tar:
        for member in tar:
            refuse_unsafe(archive, member.name, member.isreg() or member.isdir())
            tar.extract(member, folder, filter="data")
        while tar.fileobj.read(1 << 20):  # up to the checksum that ends a compressed file
            pass


def extract_zip(archive: Path, file: BinaryIO, folder: Path) -> None:
    """Extract every member of the opened zip archive."""
    with zipfile.ZipFile(file) as zipped:
        for member in zipped.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)  # 0: packed where there are no kinds
            refuse_unsafe(archive, member.filename, kind in (0, stat.S_IFREG, stat.S_IFDIR))
            zipped.extract(member, folder)


def refuse_unsafe(archive: Path, name: str, plain: bool) -> None:
    """Raise ArchiveError for a member that is no plain file or folder below the top."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not plain:
        raise ArchiveError(
            f"{archive}: unsafe member {name!r}, expected only files and folders with paths "
            "inside the archive; nothing was unpacked: get the archive from its official source"
        )
