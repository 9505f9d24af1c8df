"""A study: the jobs of a multirun, each in a run folder of its own, and what became of them.

The jobs are listed before the first one starts, so that bad settings stop the whole study at once
and its folder tells what is still to come. Whichever launcher runs the jobs, on this machine or on
others that share its disk, they leave their traces in that folder alone.
"""

import gc
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stagewise_kd.runs.composing import composing
from stagewise_kd.runs.config import check_values, resolved
from stagewise_kd.system.console import console
from stagewise_kd.system.errors import IncompleteError, UserError, raise_faults
from stagewise_kd.system.files import TEXT, path_of, read_json, write_json, write_text
from stagewise_kd.system.names import SHRUNK, method_name, run_name
from stagewise_kd.system.run_folder import is_running

LIST = "study.json"
RESULT = "result.json"
FAILURES = "failures"
PARTS = str.maketrans("/:", "__")  # what parts a value, as of paths and of names of networks
# by the name of a run
TOLD = {
    *("seed", "student", "decoder", "method", "data", "data.fraction", "data.images"),
    *("target.macs", "target.params", "target.latency"),
}


@dataclass(frozen=True)
class Study:
    """What a multirun is about to do.

    Args:
        folder: absolute; all run folders are below it.
        names: of each job's run folder below it, by the job's overrides.
        methods: of the jobs, by name.
        start: the folder that relative paths are meant from, on whichever machine.
    """

    folder: Path
    names: Mapping[tuple[str, ...], str]
    methods: Mapping[str, str]
    start: Path

    def failure(self, name: str) -> Path:
        """The file that says why a job failed."""
        return self.folder / FAILURES / f"{name}.txt"


def plan_study(front_end: str, settings: Sequence[str]) -> Study:
    """The jobs that the settings of a multirun stand for, in their order.

    Args:
        front_end: cls or seg.
        settings: overrides, swept and plain; an experiment file may sweep more.

    Raises:
        UserError: settings of some jobs are bad; lists them all.
    """
    parse = OverridesParser.create().parse_overrides
    asked = parse(list(settings))
    plain = [str(item.input_line) for item in asked if not item.is_sweep_override()]
    with composing(front_end) as compose:
        shared = compose(plain, return_hydra_config=True)
        params = shared.hydra.sweeper.params or {}
        swept = parse([f"{key}={value}" for key, value in params.items()])
        swept += [item for item in asked if not item.key_or_group.startswith("hydra")]
        jobs = BasicSweeper.split_arguments(swept, None)[0]
        composed = [compose(job) for job in jobs]
    if any(cfg.student.name == SHRUNK for cfg in composed):
        for cfg in composed:
            _leave_size(cfg)
    configs = [resolved(cfg) for cfg in composed]
    _check(configs)
    keys = {item.key_or_group for item in swept if item.is_sweep_override()} - TOLD
    names = [
        f"{run_name(config)}{_suffix(parse(job), keys)}"
        for config, job in zip(configs, jobs, strict=True)
    ]
    _check_names(names)
    folder = path_of(str(shared.out or "runs")).absolute()
    methods = dict(zip(names, map(method_name, configs), strict=True))
    return Study(folder, dict(zip(map(tuple, jobs), names, strict=True)), methods, Path.cwd())


def _leave_size(cfg: DictConfig) -> None:
    """A size in a study is that of the students that are shrunk; the others have their own."""
    if cfg.student.name != SHRUNK:
        cfg.target = dict.fromkeys(cfg.target)


def _check(configs: Sequence[dict[str, Any]]) -> None:
    faults: dict[str, None] = {}
    for config in configs:
        try:
            check_values(config)
        except UserError as error:
            faults[str(error)] = None
    raise_faults("study", list(faults))


def _check_names(names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    raise_faults("study: jobs that ask for the same run folder", twice)


def _suffix(job: Sequence[Override], swept: set[str]) -> str:
    """The swept settings that the name does not tell, so that no two jobs share a folder."""
    values = {i.key_or_group: _plain(i) for i in job if i.key_or_group in swept}
    return "".join(
        f"-{key.rsplit('.', 1)[-1]}{value.strip('/').translate(PARTS)}"
        for key, value in values.items()
    )


def _plain(item: Override) -> str:
    value = item.value()
    return value if isinstance(value, str) else item.get_value_element_as_str()


def run_study(
    study: Study, run: Callable[[DictConfig], object], launch: Callable[[Any], object]
) -> None:
    """Run all jobs; one that fails does not stop the others.

    Args:
        study: from `plan_study`.
        run: runs a composed config, or goes on with it, or says that it is finished.
        launch: has Hydra call a function with the config of every job, here or elsewhere.

    Raises:
        IncompleteError: some jobs did not finish; says which, and why.
    """
    try:
        study.folder.mkdir(parents=True, exist_ok=True)
        plan = {"jobs": list(study.names.values()), "methods": study.methods}
        write_json(study.folder / LIST, plan)
    except OSError as error:
        raise UserError(
            f"{study.folder}: cannot be written ({error.strerror}); give an out=DIR that can"
        ) from None

    def job(cfg: DictConfig) -> None:
        with chdir(study.start):
            _attempt(study, run, cfg)

    trouble = None
    try:
        launch(job)
    except (UserError, HydraException, OmegaConfBaseException):
        raise
    except Exception as error:  # a launcher that lost a worker, or never reached its cluster
        trouble = f"the launcher gave up: {_told(error)}"
    _close(study, trouble)


def _attempt(study: Study, run: Callable[[DictConfig], object], cfg: DictConfig) -> None:
    name = study.names[tuple(HydraConfig.get().overrides.task)]
    number = list(study.names.values()).index(name) + 1
    console.print(f"job {number}/{len(study.names)}: {name}", soft_wrap=True, highlight=False)
    OmegaConf.update(cfg, "out", str(study.folder / name))
    _leave_size(cfg)
    if OmegaConf.select(cfg, "wandb.group") is None:
        OmegaConf.update(cfg, "wandb.group", study.folder.name)
    failure = study.failure(name)
    failure.unlink(missing_ok=True)
    try:
        run(cfg)
    except Exception as error:
        text = _told(error)
        print(f"failed: {name}: {text}", file=sys.stderr)
        failure.parent.mkdir(parents=True, exist_ok=True)
        write_text(failure, f"{text}\n\n{_trace(error)}")
    gc.collect()  # a job that failed in training holds its cache still


def _told(error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    return f"{type(error).__name__}: {str(error).strip()}"


def _trace(error: Exception) -> str:
    """Where an error comes from; bad input needs no such thing."""
    return "" if isinstance(error, UserError) else "".join(traceback.format_exception(error))


def _close(study: Study, trouble: str | None) -> None:
    names = study.names.values()
    done = [study.folder / name for name in names if (study.folder / name / RESULT).is_file()]
    if len(done) > 1:
        from stagewise_kd.comparison.report import print_runs  # slow to load

        print_runs(done)
    lost = {name: reason for name in names if (reason := not_finished(study.folder, name))}
    if lost:
        lines = [f"  - {name}: {reason}" for name, reason in lost.items()]
        head = f"{len(lost)} of {len(names)} jobs in {study.folder} did not finish:"
        tail = [trouble] if trouble else []
        raise IncompleteError(
            "\n".join([head, *lines, *tail, "the same command tries these again"])
        )
    console.print(f"study: {study.folder}: all {len(names)} jobs are finished", soft_wrap=True)


def not_finished(study: Path, name: str) -> str | None:
    """Why a job of a study that has been run did not finish; None when it did."""
    if read_json(study / name / RESULT) is not None:
        return None
    if is_running(study / name):
        return "is still running"
    file = study / FAILURES / f"{name}.txt"
    if not file.is_file():
        return "its process ended before it did" if (study / name).is_dir() else "did not start"
    return file.read_text(**TEXT).split("\n\n")[0]
