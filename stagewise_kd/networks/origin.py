"""What builds a network again: a function of ours and its arguments, never code from a file."""

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from stagewise_kd.system.errors import UserError

HOME = "stagewise_kd.networks."


@dataclass(frozen=True)
class Origin:
    """The function that built a network.

    Args:
        build: its path, below `stagewise_kd.networks`; it returns a `BlockNet`.
        arguments: plain values.
        files: JSON files by which the network's own library opens a folder of its weights.
    """

    build: str
    arguments: dict[str, Any]
    files: dict[str, Any] = field(default_factory=dict)


def rebuild(build: str, arguments: dict[str, Any]) -> Any:
    """The network of a function and its arguments, with random weights.

    Raises:
        UserError: the function is not one of ours.
    """
    module, _, function = build.rpartition(".")
    if not build.startswith(HOME):
        raise UserError(f"{build}: builds a network, but only functions in {HOME[:-1]} are called")
    return getattr(import_module(module), function)(**arguments)
