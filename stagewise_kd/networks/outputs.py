"""The logits among what a network gives, a dict or those of further heads too."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx, nn

from stagewise_kd.networks.pieces import behind
from stagewise_kd.networks.tracing import Trace

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
    *_, output = trace.nodes
    given: Any = output.args[0]
    named = isinstance(given, fx.Node) and isinstance(given.target, type)  # a namedtuple
    logits = first_of(tuple(given.args) if named else given)
    if logits is given or not isinstance(logits, fx.Node):
        return trace
    made = {*behind(output, ())} - {output, trace.nodes[0]}
    output.args = (logits,)
    for node in reversed(trace.nodes):
        if node in made and not node.users:
            output.graph.erase_node(node)
    return Trace(list(output.graph.nodes), trace.paths)
