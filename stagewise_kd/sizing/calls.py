"""How a network calls its blocks, and what they give."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from stagewise_kd.networks.modes import forwards, modes_kept
from stagewise_kd.networks.outputs import logits_of


@dataclass(frozen=True)
class Call:
    """What a module was called with.

    Args:
        args: positional arguments.
        kwargs: arguments by name.
        output: what it gave.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors among the arguments."""
        given = [*self.args, *self.kwargs.values()]
        return [value for value in given if isinstance(value, Tensor)]

    def mapped(self, change: Callable[[Tensor], Tensor]) -> "Call":
        """The same with every tensor changed."""

        def each(value: Any) -> Any:
            return change(value) if isinstance(value, Tensor) else value

        kwargs = {name: each(value) for name, value in self.kwargs.items()}
        return Call(tuple(map(each, self.args)), kwargs, each(self.output))

    def again(self, module: Callable[..., Any]) -> Any:
        """What a module gives for copies of these arguments."""
        call = self.mapped(Tensor.clone)  # it may write into what it is given
        return module(*call.args, **call.kwargs)


def joined(several: Iterable[Call]) -> Call:
    """Batches of calls as one; what is no tensor is that of the first."""
    calls = [*several]

    def whole(values: Sequence[Any]) -> Any:
        tensors = [value for value in values if isinstance(value, Tensor)]
        return torch.cat(tensors) if tensors else values[0]

    args = tuple(whole(values) for values in zip(*(call.args for call in calls), strict=True))
    kwargs = {name: whole([call.kwargs[name] for call in calls]) for name in calls[0].kwargs}
    return Call(args, kwargs, whole([call.output for call in calls]))


def device_of(model: nn.Module) -> torch.device:
    """Where a network lies."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def judging(module: nn.Module) -> nn.Module:
    """A module in eval mode; a `train` of one's own may give nothing back."""
    module.eval()
    return module


def recorded(
    model: nn.Module, paths: Sequence[str], images: Tensor
) -> tuple[dict[str, list[Call]], Any]:
    """The calls of some modules in eval mode, in the order in which they end; and the logits.

    Args:
        model: its modes stay as they are.
        paths: of the modules.
        images: as the model takes them, (B, C, H, W).
    """
    found: dict[str, list[Call]] = {}
    modules = {path: model.get_submodule(path) for path in paths}

    def note(path: str, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        given = Call(args, kwargs, None).mapped(Tensor.clone)
        output = forward(*args, **kwargs)
        kept = output.clone() if isinstance(output, Tensor) else output
        found.setdefault(path, []).append(Call(given.args, given.kwargs, kept))
        return output

    noting = {one: partial(note, path, one.forward) for path, one in modules.items()}
    with modes_kept(model), torch.no_grad(), forwards(noting):
        logits = logits_of(model.eval()(images))
    return found, logits
