"""Networks of libraries and of one's own as choices of Hydra's: `student=timm/NAME`."""

from pathlib import Path
from typing import Any

from hydra._internal.sources_registry import SourcesRegistry
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf

SCHEME = "networks"
GROUPS = ("student", "teacher")


class NetworkNames(ConfigSource):
    """Any name with a slash or a colon is a choice: the group's base.yaml, with that name."""

    @staticmethod
    def scheme() -> str:
        """The start of the paths that Hydra searches here; a folder of configs follows."""
        return SCHEME

    def load_config(self, config_path: str) -> ConfigResult:
        """The settings of a network of that name."""
        group, _, name = config_path.partition("/")
        base: Any = OmegaConf.load(Path(self.path) / group / "base.yaml")
        own = {"name": name} | ({"head": None} if "head" in base else {})  # that is of our ResNets
        settings = OmegaConf.merge(base, own)
        return ConfigResult(self.provider, self.full_path(), settings, {"package": None})

    def is_config(self, config_path: str) -> bool:
        """Whether a path is the name of such a network."""
        group, _, name = config_path.partition("/")
        return group in GROUPS and ("/" in name or ":" in name)

    def is_group(self, config_path: str) -> bool:
        """The groups themselves are folders."""
        return False

    def list(self, config_path: str, results_filter: Any) -> list[str]:
        """None by name: the libraries know them."""
        return []

    def available(self) -> bool:
        """Always."""
        return True


def network_names(folder: str) -> str:
    """The path by which Hydra finds networks by name, with the settings of a folder of configs."""
    SourcesRegistry.instance().register(NetworkNames)
    return f"{SCHEME}://{folder}"
