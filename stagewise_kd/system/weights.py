"""Weights written to files that are readable without running code, and loaded into networks."""

from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from stagewise_kd.system.errors import UserError
from stagewise_kd.system.files import write_whole

COUNTER = ".num_batches_tracked"


def write_tensors(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file whole."""
    plain: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, tensor in tensors.items():
        found = tensor.detach().cpu().contiguous()
        # A module that has two names is written twice; the format takes no shared memory.
        plain[name] = found.clone() if found.data_ptr() in places else found
        places.add(plain[name].data_ptr())
    # Not by save_file: of a full disk it makes an error of its own.
    write_whole(path, lambda temporary: temporary.write_bytes(save(plain, metadata)))


def load_weights(model: torch.nn.Module, weights: dict[str, Tensor], source: str) -> None:
    """Load weights into a model, whole or not at all.

    Only the step counters of BatchNorm may be missing: older checkpoints have none.

    Raises:
        UserError: names the first keys that are missing, unexpected or of another shape.
    """
    expected = model.state_dict()
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
