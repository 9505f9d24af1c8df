"""The configs of the front ends, where they lie and how they are composed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from stagewise_kd.runs.overrides import quoted

Compose = Callable[..., DictConfig]


def config_folder(name: str) -> str:
    """A folder of configs, of a front end or shared, in a checkout or an installed package."""
    here = Path(__file__).parents[1]
    found = [p for p in (here / "configs", here.parent / "configs") if p.is_dir()]
    return str(found[0] / name)


def shared_configs() -> str:
    """The override by which Hydra finds what both front ends have."""
    return f"hydra.searchpath=[{quoted('file://' + config_folder('shared'))}]"


@contextmanager
def composing(front_end: str) -> Iterator[Compose]:
    """A function that composes the config of a front end ("cls", "seg") from overrides."""

    def compose(overrides: Sequence[str] = (), **options: Any) -> DictConfig:
        return hydra.compose("config", [shared_configs(), *overrides], **options)

    with hydra.initialize_config_dir(config_folder(front_end), version_base="1.3"):
        yield compose
