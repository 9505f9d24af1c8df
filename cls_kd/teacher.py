"""The trained teacher: loaded from a checkpoint, or torchvision's ImageNet weights."""

import json
from pathlib import Path
from typing import Any
from urllib.error import URLError

from safetensors import safe_open
from torchvision.models import get_model_weights

from cls_kd.checkpoints import resnet_weights
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.networks.resnet import resnet
from stagewise_kd.runs.student import open_student
from stagewise_kd.system.checkpoints import read_weights
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.weights import load_weights


def load_teacher(config: dict[str, Any], classes: list[str]) -> BlockNet:
    """The teacher of `teacher.checkpoint`: a run folder, safetensors, or a torch file.

    Args:
        config: the whole resolved config.
        classes: class names of the data set, in order.

    Raises:
        UserError: the checkpoint is unreadable, of another architecture or of other classes.
    """
    teacher, path = config["teacher"], Path(config["teacher"]["checkpoint"])
    if path.is_dir():
        net, described = open_student(path, "classification")
        weights = net.model.state_dict()
        network, known = described["network"], described["classes"]
        if network["name"] != teacher["name"]:
            raise UserError(
                f"{path}: holds a {network['name']}, the run asks for {teacher['name']}; "
                f"set teacher={network['name']}"
            )
    else:
        weights, described = read_weights(path), _metadata(path)
        network, known = _norm(described, config["data"]), described.get("classes")
    network |= {key: teacher[key] for key in ("mean", "std") if teacher[key]}
    return _fitted(teacher["name"], weights, teacher["prefix"], network, classes, known, path)


def _fitted(
    name: str,
    tensors: dict[str, Any],
    prefix: str | None,
    network: dict[str, Any],
    classes: list[str],
    known: list[str] | None,
    path: Path,
) -> BlockNet:
    """A network of the head that the weights are of, with those weights."""
    head, weights = resnet_weights(tensors, name, len(classes), prefix, path)
    first = weights.get("conv1.weight")
    if first is not None and first.ndim == 4 and first.shape[1] != 3:
        raise UserError(
            f"{path}: channels of images: the teacher takes {first.shape[1]}, classifiers read "
            "every image as RGB, grey ones too; give a teacher of three channels"
        )
    last = weights.get("fc.weight" if head == "linear" else "fc.2.weight")
    if last is not None and len(last) != len(classes):
        raise UserError(
            f"{path}: the teacher knows {len(last)} classes, the data has {len(classes)} "
            f"({', '.join(classes[:10])}); pick a teacher trained on these classes"
        )
    if known is not None and list(known) != classes:
        raise UserError(
            f"{path}: the teacher's classes are {', '.join(known[:10])}, the data's "
            f"{', '.join(classes[:10])}; rename the class folders as in the teacher's training"
        )
    net = resnet(name, len(classes), head, network["mean"], network["std"])
    load_weights(net.model, weights, f"{path} as {name}")
    return net


def _metadata(path: Path) -> dict[str, Any]:
    """What a safetensors file tells of its classes and input normalization."""
    if path.suffix != ".safetensors":
        return {}
    with safe_open(path, framework="pt") as file:
        found = file.metadata() or {}
    return {key: json.loads(found[key]) for key in ("classes", "mean", "std") if key in found}


def _norm(described: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    return {key: described.get(key) or data[key] for key in ("mean", "std")}


def pretrained(name: str, classes: int) -> BlockNet:
    """Torchvision's ImageNet weights under a fresh head, with ImageNet's normalization.

    Raises:
        UserError: torchvision has none for this network, or they cannot be fetched.
    """
    try:
        entry: Any = get_model_weights(name).DEFAULT  # type: ignore[attr-defined]
    except ValueError:
        raise UserError(f"torchvision has no ImageNet weights for {name}") from None
    try:
        weights = entry.get_state_dict(progress=True, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        raise UserError(
            f"teacher.pretrained=true: cannot fetch {entry.url} ({error}); connect to the network, "
            "or give teacher.checkpoint=FILE"
        ) from None
    net = resnet(name, classes)  # with ImageNet's normalization
    head = {key: value for key, value in net.model.state_dict().items() if key.startswith("fc.")}
    body = {key: value for key, value in weights.items() if not key.startswith("fc.")}
    load_weights(net.model, body | head, entry.url)
    return net
