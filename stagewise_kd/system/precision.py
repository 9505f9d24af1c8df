"""Number formats that networks run in."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """The autocast of a Lightning precision ("bf16-mixed", …), for forward passes of our own."""
    kinds = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
    if precision not in kinds:
        return nullcontext()
    return torch.autocast(device.type, dtype=kinds[precision])


def fastest_precision(device: torch.device) -> str:
    """Lightning's name of the fastest precision of a device that costs no accuracy.

    Convolutions in bfloat16 take about 0.6 of the time on CPUs and GPUs that have it, and several
    times as long on those that emulate it.
    """
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        cpu: Any = torch.cpu
        fast = device.type == "cpu" and (
            cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported()
        )
    return "bf16-mixed" if fast else "32-true"
