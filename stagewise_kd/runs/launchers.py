"""Launchers of a study: where its jobs run, beside one after the other in this process."""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from stagewise_kd.runs.overrides import quoted
from stagewise_kd.system.errors import UserError

EXTRAS = {
    "joblib": "joblib",
    "ray": "ray",
    "submitit_local": "submitit",
    "submitit_slurm": "submitit",
}
CHOICE = "hydra/launcher="
RAY_MEMORY = "hydra.launcher.ray.init.object_store_memory"


def check_launcher(settings: Sequence[str]) -> None:
    """Raise a `UserError` that says how to install the launcher that is asked for, if missing."""
    for name in _chosen(settings):
        extra = EXTRAS.get(name)
        try:
            if extra:
                distribution(f"hydra-{extra}-launcher")
        except PackageNotFoundError:
            raise UserError(
                f"{CHOICE}{name} is not installed; run pip install 'stagewise-kd[{extra}]', "
                f"or leave {CHOICE} out: the jobs then run one after the other"
            ) from None


def launcher_settings(settings: Sequence[str], folder: Path) -> list[str]:
    """What the launchers have to know of a study beside its own settings.

    Args:
        settings: of the multirun.
        folder: of the study, absolute: a worker may start in any folder, on any machine.
    """
    own = [f"hydra.sweep.dir={quoted(str(folder))}"]
    # The launcher gives Ray a small store of objects, which Ray refuses for a running cluster.
    if "ray" in _chosen(settings) and not any(RAY_MEMORY in item for item in settings):
        own.append(f"+{RAY_MEMORY}=null")
    return own


def _chosen(settings: Sequence[str]) -> list[str]:
    return [item.removeprefix(CHOICE) for item in settings if item.startswith(CHOICE)]
