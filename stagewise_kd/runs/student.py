"""A finished student in its folder: weights, and what rebuilds the network around them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, overload

import torch
from torch import nn

from stagewise_kd.data.image_files import sides
from stagewise_kd.data.preparing import Preprocess
from stagewise_kd.networks.blocks import Block, BlockNet
from stagewise_kd.networks.origin import rebuild
from stagewise_kd.networks.outputs import Logits
from stagewise_kd.networks.shrunk import apply
from stagewise_kd.system.checkpoints import read_weights
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.files import read_json, write_json
from stagewise_kd.system.weights import load_weights, write_tensors


def save_student(folder: Path, net: BlockNet, described: dict[str, Any]) -> None:
    """Write the weights, network.json, and the files that the network's own library wants.

    Args:
        folder: made where it is missing.
        net: the student.
        described: further keys of network.json: task, classes, size, ….
    """
    folder.mkdir(exist_ok=True)
    write_tensors(folder / "model.safetensors", net.model.state_dict())
    origin = net.origin
    network = {
        "build": origin.build if origin else None,
        "network": origin.arguments if origin else {"class": type(net.model).__qualname__},
        "mean": net.mean.flatten().tolist(),
        "std": net.std.flatten().tolist(),
    }
    files = {"network.json": described | network, **(origin.files if origin else {})}
    for name, content in files.items():
        write_json(folder / name, content)


@overload
def load(
    run: str | Path,
    factory: Callable[[], nn.Module] | None = None,
    with_preprocess: Literal[False] = False,
    task: str | None = None,
) -> nn.Module: ...
@overload
def load(
    run: str | Path,
    factory: Callable[[], nn.Module] | None = None,
    *,
    with_preprocess: Literal[True],
    task: str | None = None,
) -> tuple[nn.Module, Preprocess]: ...
@torch.inference_mode(mode=False)  # its parameters can learn, wherever it is opened
def load(
    run: str | Path,
    factory: Callable[[], nn.Module] | None = None,
    with_preprocess: bool = False,
    task: str | None = None,
) -> nn.Module | tuple[nn.Module, Preprocess]:
    """The student of a finished run: the plain network, in eval mode, for normalized images.

    Args:
        run: the run folder, or its student/ folder.
        factory: builds a network of the user's own, which no file is trusted to name.
        with_preprocess: give a pair of the network and the transform that makes its input of a PIL
            image or a uint8 tensor; together they give the logits of `predict`, bit for bit.
        task: what the student must have been trained for, such as "classification"; None: any.

    Raises:
        UserError: there is no finished student, it is of another task, it needs a factory and has
            none, or its own data set prepared its images in a way that no file tells.
    """
    net, described = open_student(Path(run), task, factory)
    # In the memory format of a network just built, so that outputs agree to the last bit; beside
    # its preprocessing, in that of predicting.
    form = torch.channels_last if with_preprocess else torch.contiguous_format
    model: nn.Module = net.model.to(memory_format=form)  # type: ignore[call-overload]
    return (model, preprocess_of(Path(run), net, described)) if with_preprocess else model


def preprocess_of(path: Path, net: BlockNet, described: dict[str, Any]) -> Preprocess:
    """What makes a student's input of a picture.

    Raises:
        UserError: no file tells, or the network takes no pictures.
    """
    check_pictures(path, described)
    size, mean, std = described.get("size"), net.mean.flatten(), net.std.flatten()
    crops = described.get("task") == "classification"  # a mask is of the whole picture
    return Preprocess(size and sides(size), mean.tolist(), std.tolist(), crops)


def check_pictures(path: Path, described: dict[str, Any]) -> None:
    """Raise a `UserError` where a student was trained on other images than those of files."""
    if described.get("images") == "prepared":
        raise UserError(
            f"{path}: was trained on images that its own data set had prepared in a way that no "
            "file tells; predict with stagewise_kd.load and that code"
        )


@torch.inference_mode(mode=False)  # its parameters can learn, wherever it is opened
def open_student(
    path: Path, task: str | None = None, factory: Callable[[], nn.Module] | None = None
) -> tuple[BlockNet, dict[str, Any]]:
    """The student of a finished run as blocks, in eval mode, and its description.

    Args:
        path: the run folder, or its student/ folder.
        task: what the student must have been trained for, such as "classification"; None: any.
        factory: builds a network of the user's own.

    Raises:
        UserError: there is no finished student, it is of another task, or its files are damaged.
    """
    folder, described = described_student(path)
    if task is not None:
        check_task(path, described.get("task", task), task)
    weights = read_weights(folder / "model.safetensors")
    net = _built(path, described, factory)
    load_weights(net.model, weights, str(path))
    return net.eval(), described


def check_task(path: Path, found: str, wanted: str) -> None:
    """Raise a `UserError` where a run is of another task."""
    if found != wanted:
        raise UserError(
            f"{path}: is a {found} run, expected a {wanted} run; "
            f"give another folder, or use the command line for {found}"
        )


def described_student(path: Path) -> tuple[Path, dict[str, Any]]:
    """The folder of a student, of a run folder or itself, and what its network.json tells.

    Raises:
        UserError: there is none.
    """
    for folder in (path / "student", path):
        described = read_json(folder / "network.json")
        if described is not None:
            return folder, described
    raise UserError(f"{path}: holds no finished student; give the folder of a finished run")


def _built(
    path: Path, described: dict[str, Any], factory: Callable[[], nn.Module] | None
) -> BlockNet:
    if factory is None:
        if not described.get("build"):
            kind = described["network"].get("class", "network of your own")
            raise UserError(
                f"{path}: holds a {kind}, which only your own code can build; give it: --factory "
                "module:function, or in Python load(RUN, factory=FUNCTION) with one that returns it"
            )
        net: BlockNet = rebuild(described["build"], described["network"])
    else:
        whole = None if isinstance(factory, nn.Module) else factory()
        if not isinstance(whole, nn.Module):
            raise UserError("factory: give a function that returns the network, or its class")
        apply(whole, described["network"].get("recipe", ()))
        net = BlockNet(whole, [Block("model", Logits(whole), ("image",), "head")], (0.0,), (1.0,))
    for name in ("mean", "std"):
        values = torch.tensor(described[name]).view(-1, 1, 1)
        net.register_buffer(name, values, persistent=False)
    return net
