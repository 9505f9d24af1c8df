"""A finished student in its folder."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from stagewise_kd.system.errors import UserError
from stagewise_kd.system.files import read_weights, write_json, write_tensors
from stagewise_kd.system.run_folder import read_json


def save_student(folder: Path, model: nn.Module, files: dict[str, Any]) -> None:
    """Write weights and what rebuilds the network."""
    folder.mkdir(exist_ok=True)
    write_tensors(folder / "model.safetensors", model.state_dict())
    for name, content in files.items():
        if content is not None:
            write_json(folder / name, content)


def load_student(path: Path, task: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and description of a finished run's student.

    Args:
        path: the run folder, or its student/ folder.
        task: what the student must have been trained for, such as "classification".

    Raises:
        UserError: there is no finished student, it is of another task, or its files are damaged.
    """
    for folder in (path / "student", path):
        network = read_json(folder / "network.json")
        if network is not None:
            _check_task(path, network.get("task", task), task)
            return read_weights(folder / "model.safetensors"), network
    raise UserError(f"{path}: holds no finished student; give the folder of a finished run")


def _check_task(path: Path, found: str, wanted: str) -> None:
    if found != wanted:
        raise UserError(
            f"{path}: is a {found} run, expected a {wanted} run; "
            f"give another folder, or use the command line for {found}"
        )
