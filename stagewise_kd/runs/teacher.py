"""The teacher that a run trains for itself, and keeps for later runs."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from stagewise_kd.data.identity import source_hash
from stagewise_kd.data.samples import Source
from stagewise_kd.methods.method import about
from stagewise_kd.runs.config import to_yaml, untracked
from stagewise_kd.runs.experiment import Experiment, bring_to_end
from stagewise_kd.runs.front_end import FrontEnd
from stagewise_kd.runs.method import method_of
from stagewise_kd.system.console import console
from stagewise_kd.system.files import path_of
from stagewise_kd.system.names import Config, file_name
from stagewise_kd.system.processes import rank

OF_STUDENT = ("target", "shrink")


def needs_teacher(config: Config) -> bool:
    """Whether the run needs a teacher and has none; one that needs none is scored alone."""
    teacher = config["teacher"]
    wanted = bool(teacher) and not teacher["checkpoint"]
    return wanted and about(method_of(config)).needs_teacher


def trained_teacher(
    build: Callable[[Config, str, Path], Experiment],
    config: Config,
    front_end: FrontEnd,
    source: Source,
) -> Config:
    """Train the teacher unless an earlier run has, and point the config at it.

    Args:
        build: makes the experiment.
        config: the whole resolved config.
        front_end: tells what is other in the teacher's own run.
        source: the data set; a teacher belongs to its content.
    """
    wanted = teacher_config(config, front_end)
    key = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:8]
    name = f"{file_name(config['teacher']['name'])}-{file_name(config['data']['name'])}-{key}"
    store = path_of(str(config["teacher"]["store"])).absolute()
    folder = store / f"{name}-{source_hash(source)[:8]}"
    if not folder.exists() and rank() == 0 and (others := sorted(store.glob(f"{name}-*"))):
        console.print(
            f"{others[0]}: was trained on other content of this data set; the teacher is trained "
            "anew",
            soft_wrap=True,
        )
    text = to_yaml(wanted)
    bring_to_end(folder, text, lambda: build(wanted, text, folder), True, "teacher.store")
    return config | {"teacher": config["teacher"] | {"checkpoint": str(folder)}}


def teacher_config(config: Config, front_end: FrontEnd) -> Config:
    """The config of the run that trains the teacher: the teacher as a student without teacher."""
    teacher = config["teacher"]
    own = {key: value for key, value in untracked(config).items() if key not in OF_STUDENT}
    return own | {
        "teacher": None,
        "method": {"_target_": "stagewise_kd.methods.no_teacher.no_teacher", "_partial_": True},
        "schedule": "sequential",
        "match": None,
        "budget": "paper",
        "graft": True,
        "cache": None,
        "epochs": teacher["epochs"],
        "steps": None,
        "seed": teacher["seed"],
        **front_end.teacher_changes(config),
    }
