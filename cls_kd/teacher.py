"""The trained teacher, loaded from a checkpoint of any origin."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import safe_open
from torch import Tensor, nn

from cls_kd.checkpoints import network_weights, resnet_weights
from cls_kd.networks import blocks_of, make_model, make_network
from cls_kd.task import Classification
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.networks.libraries import RESERVED
from stagewise_kd.networks.resnet import DEPTHS, resnet_model
from stagewise_kd.runs.student import check_task, described_student
from stagewise_kd.system.checkpoints import WEIGHTS, read_weights
from stagewise_kd.system.errors import UserError, listed
from stagewise_kd.system.files import read_json
from stagewise_kd.system.names import Config
from stagewise_kd.system.weights import load_weights


class Checkpoint(NamedTuple):
    """What a checkpoint holds, and what it tells of it: name, classes, mean, std, arguments."""

    tensors: dict[str, Tensor]
    told: dict[str, Any]


def load_teacher(config: Config, classes: list[str]) -> BlockNet:
    """The teacher of `teacher.checkpoint`: a run folder, a folder of timm's, or a file of weights.

    Args:
        config: the whole resolved config.
        classes: class names of the data set, in order.

    Raises:
        UserError: the checkpoint is unreadable, of another architecture or of other classes.
    """
    teacher, path = config["teacher"], Path(config["teacher"]["checkpoint"])
    name, (tensors, told) = teacher["name"], _read(path)
    if told.get("name") not in (None, name):
        raise UserError(
            f"{path}: holds a {told['name']}, the run asks for {name}; set teacher={told['name']}"
        )
    given = {**(told.get("arguments") or {}), **(teacher.get("arguments") or {})}
    settings = teacher | {"arguments": given}
    norm = {k: teacher[k] or told.get(k) or config["data"][k] for k in ("mean", "std")}
    source = f"{path} as {name}"
    if name in DEPTHS:
        kind, weights = resnet_weights(tensors, name, len(classes), teacher["prefix"], path)
        model: nn.Module = resnet_model(name, len(classes), kind)
        _check(path, weights, model, classes, told.get("classes"))
        net = make_network(config, settings | {"head": kind, "arguments": {}}, len(classes), norm)
        load_weights(net.model, weights, source)
        return net
    model = make_model(config, settings, len(classes))
    weights = network_weights(tensors, model, name, len(classes), teacher["prefix"], path)
    _check(path, weights, model, classes, told.get("classes"))
    load_weights(model, weights, source)
    return blocks_of(config, settings, model, len(classes), norm)


def _read(path: Path) -> Checkpoint:
    if not path.is_dir():
        return Checkpoint(read_weights(path), _metadata(path))
    config = read_json(path / "config.json")
    if config is None or (path / "network.json").is_file():
        folder, described = described_student(path)
        check_task(path, described.get("task", Classification.name), Classification.name)
        network = described["network"]
        told = {key: network.get(key) for key in ("name", "arguments")}
        told |= {key: described[key] for key in ("classes", "mean", "std")}
        return Checkpoint(read_weights(folder / WEIGHTS[0]), told)
    files = [path / name for name in WEIGHTS if (path / name).is_file()]
    if not files:
        raise UserError(f"{path}: holds a config.json, but none of {', '.join(WEIGHTS)}")
    known, name = config.get("pretrained_cfg") or config, config.get("architecture")
    told = {key: known.get(key) for key in ("mean", "std")}
    given = config.get("model_args") or {}  # newer ones tell of classes and channels here too
    told["arguments"] = {key: value for key, value in given.items() if key not in RESERVED}
    told["name"] = name and f"timm/{name}"
    return Checkpoint(read_weights(files[0]), told)


def _check(
    path: Path,
    weights: dict[str, Tensor],
    model: nn.Module,
    classes: list[str],
    known: list[str] | None,
) -> None:
    """Hold a checkpoint against the images and classes of the data."""
    expected = model.state_dict()
    first = next((key for key, value in expected.items() if value.ndim == 4), "")
    if first in weights and (taken := weights[first].shape[1:2]) != expected[first].shape[1:2]:
        raise UserError(
            f"{path}: channels of images: the teacher takes {taken[0]}, classifiers read "
            "every image as RGB, grey ones too; give a teacher of three channels"
        )
    last = [*expected][-1]
    wanted, found = expected[last].shape, weights.get(last, expected[last]).shape
    if wanted[:1] == (len(classes),) != found[:1] and wanted[1:] == found[1:]:
        raise UserError(
            f"{path}: the teacher knows {found[0]} classes, the data has {len(classes)} "
            f"({listed(classes)}); pick a teacher trained on these classes"
        )
    if known is not None and list(known) != classes:
        raise UserError(
            f"{path}: the teacher's classes are {', '.join(known[:10])}, the data's "
            f"{', '.join(classes[:10])}; rename the class folders as in the teacher's training"
        )


def _metadata(path: Path) -> dict[str, Any]:
    """What a safetensors file tells of its classes and input normalization."""
    if path.suffix != ".safetensors":
        return {}
    with safe_open(path, framework="pt") as file:
        found = file.metadata() or {}
    return {key: json.loads(found[key]) for key in ("classes", "mean", "std") if key in found}
