"""Networks that a function of the user's own builds: `module:function`."""

import sys
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from torch import nn

from stagewise_kd.runs.student import described_student
from stagewise_kd.system.errors import UserError, first_line, listed


def own_model(name: str, classes: int, arguments: Mapping[str, Any] | None = None) -> nn.Module:
    """What `module:function` returns, called with num_classes and further arguments.

    The module is looked for as by `python -m`, in the current folder first.

    Raises:
        UserError: there is no such module or function, or it fails or gives no network.
    """
    function = _found(name)
    given = {"num_classes": classes, **(arguments or {})}
    call = f"{name.partition(':')[2]}({', '.join(f'{k}={v!r}' for k, v in given.items())})"
    try:
        model = function(**given)
    except Exception as error:  # of the user's own code any
        raise UserError(f"{name}: {call} failed: {first_line(error)}{_place(error)}") from None
    if not isinstance(model, nn.Module):
        raise UserError(
            f"{name}: {call} gives a {type(model).__name__}; expected a torch.nn.Module that gives "
            "logits"
        )
    return model


def factory_of(run: Path, name: str | None) -> Callable[[], nn.Module] | None:
    """What builds the student of a run by `--factory module:function`; None where none is given.

    It gets the arguments that the student was built with.
    """
    if name is None:
        return None
    _, described = described_student(run)
    config: Any = OmegaConf.to_container(OmegaConf.load(run / "config.yaml"))
    of_teacher = config["student"]["name"] == "shrunk"  # which is the teacher's network, changed
    settings = config["teacher" if of_teacher else "student"]
    return partial(own_model, name, len(described["classes"]), settings.get("arguments"))


def _found(name: str) -> Any:
    home, _, function = name.partition(":")
    if home.endswith(".py") or not all(n.isidentifier() for n in [*home.split("."), function]):
        raise UserError(
            f"{name}: expected module:function, such as "
            f"{home.removesuffix('.py').replace('/', '.').strip('.') or 'nets'}:"
            f"{function or 'build'} of a file that lies here"
        )
    module = _imported(name, home)
    if not callable(found := getattr(module, function, None)):
        there = [key for key, value in vars(module).items() if _is_own(value, home)]
        raise UserError(
            f"{name}: {home} has no function {function}; it has {listed(there) or 'none'}"
        )
    return found


def _imported(name: str, home: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return import_module(home)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{home}.".startswith(f"{error.name}."):
            raise UserError(
                f"{name}: there is no module {error.name} in {here} or among the installed ones"
            ) from None
        raise UserError(f"{name}: {home} imports {error.name}, which is not there") from None
    except Exception as error:  # of the user's own code any
        raise UserError(
            f"{name}: {home} cannot be imported: {first_line(error)}{_place(error)}"
        ) from None


def _is_own(value: Any, home: str) -> bool:
    return callable(value) and getattr(value, "__module__", None) == home


def _place(error: Exception) -> str:
    """The last line of code that an error has passed outside of this file."""
    if isinstance(error, SyntaxError):
        return f" ({error.filename}, line {error.lineno})"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__]
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
