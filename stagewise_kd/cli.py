"""What both command lines share: Hydra for `run`, one line and status 2 for bad input."""

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stagewise_kd.errors import UserError

PATHS = ("data.root", "data.unlabelled", "data.splits", "teacher.checkpoint", "teacher.store")


def config_folder(front_end: str) -> str:
    """The Hydra config folder of a front end, in a checkout or in an installed package."""
    here = Path(__file__).parent
    found = [p for p in (here / "configs", here.parent / "configs") if p.is_dir()]
    return str(found[0] / front_end)


def hydra_run(
    front_end: str, run: Callable[[DictConfig], object], overrides: Sequence[str]
) -> None:
    """Compose the config of a front end from `overrides` and run it: once, or swept with `-m`."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors through, `guarded` says them in one line
    sys.argv = [f"{front_end}-kd run", *overrides]
    main = hydra.main(
        version_base="1.3", config_path=config_folder(front_end), config_name="config"
    )
    main(run)()


def guarded(work: Callable[[], object]) -> int:
    """Run a command: 0 when it ends well, 2 with one clear message for bad input.

    Anything else keeps its traceback and ends with status 1.
    """
    warnings.filterwarnings("ignore", ".*treespec, LeafSpec.*")
    try:
        work()
    except UserError as error:
        message = str(error)
    except (HydraException, OmegaConfBaseException) as error:
        message = _hydra_message(error)
    except KeyboardInterrupt:
        message = "interrupted; the same command goes on from the last finished epoch"
        print(message, file=sys.stderr)
        return 1
    else:
        return 0
    if int(os.environ.get("RANK", 0)) == 0:
        print(f"error: {message}", file=sys.stderr)
    return 2


def _hydra_message(error: Exception) -> str:
    """Hydra's message on one line, with the closest name for a misspelled one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [
        line for line in lines if not line.startswith(("full_key", "object_type", "To append"))
    ]
    message = " ".join(lines)
    if "Could not override" in message:
        wrong = message.split("'")[1]
        close = get_close_matches(wrong, _known_keys(), n=1)
        hint = f"did you mean {close[0]}?" if close else "see --cfg job for the names there are"
        return f"no setting is called {wrong!r}; {hint}"
    return message


def _known_keys() -> list[str]:
    """Names of all settings of the default config."""
    from hydra.core.global_hydra import GlobalHydra

    loader = GlobalHydra.instance().config_loader()
    config = loader.load_configuration("config", [], RunMode.RUN)
    return _paths(OmegaConf.to_container(config, resolve=False))


def _paths(node: Any, prefix: str = "") -> list[str]:
    if not isinstance(node, dict):
        return [prefix]
    found = [path for key, value in node.items() for path in _paths(value, f"{prefix}.{key}")]
    return [path.removeprefix(".") for path in [*found, prefix] if path]


def run_path(cfg: DictConfig, name: str) -> Path:
    """The run folder: `out`, or a readable name below runs/; in a multirun, one below `out`.

    Args:
        cfg: the composed config.
        name: readable name of the run, such as "cifar10-0.25/resnet10-stagewise-s0".
    """
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        return Path(cfg.out or "runs") / f"{name}{_sweep_suffix(name)}"
    return Path(cfg.out) if cfg.out else Path("runs") / name


def _sweep_suffix(name: str) -> str:
    """The job's overrides that the name does not already tell, so that no two jobs share one."""
    told = {"seed", "student", "teacher", "method", "data", "data.fraction", "out"}
    items = [item.split("=", 1) for item in HydraConfig.get().overrides.task if "=" in item]
    return "".join(f"-{key.rsplit('.')[-1]}{value}" for key, value in items if key not in told)


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """The config as plain values, with absolute paths and without `out`: what config.yaml holds."""
    cfg = cfg.copy()
    for path in PATHS:
        if value := OmegaConf.select(cfg, path):
            OmegaConf.update(cfg, path, str(Path(value).expanduser().absolute()))
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    config.pop("out")
    return config


def to_yaml(config: dict[str, Any]) -> str:
    """The config as the text of config.yaml."""
    return OmegaConf.to_yaml(OmegaConf.create(config))
