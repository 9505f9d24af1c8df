"""Several processes on one run: who is first, and how the others start."""

import os
import platform
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# torch is imported where it is used: a message about a misspelled setting need not wait for it.


def rank() -> int:
    """Number of this process in the run; 0 writes the files."""
    dist = _started()
    return dist.get_rank() if dist else 0


def world_size() -> int:
    """How many processes share the run."""
    dist = _started()
    return dist.get_world_size() if dist else 1


def barrier() -> None:
    """Wait for all processes of the run."""
    if dist := _started():
        dist.barrier()


def _started() -> Any:
    """`torch.distributed` where several processes share the run."""
    import torch.distributed as dist

    return dist if dist.is_initialized() else None


def from_first(value: Any) -> Any:
    """What the first process has found, in all of them."""
    found = [value]
    if dist := _started():
        dist.broadcast_object_list(found, src=0)
    return found[0]


def device_count(trainer: dict[str, Any]) -> int:
    """How many devices the options of a Lightning trainer ask for on this machine."""
    import torch

    devices = trainer.get("devices", 1)
    if devices in ("auto", -1, "-1"):
        on_cpu = trainer.get("accelerator") == "cpu" or not torch.accelerator.is_available()
        return 1 if on_cpu else torch.accelerator.device_count()
    return int(devices) if isinstance(devices, int | str) else len(devices)


def local_device(trainer: dict[str, Any]) -> "torch.device":
    """The device of this process, by the options of a Lightning trainer."""
    import torch

    found = torch.accelerator.current_accelerator(check_available=True)
    if trainer.get("accelerator") == "cpu" or found is None:
        return torch.device("cpu")
    devices = trainer.get("devices")
    if not isinstance(devices, list):
        return found  # its current one
    return torch.device(found.type, devices[int(os.environ.get("LOCAL_RANK", 0))])


def device_name(device: "torch.device") -> str:
    """The device's own name, as a reader of a table wants it."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()} CPU, {torch.get_num_threads()} threads"


@contextmanager
def processes(command: Sequence[str], trainer: dict[str, Any]) -> Iterator[None]:
    """Join the processes of this run, and start them first where nobody has.

    A launcher such as torchrun that has set RANK and LOCAL_RANK is left to its work. Otherwise this
    process becomes the first and starts the others with `command`.
    """
    count = device_count(trainer)
    if count == 1 and int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield
        return
    import torch
    import torch.distributed as dist

    children = [] if "LOCAL_RANK" in os.environ else _start(command, count)
    ended = threading.Event()
    threading.Thread(target=_watch, args=(children, ended), daemon=True).start()
    try:
        on_gpu = torch.cuda.is_available() and trainer.get("accelerator") != "cpu"
        if on_gpu:
            place = local_device(trainer)
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) if place.index is None else place)
        # The others wait while the first fills a cache or another job trains the teacher.
        dist.init_process_group("nccl" if on_gpu else "gloo", timeout=timedelta(days=7))
        yield
        _finish(children)
    finally:
        ended.set()
        for child in children:
            child.kill()
            child.wait()
        if dist.is_initialized():
            dist.destroy_process_group()
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE") if children else ():
            os.environ.pop(name, None)


def _start(command: Sequence[str], count: int) -> list[subprocess.Popen[bytes]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    ranks = [{"RANK": str(n), "LOCAL_RANK": str(n)} for n in range(count)]
    children = [
        subprocess.Popen(
            [sys.executable, *command], env=os.environ | place, stdout=subprocess.DEVNULL
        )
        for place in ranks[1:]
    ]
    os.environ |= ranks[0]
    return children


def _watch(
    children: list[subprocess.Popen[bytes]], ended: threading.Event, patience: float = 60
) -> None:
    """End this process where another has failed: over NCCL it would wait for that for days.

    Args:
        children: the others.
        ended: set when the run has ended.
        patience: seconds in which this one may find the same fault and tell of it.
    """
    while not ended.wait(1) and not any(child.poll() for child in children):
        pass
    if not ended.wait(patience):
        for child in children:
            child.kill()
        print("another process of this run has failed; see its message", file=sys.stderr)
        os._exit(1)


def _finish(children: list[subprocess.Popen[bytes]]) -> None:
    codes = [child.wait() for child in children]
    if any(codes):
        raise RuntimeError(f"processes of this run ended with status {codes}; see their messages")
