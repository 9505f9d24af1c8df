"""Files that are either whole or absent."""

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stagewise_kd.system.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
TEXT: Any = {"encoding": "utf-8", "errors": "surrogateescape"}  # names of files may be no UTF-8


def path_of(text: str | Path) -> Path:
    """A path as it is typed; `~` at its start is the home folder, which shells may not see."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path's own refuses ~name of no user


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it to `path`.

    Raises:
        OSError: it cannot be written; its `filename` is `path`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        temporary.replace(path)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def is_full(error: OSError) -> bool:
    """Whether a disk has no room for what was written, or takes nothing."""
    return error.errno in FULL


@contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """Make the folder of an --out, and say what goes wrong with it or with what is written there.

    Raises:
        UserError: the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror or error}); give an --out that can"
        ) from None


@contextmanager
def workshop(target: Path) -> Iterator[Path]:
    """A hidden folder beside `target` for all that is made on the way to it, gone afterwards.

    Folders that were made for `target` go too, where it is not there in the end.

    Raises:
        UserError: nothing can be written there.
    """
    made = [folder for folder in target.parents if not folder.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise UserError(f"{target}: is a folder; give an --out that names a file")
        with TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
            yield Path(folder)
    except OSError as error:
        raise UserError(
            f"{target}: cannot be written ({error.strerror or error}); give an --out that can"
        ) from None
    finally:
        if not target.exists():
            with suppress(OSError):
                for empty in made:
                    empty.rmdir()


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    write_whole(path, lambda temporary: temporary.write_text(text, **TEXT))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file, or None where there is no such file.

    Raises:
        UserError: the file is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except ValueError as error:
        raise UserError(
            f"{path}: not readable as JSON ({error}); copy the run folder again, or run it again"
        ) from None
