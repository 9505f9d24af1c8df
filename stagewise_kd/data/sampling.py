"""Which view of which sample is drawn when: it follows from seed, pass and sample alone."""

from collections.abc import Iterator
from itertools import islice
from math import ceil
from typing import Any, NamedTuple

from torch.utils.data import Dataset, DistributedSampler, Sampler

from stagewise_kd.data.pace import Pace
from stagewise_kd.system.processes import rank, world_size


class View(NamedTuple):
    """One augmented view of one sample; the same in every stage."""

    epoch: int
    sample: int

    def seed(self, run: int | None) -> int:
        """Seed of this view's augmentation in a run of that seed, whatever was drawn before."""
        return hash((run, *self)) % 2**63


class ViewSampler(Sampler[View]):
    """The views of one round: shuffled anew in each pass, by seed and pass alone.

    What does not fill the last batch of a pass is left out, so that no batch is of two passes.

    Args:
        dataset: samples.
        pace: how many passes a round has, and which steps.
        batch_size: views a step.
        views: how many views of a sample there are; None for a new one in every pass.
        seed: of the order.
        start: the first round.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        pace: Pace,
        batch_size: int,
        views: int | None,
        seed: int,
        start: int = 0,
    ) -> None:
        self._order: Any = DistributedSampler(dataset, world_size(), rank(), seed=seed)
        self._pace, self._batch_size, self._views = pace, batch_size, views
        self.set_epoch(start)

    def set_epoch(self, epoch: int) -> None:
        """Draw the round of this number next."""
        self._round = epoch

    def __iter__(self) -> Iterator[View]:
        left = len(self)
        for number in self._pace.span(self._round):
            self._order.set_epoch(number)
            view = number % self._views if self._views else number
            taken = min(left, self._pace.each * self._batch_size)
            left -= taken
            yield from (View(view, index) for index in islice(self._order, taken))

    def __len__(self) -> int:
        return self._pace.length(self._round) * self._batch_size


class ShareSampler(Sampler[int]):
    """Every world-size-th sample: unlike DistributedSampler, no sample comes twice."""

    def __init__(self, count: int) -> None:
        self._share = range(rank(), count, world_size())

    def __iter__(self) -> Iterator[int]:
        return iter(self._share)

    def __len__(self) -> int:
        return len(self._share)


def share(count: int) -> int:
    """How many of so many train samples each process draws in a pass."""
    return ceil(count / world_size())
