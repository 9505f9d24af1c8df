"""The feature cache: what a stage starts from is computed once a view, not at every step."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch

from stagewise_kd.cache.budget import SHARE, Caching, Demand, allowed, choose, described, survey
from stagewise_kd.cache.store import Store
from stagewise_kd.cache.tables import Nets, Split, Tables
from stagewise_kd.data.loaders import LABELS, Column, Data, Feed, Rows
from stagewise_kd.methods.plan import Stage
from stagewise_kd.system.console import console
from stagewise_kd.system.files import TEXT
from stagewise_kd.system.processes import from_first, rank


@dataclass(frozen=True)
class Feeds:
    """What one stage trains and is validated on.

    Args:
        train: its samples.
        val: those that choose its best epoch.
        views: of each train sample; None for a new one in every epoch.
        size: bytes that are cached.
        seconds: spent on filling the cache.
    """

    train: Feed
    val: Feed
    views: int | None = None
    size: int = 0
    seconds: float = 0.0


def uncached(stage: Stage, data: Data) -> Feeds:
    """The samples of a stage as they are, with new views in every epoch."""
    _, samples = data.for_stage(stage.needs_labels)
    return Feeds(Feed(samples), Feed(data.val))


def store_of(caching: Caching, run: Path) -> Store:
    """Where the cache of a run lies."""
    place = hashlib.sha256(bytes(run.absolute())).hexdigest()[:12]
    return Store(Path(caching.dir) / place if caching.dir else run / "cache")


class FeatureCache:
    """Fills the cache of each stage from that of the stage before it, one block further.

    Args:
        caching: the options.
        nets: "student", and "teacher" where there is one.
        data: the splits.
        device: where the networks run.
        precision: Lightning's name of the precision they run in.
        loading: batch size of the passes that fill the cache, processes that load for them.
        run: the run folder.
    """

    def __init__(
        self,
        caching: Caching,
        nets: Nets,
        data: Data,
        device: torch.device,
        precision: str,
        loading: tuple[int, int],
        run: Path,
    ) -> None:
        store = store_of(caching, run)
        dtype = getattr(torch, caching.dtype)
        config = (run / "config.yaml").read_text(**TEXT)
        self._costs = {owner: survey(net.to(device), data.shape) for owner, net in nets.items()}
        self._tables = Tables(store, nets, self._costs, data, dtype, precision, loading, config)
        self._nets, self._data, self._device = nets, data, device
        self._views = caching.views
        self._budget = from_first(allowed(caching, store.folder))
        self._riders = self._small_labels()

    def _small_labels(self) -> set[Column]:
        """The labels, where they are so small that they are kept when images are loaded anyway.

        A later stage on labels need not load the images again then, just for their labels.
        """
        labels = Column("data", LABELS)
        count = self._views * len(self._data.train) + len(self._data.val)  # type: ignore[arg-type]
        size = count * self._tables.row_bytes(labels)
        if size > self._budget / 100 or self._data.images is not None:
            return set()
        self._budget -= size
        return {labels}

    def feeds(self, stage: Stage) -> Feeds:
        """What a stage reads, cached as far as that is worth it and fits."""
        start = time.perf_counter()
        demand = Demand(stage, self._nets, self._costs, prod(self._data.shape))
        if not demand.cacheable:
            self.clear()
            return uncached(stage, self._data)
        name, samples = self._data.for_stage(stage.needs_labels)
        views = min(self._views, stage.epochs)
        train = [Split(name, samples, view) for view in range(views)]
        val = [Split("val", self._data.val, None)]
        cached, size = self._cached(demand, train, val)
        loads = demand.loads(cached)
        place = self._place(size) if not loads else torch.device("cpu")
        train_feed, val_feed = (
            Feed(splits[0].samples, self._opened(splits, cached, place), loads)
            for splits in (train, val)
        )
        return Feeds(train_feed, val_feed, views, size, time.perf_counter() - start)

    def clear(self) -> None:
        """Delete all tables."""
        if rank() == 0:
            self._tables.store.keep(set())

    def _cached(
        self, demand: Demand, train: Sequence[Split], val: Sequence[Split]
    ) -> tuple[set[Column], int]:
        """Fill what is worth it and fits: the columns that are there then, and their bytes."""
        splits = [*train, *val]
        count = sum(len(split.samples) for split in splits)
        sizes = {column: count * self._tables.row_bytes(column) for column in demand.columns}
        chosen = choose(demand, sizes, self._budget)
        if self._budget:  # a full disk left none, and was told of
            _say(f"{demand.stage.name}: {described(chosen, sizes, len(train), demand)}")
        self._tables.note_weights(self._device)
        if not from_first(self._filled(splits, chosen)):
            chosen, self._budget = set(), 0  # of the later stages too
        return chosen, sum(sizes[column] for column in chosen)

    def _filled(self, splits: Sequence[Split], chosen: set[Column]) -> bool:
        """Fill the cache, in the first process; False where the disk would not take it."""
        if rank() > 0:
            return True
        tables, store = self._tables, self._tables.store
        kept = chosen | self._riders
        keys = {tables.key(column, split) for split in splits for column in kept}
        try:
            if store.size() + tables.missing_bytes(splits, chosen) > self._budget:
                store.keep(keys)  # else the tables of the stage before are of use
            for split in splits:
                tables.fill(split, chosen, self._riders)
            store.keep(keys)
        except OSError as error:
            self.clear()
            _say(
                f"warning: no feature cache, {store.folder} cannot be written "
                f"({error.strerror}); set cache.dir=DIR, or cache.budget_gb=0 for none"
            )
            return False
        return True

    def _place(self, size: int) -> torch.device:
        """Where tables of so many bytes are read: in the memory of a GPU where they fit."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()  # of what the stage before has freed
            if size < SHARE * torch.cuda.mem_get_info(self._device)[0]:
                return self._device
        return torch.device("cpu")

    def _opened(
        self, splits: Sequence[Split], columns: set[Column], place: torch.device
    ) -> dict[Column, dict[int, Rows]]:
        return {
            column: {
                split.view or 0: Rows(rows.table.to(place), rows.shape)
                for split in splits
                if (rows := self._tables.rows(column, split)) is not None
            }
            for column in columns
        }


def _say(line: str) -> None:
    if rank() == 0:
        console.print(line, soft_wrap=True)
