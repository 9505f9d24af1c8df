"""What a network computes of the sides of its features alone: the same for all images of a size."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

Constants = dict[fx.Node, Any]


def constants_of(model: nn.Module, graph: fx.Graph, example: Tensor) -> Constants:
    """Values that depend on no pixel, no parameter and no number of images, by their nodes.

    Such as the rotary embedding of places, which every block of a ViT reads.

    Args:
        model: the network in eval mode.
        graph: what it computes.
        example: images (B, C, H, W).
    """
    if not any(_asks(node) for node in graph.nodes):
        return {}
    few, more = (_Constants(fx.GraphModule(model, graph)) for _ in range(2))
    with torch.no_grad(), torch.random.fork_rng(devices=[]), _kept(model):
        for count, runner in ((2, few), (3, more)):
            try:
                runner.run(example[:1].expand(count, -1, -1, -1))
            except Exception:  # of a trace of training that does not run in eval mode
                return {}
    return {node: value for node, value in few.found.items() if _same(value, more.found[node])}


class _Constants(fx.Interpreter):
    """Runs a graph and keeps what comes of shapes, buffers and numbers alone."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.found: Constants = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run one node."""
        value = super().run_node(n)
        given = n.all_input_nodes
        of_these = bool(given) and self.found.keys() >= {*given} and not self._learns(n)
        if of_these or _asks(n) or (n.op == "get_attr" and not isinstance(value, nn.Parameter)):
            self.found[n] = value
        return value

    def _learns(self, node: fx.Node) -> bool:
        module = node.op == "call_module" and self.module.get_submodule(str(node.target))
        return isinstance(module, nn.Module) and any(True for _ in module.parameters())


def _asks(node: fx.Node) -> bool:
    """Whether a node asks for the shape of a value, its type or place."""
    return node.target == "size" or (
        node.target is getattr and node.args[1] in ("shape", "ndim", "device", "dtype")
    )


def _same(one: Any, other: Any) -> bool:
    """Whether two values are equal tensors or numbers; a block finds its type and place itself."""
    if isinstance(one, Tensor):
        return one.equal(other)
    return isinstance(one, int | float | torch.Size) and one == other


@contextmanager
def _kept(model: nn.Module) -> Iterator[None]:
    """Batches are not counted, which a trace of training may do in any mode."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)
