"""Metrics of a finished student."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seg_kd.networks import open_network
from seg_kd.run import load_data, make_task
from stagewise_kd.data.loaders import Data
from stagewise_kd.runs import evaluate as shared


def evaluate(run: Path, overrides: Sequence[str]) -> dict[str, float]:
    """Print and return the metrics of a run's student on the test split.

    Args:
        run: the run folder.
        overrides: changes to the run's config, such as "data.root=DIR".

    Raises:
        UserError: the run is not finished, or the data has other classes.
    """
    return shared.evaluate(run, overrides, open_network, _data, make_task)


def _data(config: dict[str, Any]) -> tuple[Data, list[str]]:
    data, source = load_data(config)
    return data, source.classes
