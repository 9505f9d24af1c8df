"""Weights in files that are readable without running code."""

import argparse
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from stagewise_kd.system.errors import UserError
from stagewise_kd.system.files import write_whole

COUNTER = ".num_batches_tracked"


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file whole."""
    plain: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, tensor in tensors.items():
        found = tensor.detach().cpu().contiguous()
        # A module that has two names is written twice; the format takes no shared memory.
        plain[name] = found.clone() if found.data_ptr() in places else found
        places.add(plain[name].data_ptr())
    # Not by save_file: of a full disk it makes an error of its own.
    write_whole(path, lambda temporary: temporary.write_bytes(save(plain)))


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict from safetensors or from a torch file, never running code in it.

    Of a torch file, the dict under "state_dict", "model_state_dict" or "model" is taken where
    there is one.

    Raises:
        UserError: the file is missing, damaged, or holds no state dict.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a trained checkpoint")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: not a readable safetensors file ({error})") from None
    try:
        # Of a foreign pickle's protocol; torchvision's own scripts keep their arguments.
        namespace = torch.serialization.safe_globals([argparse.Namespace])
        with warnings.catch_warnings(action="ignore"), namespace:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises nearly anything on a file that is none of its
        raise UserError(
            f"{path}: not a checkpoint that can be read safely "
            f"({type(error).__name__}); expected safetensors or a file of tensors from torch.save"
        ) from None
    return _state_dict(path, found)


def _state_dict(path: Path, found: Any) -> dict[str, Tensor]:
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds a {type(found).__name__}, expected a state dict of tensors")
    tensors = {str(k): v for k, v in found.items() if isinstance(v, Tensor)}
    if not tensors:
        raise UserError(f"{path}: holds no tensors, expected a state dict")
    return tensors


def strip_prefix(weights: dict[str, Tensor], wanted: set[str]) -> dict[str, Tensor]:
    """Drop the prefix ("model.", "module.", …) that stands before every wanted key."""
    if wanted & weights.keys():
        return weights
    for key in weights:
        for prefix in (key[: i + 1] for i, letter in enumerate(key) if letter == "."):
            if key.removeprefix(prefix) in wanted:
                return {
                    k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)
                }
    return weights


def load_weights(model: torch.nn.Module, weights: dict[str, Tensor], source: str) -> None:
    """Load weights into a model, whole or not at all.

    Only the step counters of BatchNorm may be missing: older checkpoints have none.

    Raises:
        UserError: names the first keys that are missing, unexpected or of another shape.
    """
    expected = model.state_dict()
    weights = strip_prefix(weights, set(expected))
    missing = expected.keys() - weights.keys()
    faults = [
        f"missing {', '.join(_first({k for k in missing if not k.endswith(COUNTER)}))}",
        f"unexpected {', '.join(_first(weights.keys() - expected.keys()))}",
        *(
            f"{key} is {tuple(weights[key].shape)}, expected {tuple(expected[key].shape)}"
            for key in expected
            if key in weights and weights[key].shape != expected[key].shape
        ),
    ]
    found = [fault for fault in faults if not fault.endswith(" ")]
    if found:
        raise UserError(
            f"{source}: does not fit {type(model).__name__}: {'; '.join(found[:4])}; "
            "pick the architecture that it was trained with"
        )
    model.load_state_dict(expected | weights)


def _first(keys: set[str]) -> list[str]:
    listed = sorted(keys)
    return [*listed[:3], f"and {len(listed) - 3} more"] if len(listed) > 3 else listed
