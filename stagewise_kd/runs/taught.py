"""The classes of data without labels: those that the teacher tells apart."""

import json
import re
from pathlib import Path

from safetensors import safe_open

from stagewise_kd.system.checkpoints import read_weights
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.files import read_json
from stagewise_kd.system.names import Config

HEAD = re.compile(r"(^|\.)(fc|classifier|head|segmentation_head)\..*weight$|(^|\.)fc\.weight$")


def taught_classes(config: Config) -> list[str]:
    """Names of the teacher's classes as its checkpoint tells them, else their numbers.

    Raises:
        UserError: there is no teacher with a checkpoint, or it tells no classes.
    """
    teacher = config["teacher"]
    if not teacher or not teacher["checkpoint"]:
        raise UserError("images without labels need a trained teacher: teacher.checkpoint=FILE")
    path = Path(teacher["checkpoint"])
    told = _of_folder(path) if path.is_dir() else _metadata(path)
    if told is None and path.is_file():
        heads = {k: v for k, v in read_weights(path).items() if HEAD.search(k) and v.ndim > 1}
        told = len([*heads.values()][-1]) if heads else None
    if told is None:
        raise UserError(f"{path}: tells no classes; give a run folder, or weights with their head")
    return told if isinstance(told, list) else [str(number) for number in range(max(told, 2))]


def _of_folder(path: Path) -> list[str] | int | None:
    """The classes of a run folder, or how many smp's own folder tells."""
    for file in (path / "student" / "network.json", path / "network.json", path / "config.json"):
        found = read_json(file)
        if found is not None and "classes" in found:
            return found["classes"]  # type: ignore[no-any-return]
    return None


def _metadata(path: Path) -> list[str] | None:
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    with safe_open(path, framework="pt") as file:
        told = (file.metadata() or {}).get("classes")
    return None if told is None else [str(name) for name in json.loads(told)]
