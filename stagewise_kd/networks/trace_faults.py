"""What to say of a network that cannot be traced."""

import traceback
from pathlib import Path

import torch
from torch import nn

from stagewise_kd.system.errors import UserError, first_line


def cannot_be_traced(model: nn.Module, error: Exception) -> UserError:
    """Names the line of the network's code, and the ways out.

    Args:
        model: the network.
        error: that its code has raised on a value that is none yet.
    """
    return UserError(
        f"{type(model).__name__} cannot be traced: {first_line(error)} ({_line(error)}). Leave "
        f"the module of this line whole, {_no_trace(model, error)}; or, where modules run one "
        "after the other as they are defined, name those that end a block: at=[…]"
    )


def _line(error: Exception) -> str:
    """The line of the user's code that an error comes from."""
    packages, torchs = Path(torch.__file__).parents[1], Path(torch.__file__).parent
    here = str(Path(__file__).parents[1])
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "<" not in f.filename]
    known = [f for f in frames if not f.filename.startswith((here, str(torchs)))]
    own = [f for f in known if not f.filename.startswith(str(packages))] or known
    return f"{own[-1].filename}, line {own[-1].lineno}: {own[-1].line}" if own else "in torch"


def _no_trace(model: nn.Module, error: Exception) -> str:
    """The option that leaves the module whole whose forward raised an error."""
    known = {id(module): name for name, module in model.named_modules() if name}
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    found = [known[id(me)] for f in frames if id(me := f.f_locals.get("self")) in known]
    return f"no_trace={found[-1:]}" if found else "no_trace=[…], if it is not the network itself"
