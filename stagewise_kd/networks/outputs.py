"""The logits among what a network gives, a dict or those of further heads too."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from stagewise_kd.networks.modes import modes_kept
from stagewise_kd.networks.pieces import behind
from stagewise_kd.networks.tracing import Trace
from stagewise_kd.system.errors import UserError, first_line

NAMES = ("out", "logits")  # of torchvision's segmentation networks; of transformers


def logits_of(given: Any) -> Any:
    """The logits of what a network gives in eval mode; of no dict with such, what it gives."""
    if not isinstance(given, Mapping):
        return given
    return next((given[name] for name in NAMES if name in given), given)


def first_of(given: Any) -> Any:
    """Of what a network gives in training the logits, which come before those of further heads."""
    given = logits_of(given)
    return given[0] if isinstance(given, tuple | list) and given else given


def output(model: nn.Module, images: Tensor) -> Any:
    """The logits that a model gives in eval mode; its modes stay as they are."""
    with modes_kept(model), torch.no_grad():
        return logits_of(model.eval()(images))


def taken(model: nn.Module, images: Tensor) -> Any:
    """The logits that a model gives in eval mode.

    Raises:
        UserError: it cannot take the images.
    """
    try:
        return output(model, images)
    except Exception as error:  # of the user's own code any
        raise cannot_take(type(model).__name__, images.shape[1:], error) from None


def cannot_take(name: str, shape: Sequence[int], error: Exception) -> UserError:
    """What to raise where a network fails on images (C, H, W)."""
    grey = "; a network of three channels takes grey images as image.expand(3, -1, -1)"
    return UserError(
        f"{name} cannot take images of {tuple(shape)} (channels, height, width): "
        f"{first_line(error)}{grey if shape[0] == 1 else ''}"
    )


class Logits(nn.Module):
    """A whole network that gives its logits alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Logits of normalized images (B, C, H, W)."""
        given = self.model(x)
        found: Tensor = first_of(given) if self.training else logits_of(given)
        return found


def only_logits(trace: Trace) -> Trace:
    """A trace that ends with the logits, without what is there for other outputs alone."""
    *_, end = trace.nodes
    given: Any = end.args[0]
    named = isinstance(given, fx.Node) and isinstance(given.target, type)  # a namedtuple
    logits = first_of(tuple(given.args) if named else given)
    if logits is given or not isinstance(logits, fx.Node):
        return trace
    made = {*behind(end, ())} - {end, trace.nodes[0]}
    end.args = (logits,)
    for node in reversed(trace.nodes):
        if node in made and not node.users:
            end.graph.erase_node(node)
    return trace._replace(nodes=list(end.graph.nodes))
