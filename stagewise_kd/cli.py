"""What both command lines share: Hydra for `run`, one line and status 2 for bad input."""

import os
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stagewise_kd.errors import UserError, raise_faults

PATHS = (
    *("data.root", "data.splits", "data.unlabelled", "data.classes"),
    *("teacher.checkpoint", "cache.dir"),
)
DTYPES = ("bfloat16", "float16", "float32")


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
    flags = [
        item for item in overrides if item in ("-m", "--multirun")
    ]  # argparse wants them first
    # Lightning has more options than the config names: `++` sets those too.
    settings = [
        f"++{item}" if item.startswith("trainer.") else item
        for item in overrides
        if item not in flags
    ]
    sys.argv = [f"{front_end}-kd run", *flags, *settings]
    failures: list[Exception] = []

    def job(cfg: DictConfig) -> None:
        try:
            run(cfg)
        except Exception as error:  # kept from Hydra, which would say it in its own way
            failures.append(error)

    folder = config_folder(front_end)
    try:
        hydra.main(version_base="1.3", config_path=folder, config_name="config")(job)()
    except ConfigCompositionException as error:
        if "Could not override" in str(error):
            raise UserError(_misspelled(str(error), folder)) from None
        raise
    if failures:
        raise failures[0]


def guarded(work: Callable[[], object]) -> int:
    """Run a command: 0 when it ends well, 2 with one clear message for bad input.

    Anything else keeps its traceback and ends with status 1.
    """
    try:
        work()
    except UserError as error:
        message = str(error)
    except (HydraException, OmegaConfBaseException) as error:
        cause = error.__cause__
        message = str(cause) if isinstance(cause, UserError) else _one_line(error)
    except KeyboardInterrupt:
        message = "interrupted; the same command goes on from the last finished epoch"
        print(message, file=sys.stderr)
        return 1
    else:
        return 0
    if int(os.environ.get("RANK", 0)) == 0:
        print(f"error: {message}", file=sys.stderr)
    return 2


def _one_line(error: Exception) -> str:
    text = str(error).split("Config search path")[0]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(line for line in lines if not line.startswith(("full_key", "object_type")))


def _misspelled(message: str, folder: str) -> str:
    """Hydra's message of an unknown setting, with the closest one that there is."""
    wrong = message.split("'")[1]
    with hydra.initialize_config_dir(folder, version_base="1.3"):
        known = _paths(OmegaConf.to_container(hydra.compose("config"), resolve=False))
    close = get_close_matches(wrong, known, n=1)
    hint = f"did you mean {close[0]}?" if close else "see --cfg job for the names there are"
    return f"no setting is called {wrong!r}; {hint}"


def _paths(node: Any, prefix: str = "") -> list[str]:
    """Dotted names of all settings below a node of a config."""
    below = node.items() if isinstance(node, dict) else ()
    found = [path for key, value in below for path in _paths(value, f"{prefix}.{key}")]
    return [path.removeprefix(".") for path in (prefix, *found) if path]


def run_path(cfg: DictConfig, name: str) -> Path:
    """The run folder: `out`, or a readable name below runs/; in a multirun, one below `out`.

    Args:
        cfg: the composed config.
        name: readable name of the run, such as "cifar10-0.25/resnet10-stagewise-s0".
    """
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        return Path(cfg.out or "runs") / f"{name}{_sweep_suffix()}"
    return Path(cfg.out) if cfg.out else Path("runs") / name


def _sweep_suffix() -> str:
    """The swept settings that the name does not tell, so that no two jobs share a folder."""
    told = {"seed", "student", "decoder", "method", "data", "data.fraction"}
    asked = OverridesParser.create().parse_overrides([a for a in sys.argv[1:] if "=" in a])
    swept = {item.key_or_group for item in asked if item.is_sweep_override()} - told
    job = OverridesParser.create().parse_overrides(HydraConfig.get().overrides.task)
    values = {i.key_or_group: i.get_value_element_as_str() for i in job if i.key_or_group in swept}
    return "".join(
        f"-{key.rsplit('.', 1)[-1]}{value.strip('/').replace('/', '_')}"
        for key, value in values.items()
    )


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """The config as plain values, with absolute paths and without `out`: what config.yaml holds."""
    cfg = cfg.copy()
    for path in PATHS:
        if value := OmegaConf.select(cfg, path):
            OmegaConf.update(cfg, path, str(Path(value).expanduser().absolute()))
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    config.pop("out", None)
    return config


def check_values(config: dict[str, Any]) -> None:
    """Check the numbers that every run has.

    Raises:
        UserError: lists all that are of the wrong kind or out of range.
    """
    whole = {"epochs": 1, "batch_size": 1, "workers": 0, "seed": 0}
    faults = [
        f"{name}={config[name]}: give a whole number from {least} up"
        for name, least in whole.items()
        if not isinstance(config[name], int) or config[name] < least
    ]
    fraction, size = config["data"]["fraction"], config["data"]["size"]
    if not isinstance(fraction, int | float) or not 0 < fraction <= 1:
        faults.append(f"data.fraction={fraction}: give a number above 0 and up to 1")
    sides = [size] * 2 if isinstance(size, int) else size
    if size is not None and not (
        isinstance(sides, list) and [isinstance(n, int) and n > 0 for n in sides] == [True] * 2
    ):
        faults.append(f"data.size={size}: give one side in pixels, or [height,width]")
    val = config["data"]["val"]
    if val is not None and (not isinstance(val, int) or val < 0):
        faults.append(f"data.val={val}: give a number of images, or null")
    if not isinstance(config["graft"], bool):
        faults.append(f"graft={config['graft']}: give true or false")
    if config.get("cache"):  # a teacher's own run has none
        faults += _cache_faults(config["cache"])
    if not isinstance(config["lr"], int | float) or not config["lr"] > 0:
        faults.append(f"lr={config['lr']}: give a number above 0")
    raise_faults("bad settings", faults)


def _cache_faults(cache: dict[str, Any]) -> list[str]:
    views, budget, dtype = (cache[key] for key in ("views", "budget_gb", "dtype"))
    checks = {
        f"cache.views={views}: give a whole number from 1 up": isinstance(views, int) and views > 0,
        f"cache.budget_gb={budget}: give gigabytes, 0 for no cache": budget is None
        or (isinstance(budget, int | float) and budget >= 0),
        f"cache.dtype={dtype}: give {' or '.join(DTYPES)}": dtype in DTYPES,
    }
    return [fault for fault, good in checks.items() if not good]


def to_yaml(config: dict[str, Any]) -> str:
    """The config as the text of config.yaml."""
    return OmegaConf.to_yaml(OmegaConf.create(config))
