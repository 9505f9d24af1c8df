"""Pairs of neighbouring layers, gathered into modules: the blocks of a plain chain.

The channels between two layers are hidden in a pair. A network whose pairs are gathered computes
the same with the same submodules, some of which lie inside its pairs.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from stagewise_kd.networks.cost import macs
from stagewise_kd.networks.modes import modes_kept
from stagewise_kd.networks.outputs import logits_of
from stagewise_kd.networks.pieces import piece
from stagewise_kd.networks.tracing import Trace, traces
from stagewise_kd.sizing.calls import Call
from stagewise_kd.sizing.hidden import hidden
from stagewise_kd.sizing.layers import mixes
from stagewise_kd.system.errors import UserError

WHOLE = (_ConvNd, nn.Linear, _NormBase)  # in a trace, those of timm's too


class Span(NamedTuple):
    """The places of a pair's layers in a trace."""

    first: int
    last: int


def gathered(model: nn.Module, example: Tensor) -> tuple[nn.Module, list[str]]:
    """The network with its pairs as modules, and their names; itself where there are none.

    Of pairs that overlap those are taken that together have most multiply-adds.

    Args:
        model: is left as it is; one that torch.fx cannot trace has no pairs.
        example: images as the model takes them, (B, C, H, W).
    """
    try:
        trace, learning = traces(model, WHOLE, example)
    except UserError:
        return model, []
    with modes_kept(model), torch.no_grad():
        model.eval()
        worth = _worth(model, trace, learning, example)
        if not worth:
            return model, []
        net, names = _with_pairs(model, trace, _apart(worth))
        same = all(
            logits_of(net(x)).allclose(logits_of(model(x)), atol=1e-5)
            for x in (example, example[:1])
        )
    return (net, names) if same else (model, [])


def _worth(model: nn.Module, trace: Trace, learning: Trace, example: Tensor) -> dict[Span, float]:
    """The multiply-adds of each pair whose inner channels can be fewer, in training too."""
    nodes = learning.nodes
    there = {(nodes[a].target, nodes[b].target) for a, b in _spans(model, nodes)}
    run = fx.Interpreter(fx.GraphModule(model, trace.nodes[0].graph), garbage_collect_values=False)
    run.run(example)
    found: dict[Span, float] = {}
    for span in _spans(model, trace.nodes):
        first, last = (trace.nodes[place] for place in span)
        ends = (first.target, last.target)
        if ends not in there:  # a head of training alone reads what is between
            continue
        call = Call((run.env[_given(trace, span)],), {}, run.env[last])
        pair = _pair(model, trace, span)
        if any(ends[0] in one.makes and ends[1] in one.reads for one in hidden(pair, call)):
            found[span] = macs(partial(call.again, pair))
    return found


def _spans(model: nn.Module, nodes: Sequence[fx.Node]) -> Iterator[Span]:
    """From each layer to the next one through which all goes that it gives.

    What reads a map into a vector stays, for a head counts on the width of the map; and so do
    weights that are used more than once.
    """
    modules = {n: model.get_submodule(str(n.target)) for n in nodes if n.op == "call_module"}
    uses = Counter(id(p) for module in modules.values() for p in module.parameters())
    layers = {node for node, module in modules.items() if mixes(module)}
    for first, node in enumerate(nodes):
        if node not in layers or (last := _closing(nodes, first, layers)) is None:
            continue
        inside = [modules[n] for n in nodes[first : last + 1] if n in modules]
        alike = isinstance(inside[0], nn.Linear) == isinstance(inside[-1], nn.Linear)
        once = all(uses[id(p)] == 1 for module in inside for p in module.parameters())
        if alike and once:
            yield Span(first, last)


def _closing(nodes: Sequence[fx.Node], first: int, layers: Collection[fx.Node]) -> int | None:
    """The place of the first layer behind one that all it gives comes to, and nothing else."""
    inside = {nodes[first]}
    open_ends = {*nodes[first].users}
    for number, node in enumerate(nodes[first + 1 :], first + 1):
        if not inside.issuperset(node.all_input_nodes):
            return None
        open_ends.discard(node)
        if node in layers and not open_ends:
            return number
        inside.add(node)
        open_ends.update(node.users)
    return None


def _given(trace: Trace, span: Span) -> fx.Node:
    return trace.nodes[span.first].all_input_nodes[0]


def _pair(model: nn.Module, trace: Trace, span: Span) -> fx.GraphModule:
    """The nodes of a pair as a module."""
    nodes = trace.nodes[span.first : span.last + 1]
    return piece(model, _given(trace, span), nodes, nodes[-1])


def _apart(worth: Mapping[Span, float]) -> list[Span]:
    """The pairs without an overlap that are worth most together."""
    ordered = sorted(worth, key=lambda span: span.last)
    best: list[tuple[float, list[Span]]] = [(0.0, [])]  # of the first so many
    for number, span in enumerate(ordered):
        value, taken = best[sum(other.last < span.first for other in ordered[:number])]
        best.append(max(best[-1], (value + worth[span], [*taken, span])))
    return best[-1][1]


def _with_pairs(
    model: nn.Module, trace: Trace, spans: Sequence[Span]
) -> tuple[fx.GraphModule, list[str]]:
    """The trace as a module in which each pair is one; the pairs' names."""
    graph = trace.nodes[0].graph
    pairs: dict[str, Any] = {}
    for span in spans:
        nodes = trace.nodes[span.first : span.last + 1]
        name = _name(str(nodes[0].target), str(nodes[-1].target))
        pairs[name] = _pair(model, trace, span)
        with graph.inserting_after(nodes[-1]):
            whole = graph.create_node("call_module", name, (_given(trace, span),))
        nodes[-1].replace_all_uses_with(whole)
        for node in reversed(nodes):
            graph.erase_node(node)
    taken = (str(node.target) for node in graph.nodes if node.op in ("call_module", "get_attr"))
    parts = {path: _part(model, path) for path in taken if path not in pairs}
    return fx.GraphModule(parts | pairs, graph, type(model).__name__), [*pairs]


def _part(model: nn.Module, path: str) -> Any:
    owner, _, name = path.rpartition(".")
    return getattr(model.get_submodule(owner), name)


def _name(first: str, last: str) -> str:
    """Such as features.0-3."""
    parent = first.rpartition(".")[0]
    return f"{first}-{last.removeprefix(f'{parent}.').replace('.', '_')}"
