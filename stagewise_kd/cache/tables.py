"""The tables of a feature cache: what is in each, and how it is filled."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import ExitStack
from math import prod
from typing import Any, NamedTuple

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from stagewise_kd.cache.budget import Cost
from stagewise_kd.cache.store import Store, append
from stagewise_kd.data.batches import ready
from stagewise_kd.data.loaders import LABELS, Batch, Column, Data, Feed, Owner, Rows, eval_loader
from stagewise_kd.networks.blocks import IMAGE, BlockNet
from stagewise_kd.networks.hashes import weights_hash
from stagewise_kd.system.precision import autocast

Nets = dict[Owner, BlockNet]


class Split(NamedTuple):
    """One view of the samples of one split."""

    name: str
    samples: Any
    view: int | None


class Tables:
    """One table a column and split, made by the networks or read from the samples.

    A table's name is a hash of all that it depends on: the weights of the blocks that made it, the
    split, the view, the run's configuration, the number format. So none is ever stale.

    Args:
        store: keeps the files.
        nets: "student", and "teacher" where there is one.
        costs: of each, from `survey`.
        data: the splits.
        dtype: of features.
        precision: Lightning's name of the precision that the networks run in.
        loading: batch size of the passes that fill tables, processes that load for them.
        config: text of the run's configuration.
    """

    def __init__(
        self,
        store: Store,
        nets: Nets,
        costs: dict[Owner, dict[str, Cost]],
        data: Data,
        dtype: torch.dtype,
        precision: str,
        loading: tuple[int, int],
        config: str,
    ) -> None:
        self.store = store
        self._nets, self._costs, self._data = nets, costs, data
        self._dtype, self._precision, self._loading = dtype, precision, loading
        self._identity = [config, data.split_hash, str(dtype), precision]
        self._example = Feed(data.val).load([0])
        self._hashes: dict[Owner, dict[str, str]] = {}

    def note_weights(self, device: torch.device) -> None:
        """Take the networks as they are now: tables are of these weights from here on."""
        for owner, net in self._nets.items():
            net.to(device).eval()  # the block just trained is in train mode still
            if owner == "student" or owner not in self._hashes:  # the teacher stays as it is
                self._hashes[owner] = _hashes(net)

    def rows(self, column: Column, split: Split) -> Rows | None:
        """The table of a column; None where there is none."""
        shape, dtype = self._form(column)
        table = self.store.open(self.key(column, split), len(split.samples), prod(shape), dtype)
        return None if table is None else Rows(table, shape)

    def row_bytes(self, column: Column) -> int:
        """Bytes of a column for one sample."""
        shape, dtype = self._form(column)
        return prod(shape) * dtype.itemsize

    def _form(self, column: Column) -> tuple[tuple[int, ...], torch.dtype]:
        """Shape and type of one row."""
        if column.owner != "data":
            return self._costs[column.owner][column.name].shape, self._dtype
        images, labels = self._example
        example = images if column.name == IMAGE else labels
        return tuple(example.shape[1:]), example.dtype

    def missing_bytes(self, splits: Sequence[Split], chosen: set[Column]) -> int:
        """Bytes that filling would add."""
        return sum(
            len(split.samples) * self.row_bytes(column)
            for split in splits
            for column in chosen
            if self.rows(column, split) is None
        )

    def fill(self, split: Split, chosen: set[Column], riders: set[Column]) -> None:
        """Compute what is missing of a split, from the nearest features that are there.

        Args:
            split: the split.
            chosen: what is wanted.
            riders: data that is kept as well if the samples have to be loaded.
        """
        missing = sorted(column for column in chosen if self.rows(column, split) is None)
        if not missing:
            return
        wanted = {owner: {c.name for c in missing if c.owner == owner} for owner in self._nets}
        given, loads = self._given(split, wanted)
        loads = loads or any(column.owner == "data" for column in missing)
        if loads:
            missing += [c for c in riders - chosen if self.rows(c, split) is None]
        feed = Feed(split.samples, given, loads)
        with ExitStack() as files:
            to = {c: files.enter_context(self.store.write(self.key(c, split))) for c in missing}
            for batch in eval_loader(feed, *self._loading, view=split.view):
                known = self._compute(batch, wanted)
                for column, file in to.items():
                    append(file, known[column], self._form(column)[1])

    def _given(
        self, split: Split, wanted: dict[Owner, set[str]]
    ) -> tuple[dict[Column, dict[int, Rows]], bool]:
        """Tables to compute features from, and whether images have to be loaded as well."""
        given: dict[Column, dict[int, Rows]] = {}
        image = False
        for owner, net in self._nets.items():
            have = {n: self.rows(Column(owner, n), split) for n in net.names}
            there = {name: rows for name, rows in have.items() if rows is not None}
            run = net.needed({IMAGE, *there}, wanted[owner])
            reads = {read for name in run for read in net.blocks[name].reads}
            given |= {
                Column(owner, n): {split.view or 0: rows} for n, rows in there.items() if n in reads
            }
            image = image or IMAGE in reads
        column = Column("data", IMAGE)
        if image and (rows := self.rows(column, split)) is not None:
            return given | {column: {split.view or 0: rows}}, False
        return given, image

    @torch.no_grad()
    def _compute(self, batch: Batch, wanted: dict[Owner, set[str]]) -> dict[Column, Tensor]:
        device = self._nets["student"].mean.device
        batch = move_data_to_device(batch, device)
        found = {Column("data", LABELS): batch.labels}
        if batch.image is not None:
            found[Column("data", IMAGE)] = batch.image
        full = ready(batch, "mixed" in self._precision)
        with autocast(self._precision, device):
            for owner, net in self._nets.items():
                features = net.features(getattr(full, owner), wanted[owner])
                found |= {Column(owner, name): value for name, value in features.items()}
        return found

    def key(self, column: Column, split: Split) -> str:
        """The name of a table."""
        made_by = []
        if column.owner != "data":
            net = self._nets[column.owner]
            hashes = self._hashes[column.owner]
            made_by = [hashes[name] for name in net.needed({IMAGE}, {column.name})]
        about = [*self._identity, *column, split.name, split.view, made_by]
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:24]


def _hashes(net: BlockNet) -> dict[str, str]:
    norm = f"{net.mean.flatten().tolist()} {net.std.flatten().tolist()} "
    return {name: norm + weights_hash(block.module) for name, block in net.blocks.items()}
