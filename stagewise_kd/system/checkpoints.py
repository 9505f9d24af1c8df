"""Tensors of files that others have written, read without running any code in them."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from stagewise_kd.system.errors import UserError

# What training scripts keep beside their weights: paths, figures, settings.
BESIDE = {"argparse", "builtins", "collections", "numpy", "omegaconf", "pathlib", "typing"}
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # in folders of libraries, and in ours


class Unread:
    """Stands for a value that is no tensor: nothing of its class is ever called."""

    def __init__(self, *args: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a safetensors or torch file, by name.

    Names of nested dicts are joined by points, such as "state_dict.conv1.weight".

    Raises:
        UserError: the file is missing, damaged, or holds no tensors.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a trained checkpoint")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: not a readable safetensors file ({error})") from None
    tensors = dict(_tensors(_read(path)))
    if not tensors:
        raise UserError(f"{path}: holds no tensors, expected a state dict")
    return tensors


def _tensors(found: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(found, Tensor):
        yield name, found
    elif isinstance(found, dict):
        for key, value in found.items():
            yield from _tensors(value, f"{name}.{key}" if name else str(key))


def _read(path: Path) -> Any:
    names = _classes(path)
    if strangers := [name for name in names if name.split(".")[0] not in BESIDE]:
        shown = ", ".join(strangers[:3]) + (", …" if len(strangers) > 3 else "")
        is_network = any(name.startswith("torch.nn.modules.") for name in strangers)
        weights = ".state_dict()" if is_network else '["state_dict"]'
        raise UserError(
            f"{path}: holds objects of {shown} beside tensors, and reading those could run any "
            "code; where you trust the file, save the weights alone: "
            f'torch.save(torch.load("{path.name}", weights_only=False){weights}, "weights.pt")'
        )
    kinds: dict[str, Any] = dict.fromkeys((*names, "argparse.Namespace"), Unread)
    kinds["collections.defaultdict"] = lambda *default: {}
    try:
        # Warnings of a foreign pickle's protocol are of no use to the reader.
        allowed = safe_globals([(kind, name) for name, kind in kinds.items()])
        with warnings.catch_warnings(action="ignore"), allowed:
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises nearly anything on a file that is none of its
        raise UserError(
            f"{path}: not a checkpoint that can be read safely ({type(error).__name__}); expected "
            "safetensors, or a file of torch.save(network.state_dict(), FILE)"
        ) from None


def _classes(path: Path) -> list[str]:
    """Names of the classes and functions in a torch file that are not torch's own."""
    try:
        names = get_unsafe_globals_in_checkpoint(str(path))
    except Exception:  # of another format; reading it tells whether it is one
        return []
    return sorted(names, key=lambda name: (name.startswith("torch."), name))
