"""The configs of the front ends, where they lie and how they are composed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from stagewise_kd.runs.config_source import network_names
from stagewise_kd.runs.overrides import quoted

Compose = Callable[..., DictConfig]


def config_folder(name: str) -> str:
    """A folder of configs, of a front end or shared, in a checkout or an installed package."""
    here = Path(__file__).parents[1]
    found = [p for p in (here / "configs", here.parent / "configs") if p.is_dir()]
    return str(found[0] / name)


def search_path(front_end: str) -> str:
    """The override by which Hydra finds what both front ends have, and networks by name."""
    places = ("file://" + config_folder("shared"), network_names(config_folder(front_end)))
    return f"hydra.searchpath=[{','.join(map(quoted, places))}]"


@contextmanager
def composing(front_end: str) -> Iterator[Compose]:
    """A function that composes the config of a front end ("cls", "seg") from overrides."""

    def compose(overrides: Sequence[str] = (), **options: Any) -> DictConfig:
        return hydra.compose("config", [search_path(front_end), *overrides], **options)

    with hydra.initialize_config_dir(config_folder(front_end), version_base="1.3"):
        yield compose
