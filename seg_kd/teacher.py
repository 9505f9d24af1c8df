"""The trained network that a student learns from."""

from pathlib import Path
from typing import Any

from seg_kd.architecture import called, encoder_of
from seg_kd.networks import open_smp, open_weights
from stagewise_kd.methods.method import Method, about, takes
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.networks.encoders import timms_name
from stagewise_kd.runs.student import open_student
from stagewise_kd.system.errors import UserError, raise_faults
from stagewise_kd.system.names import SHRUNK


def load_teacher(config: dict[str, Any], network: dict[str, Any], classes: list[str]) -> BlockNet:
    """The teacher of `teacher.checkpoint`.

    Args:
        config: the whole resolved config.
        network: the arguments of `segmenter` that the config asks for; a file of weights is loaded
            into such a network, folders tell their own.
        classes: class names of the data set, in order.

    Raises:
        UserError: the checkpoint is unreadable, of another architecture or of other classes.
    """
    teacher, path = config["teacher"], Path(config["teacher"]["checkpoint"])
    known = None
    if (path / "config.json").is_file() and not (path / "network.json").is_file():
        net = open_smp(path, teacher["mean"], teacher["std"])
    elif path.is_dir():
        net, described = open_student(path, "segmentation")
        known = described["classes"]
    else:
        given = {key: teacher[key] for key in ("mean", "std") if teacher[key]}
        net = open_weights(path, network | given, teacher["prefix"])
    _check(path, net, config, classes, known, network["channels"])
    return net


def _check(
    path: Path,
    net: BlockNet,
    config: dict[str, Any],
    classes: list[str],
    known: list[str] | None,
    channels: int,
) -> None:
    faults = []
    found = net.origin.arguments if net.origin else {}
    wanted = config["teacher"]["name"]
    if timms_name(found["encoder"]) != timms_name(encoder_of(wanted)):
        own = called(found["encoder"])
        faults.append(
            f"it holds a {found['encoder']} encoder, the run asks for {wanted}; set teacher={own}"
        )
    if found["model"] != config["model"]["name"]:
        faults.append(
            f"it is a {type(net.model).__name__}, the run asks for model="
            f"{config['model']['name']}; set model={found['model']}"
        )
    if found["channels"] != channels:
        converts = {1: ", which reads colours as grey", 3: ", which reads grey images as RGB"}
        faults.append(
            f"channels of images: it takes {found['channels']}, the run gives {channels}; "
            f"set data.channels={found['channels']}{converts.get(found['channels'], '')}"
        )
    if found["classes"] != len(classes) and (found["classes"], len(classes)) != (1, 2):
        faults.append(
            f"classes: it knows {found['classes']}, the data has {len(classes)} "
            f"({', '.join(classes[:12])}); pick a teacher trained on these classes"
        )
    elif known is not None and known != classes:
        faults.append(
            f"its classes are {', '.join(known[:12])}, the data's {', '.join(classes[:12])}; "
            "give the data the teacher's classes in their order"
        )
    raise_faults(f"{path}: cannot teach this run", faults)


def check_decoder(decoder: dict[str, Any], method: Method) -> None:
    """Check that method and decoder go together.

    Raises:
        UserError: they do not.
    """
    name = decoder["name"]
    if name == "teacher" and not about(method).needs_teacher:
        raise UserError(
            "decoder=teacher: the method takes nothing from a teacher; "
            "use decoder=default or decoder=matched"
        )
    if not decoder["train"] and not (name in ("teacher", SHRUNK) and takes(method, "head")):
        raise UserError(
            "decoder.train=false keeps the teacher's decoder under a distilled encoder; "
            "set decoder=teacher method=stagewise"
        )
