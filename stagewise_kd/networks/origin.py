"""What builds a network again: a function of ours and its arguments, never code from a file."""

from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from stagewise_kd.system.errors import UserError

HOME = "stagewise_kd.networks."


@dataclass(frozen=True)
class Origin:
    """The function that built a network.

    Args:
        build: its path, below `stagewise_kd.networks`; it returns a `BlockNet`. None: the user's
            own code, to whose network `arguments["recipe"]` is applied.
        arguments: plain values.
        files: JSON files by which the network's own library opens a folder of its weights.
    """

    build: str | None
    arguments: dict[str, Any]
    files: dict[str, Any] = field(default_factory=dict)


def rebuild(build: str | None, arguments: dict[str, Any]) -> Any:
    """The network of a function and its arguments, with random weights.

    Raises:
        UserError: the function is not one of ours.
    """
    home, _, name = (build or "").rpartition(".")
    module = import_module(home) if home.startswith(HOME) and find_spec(home) else None
    function = getattr(module, name, None)
    # not what a module there has imported
    if getattr(function, "__module__", None) != home or function is None:
        raise UserError(f"{build}: builds a network, but only functions in {HOME[:-1]} are called")
    return function(**arguments)
