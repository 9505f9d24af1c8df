"""Data without labels: what the teacher tells of its classes, and what asks for labels."""

import json
import re
from pathlib import Path
from typing import Any

from safetensors import safe_open

from stagewise_kd.methods.method import about
from stagewise_kd.runs.method import method_of
from stagewise_kd.system.checkpoints import read_weights
from stagewise_kd.system.errors import UserError, raise_faults
from stagewise_kd.system.files import read_json
from stagewise_kd.system.names import Config, method_name

HEAD = re.compile(r"(^|\.)(fc|classifier|head|segmentation_head)\..*weight$|(^|\.)fc\.weight$")


def check_without_labels(config: Config) -> None:
    """Check that nothing asks for labels that the data has not.

    Raises:
        UserError: lists all that does.
    """
    options, faults = config["method"], []
    if not about(method_of(config)).needs_teacher:
        faults.append(f"method={method_name(config)}: set method=stagewise")
    if options.get("head") == "labels":
        faults.append("method.head=labels: set method.head=teacher")
    if options.get("finetune") in ("labels", "both"):
        faults.append(f"method.finetune={options['finetune']}: set method.finetune=logits")
    if options.get("label_weight"):
        faults.append(f"method.label_weight={options['label_weight']}: set method.label_weight=0")
    if config["eval"]["protocol"] == "paper":
        faults.append("eval.protocol=paper: set eval.protocol=holdout")
    raise_faults("the images have no labels, and this asks for some", faults)


def taught(config: Config) -> dict[str, Any]:
    """What the teacher's checkpoint tells: names of `classes`, else their numbers, and a `palette`.

    Raises:
        UserError: there is no teacher with a checkpoint, or it tells no classes.
    """
    teacher = config["teacher"]
    if not teacher or not teacher["checkpoint"]:
        raise UserError("images without labels need a trained teacher: teacher.checkpoint=FILE")
    path = Path(teacher["checkpoint"])
    found = _of_folder(path) if path.is_dir() else {"classes": _metadata(path)}
    told = found.get("classes")
    if told is None and path.is_file():
        heads = {k: v for k, v in read_weights(path).items() if HEAD.search(k) and v.ndim > 1}
        told = len([*heads.values()][-1]) if heads else None
    if told is None:
        raise UserError(f"{path}: tells no classes; give a run folder, or weights with their head")
    classes = told if isinstance(told, list) else [str(number) for number in range(max(told, 2))]
    return {"classes": classes, "palette": found.get("palette")}


def _of_folder(path: Path) -> dict[str, Any]:
    """What a run folder tells, or smp's own folder, which tells how many classes there are."""
    for file in (path / "student" / "network.json", path / "network.json", path / "config.json"):
        found = read_json(file)
        if found is not None and "classes" in found:
            return dict(found)
    return {}


def _metadata(path: Path) -> list[str] | None:
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    with safe_open(path, framework="pt") as file:
        told = (file.metadata() or {}).get("classes")
    return None if told is None else [str(name) for name in json.loads(told)]
