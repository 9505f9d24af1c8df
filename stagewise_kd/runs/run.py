"""One run of either command line: from a composed config to a finished run folder."""

import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from stagewise_kd.comparison.report import print_result
from stagewise_kd.runs.build import build
from stagewise_kd.runs.config import resolved, to_yaml, untracked
from stagewise_kd.runs.experiment import bring_to_end
from stagewise_kd.runs.front_end import FrontEnd
from stagewise_kd.runs.overrides import PATHS, absolute, setting
from stagewise_kd.system.files import path_of
from stagewise_kd.system.names import run_name
from stagewise_kd.system.processes import processes, rank
from stagewise_kd.training.trainer import check_trainer


def run(front_end: FrontEnd, cfg: DictConfig) -> None:
    """Run one experiment, or go on with it, or say that it is finished.

    Args:
        front_end: of the task.
        cfg: the composed config, its values checked.

    Raises:
        UserError: anything in the config or the data is wrong; nothing is left behind then.
    """
    config = resolved(cfg)
    check_trainer(config["trainer"])
    out = path_of(str(cfg.out or Path("runs") / run_name(config)))
    text = to_yaml(untracked(config))
    command = ["-m", front_end.PACKAGE, "run", *_overrides(cfg), f"out={out.absolute()}"]
    with processes(command, config["trainer"]):
        result = bring_to_end(out, text, lambda: build(front_end, config, text, out))
        if rank() == 0:
            print_result(result, out)


def _overrides(cfg: DictConfig) -> list[str]:
    """The overrides of this run as they would be typed, but for `out`."""
    if not HydraConfig.initialized():
        return sys.argv[1:]
    given = [item for item in HydraConfig.get().overrides.task if setting(item) != "out"]
    paths = {name: OmegaConf.select(cfg, name) for name in map(setting, given) if name in PATHS}
    typed = [f"{name}={absolute(name, str(text))}" for name, text in paths.items() if text]
    return [item for item in given if not paths.get(setting(item))] + typed
