"""`run` of both command lines, by Hydra."""

import os
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, MissingConfigException
from omegaconf import DictConfig, OmegaConf

from stagewise_kd.cli.help import default_choices
from stagewise_kd.runs.composing import composing, config_folder, search_path
from stagewise_kd.runs.config import check_values, resolved
from stagewise_kd.runs.config_source import GROUPS
from stagewise_kd.runs.launchers import check_launcher, launcher_settings
from stagewise_kd.runs.overrides import as_typed, setting
from stagewise_kd.runs.study import plan_study, run_study
from stagewise_kd.system.errors import UserError

NETWORKS = {
    "cls": "timm/NAME, torchvision/NAME or module:function",
    "seg": "smp/ENCODER",
}
MULTIRUN = ("-m", "--multirun")


def hydra_run(
    front_end: str,
    run: Callable[[DictConfig], object],
    overrides: Sequence[str],
    studies: bool = True,
) -> None:
    """Compose the config of a front end from `overrides` and run it: once, or a study with `-m`."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors through, `guarded` says them in one line
    given = [item for item in overrides if item not in MULTIRUN]
    study = len(given) < len(overrides)
    if study and not studies:
        raise UserError("-m: is for run; blocks and shrink show one job at a time")
    _check_flags(given)
    settings = [as_typed(item, study) for item in given]
    # Hydra wants the flag first, and none beside another such as --cfg.
    shows = any(item.startswith("--") for item in settings)
    flags = ["-m"] if study and not shows else []
    check_launcher(settings)
    folder = config_folder(front_end)

    def launch(job: Callable[[DictConfig], None], *more: str) -> None:
        # beside the settings, which Hydra takes in one row: before them may be flags
        first = next((n for n, item in enumerate(settings) if _sets(item)), len(settings))
        row = [*settings[:first], search_path(front_end), *settings[first:]]
        sys.argv = [f"{front_end}-kd run", *flags, *row, *more]
        hydra.main(version_base="1.3", config_path=folder, config_name="config")(job)()

    try:
        if flags:
            jobs = plan_study(front_end, settings)
            own = launcher_settings(settings, jobs.folder)
            run_study(jobs, run, lambda job: launch(job, *own))
        else:
            _run_one(run, launch)
    except MissingConfigException as error:
        raise UserError(_no_choice(error, front_end)) from None
    except ConfigCompositionException as error:
        if "Could not override" in str(error):
            raise UserError(_misspelled(str(error), front_end, settings)) from None
        raise
    except ValueError as error:  # Hydra's of teacher=null
        if "Config group override" not in str(error):
            raise
        raise UserError(
            "a choice cannot be null: give data=, student=, teacher= and method= a name; without a "
            "teacher, method=no_teacher; with one learning rate, scheduler=constant"
        ) from None


def _sets(item: str) -> bool:
    return "=" in item and not item.startswith("-")


def _run_one(
    run: Callable[[DictConfig], object], launch: Callable[[Callable[[DictConfig], None]], None]
) -> None:
    failures: list[Exception] = []

    def job(cfg: DictConfig) -> None:
        try:
            _check_no_study()
            check_values(resolved(cfg))  # before run imports torch
            run(cfg)
        except Exception as error:  # kept from Hydra, which would say it in its own way
            failures.append(error)

    launch(job)
    if failures:
        raise failures[0]


def _check_flags(items: Sequence[str]) -> None:
    """Refuse a setting that is given as an option, to which Hydra says its own usage only."""
    known = {flag for action in get_args_parser()._actions for flag in action.option_strings}
    for item in items:
        flag, _, value = item.partition("=")
        if item.startswith("--") and flag not in known:
            raise UserError(
                f"{item}: settings are given without dashes, as {flag[2:]}={value or 'VALUE'}"
            )


def _check_no_study() -> None:
    """Refuse to run a study as if it were one job, unless each swept setting has a value."""
    hydra_config = HydraConfig.get()
    given = {item.lstrip("+").split("=")[0] for item in hydra_config.overrides.task}
    if swept := sorted(set(hydra_config.sweeper.params or {}) - given):
        raise UserError(
            f"the experiment is a study that sweeps {', '.join(swept)}; run it with -m, "
            "or give each of them one value for a single run"
        )


def _no_choice(error: MissingConfigException, front_end: str) -> str:
    """Hydra's message of an unknown choice, without the file that all of a group share."""
    group, _, name = str(error.missing_cfg_file).partition("/")
    there = [option for option in error.options or () if option != "base"]
    more = f"; any other network is {NETWORKS[front_end]}" if group in GROUPS else ""
    return f"Could not find '{group}/{name}'; there are {', '.join(there)}{more}"


def _misspelled(message: str, front_end: str, settings: Sequence[str]) -> str:
    """Hydra's message of an unknown setting, with the closest one that there is."""
    wrong = message.split("'")[1]
    groups = dict(default_choices(Path(config_folder(front_end)) / "config.yaml"))
    chosen = [item.split(",")[0] for item in settings if setting(item) in groups]
    with composing(front_end) as compose:
        usual, known = (_paths(OmegaConf.to_container(compose(given))) for given in ((), chosen))
    close = get_close_matches(wrong, known, n=1)
    if wrong in usual:
        hint = f"other choices of {wrong.partition('.')[0]}= have it"
    else:
        hint = f"did you mean {close[0]}?" if close else "see --cfg job for the names there are"
    return f"no setting is called {wrong!r}; {hint}"


def _paths(node: Any, prefix: str = "") -> list[str]:
    """Dotted names of all settings below a node of a config."""
    below = node.items() if isinstance(node, dict) else ()
    found = [path for key, value in below for path in _paths(value, f"{prefix}.{key}")]
    return [path.removeprefix(".") for path in (prefix, *found) if path]
