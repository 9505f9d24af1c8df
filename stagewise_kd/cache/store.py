"""Tables of one row a sample in memory-mapped files, whole or absent."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor


class Store:
    """A folder of tables, each named by a key that tells what it holds.

    Args:
        folder: made when the first table is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, key: str, rows: int, elements: int, dtype: torch.dtype) -> Tensor | None:
        """The table of a key, (rows, elements), mapped into memory; None where there is none.

        A file of another size is no table of ours, and counts as none.
        """
        path = self.folder / key
        size = rows * elements
        if not size or not path.is_file() or path.stat().st_size != size * dtype.itemsize:
            return None
        return torch.from_file(str(path), shared=False, size=size, dtype=dtype).view(rows, elements)

    @contextmanager
    def write(self, key: str) -> Iterator[BinaryIO]:
        """A file to append rows to, which becomes the table of its key when all went well.

        Rows are written, not mapped: a full disk is then an OSError and no bus error.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".{key}.{os.getpid()}"
        try:
            with temporary.open("wb") as file:
                yield file
            temporary.replace(self.folder / key)
        finally:
            temporary.unlink(missing_ok=True)

    def keep(self, keys: set[str]) -> None:
        """Delete every file but the tables of these keys; without any, the folder too."""
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if path.name not in keys:
                    path.unlink()
            if not keys:
                self.folder.rmdir()

    def size(self) -> int:
        """Bytes of all files."""
        return sum(p.stat().st_size for p in self.folder.iterdir()) if self.folder.is_dir() else 0


def append(file: BinaryIO, batch: Tensor, dtype: torch.dtype) -> None:
    """Write a batch as rows: images and features channels last, everything in `dtype`."""
    if batch.ndim == 4:
        batch = batch.permute(0, 2, 3, 1)
    rows = batch.detach().to("cpu", dtype).contiguous()
    file.write(rows.view(-1).view(torch.uint8).numpy().data)
