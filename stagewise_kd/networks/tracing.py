"""What a model computes, traced by torch.fx, and where it can be cut."""

from collections.abc import Collection
from typing import NamedTuple

from torch import Tensor, fx, nn

from stagewise_kd.networks.constants import Constants, constants_of
from stagewise_kd.networks.modes import modes_kept
from stagewise_kd.networks.trace_faults import cannot_be_traced
from stagewise_kd.networks.tracer import Tracer, answering, forgetting
from stagewise_kd.system.errors import UserError, listed


class Trace(NamedTuple):
    """What a model computes: its nodes, the path of each in the model's modules, and constants."""

    nodes: list[fx.Node]
    paths: dict[fx.Node, str]
    constants: Constants


def traces(
    model: nn.Module,
    no_trace: Collection[str | type[nn.Module]] = (),
    example: Tensor | None = None,
) -> tuple[Trace, Trace]:
    """What a model computes in eval mode, and what in training; its modes stay as they are.

    Args:
        model: the network.
        no_trace: names or classes of modules that stay whole.
        example: images (B, C, H, W), for what depends on their size.

    Raises:
        UserError: it cannot be traced; names the line of its code, and the ways out.
    """
    names = {leaf for leaf in no_trace if isinstance(leaf, str)}
    if unknown := names - {name for name, _ in model.named_modules()}:
        raise UserError(f"no_trace: {type(model).__name__} has no module {listed([*unknown])}")
    with modes_kept(model):
        judging = _trace(model.eval(), no_trace, example)
        return judging, _trace(model.train(), no_trace, example)


def _trace(
    model: nn.Module, no_trace: Collection[str | type[nn.Module]], example: Tensor | None
) -> Trace:
    tracer = Tracer(no_trace, example)
    try:
        with answering(), forgetting(model):
            graph = tracer.trace(model)
    except Exception as error:  # whatever the model's own code raises on a value that is none yet
        raise cannot_be_traced(model, error) from None
    constants = constants_of(model.eval(), graph, example) if example is not None else {}
    return Trace(list(graph.nodes), tracer.node_to_qualname, constants)


def module_ends(trace: Trace, model: nn.Module) -> dict[str, int]:
    """The modules at whose end one value carries everything onward: places of their last nodes."""
    lone = {*alone(trace)}
    return {name: last for name, (_, last) in spans(trace, model).items() if last in lone}


def alone(trace: Trace) -> list[int]:
    """The places behind whose node its value carries everything onward."""
    free = {node for node in trace.nodes if node.op == "get_attr"} | sides(trace)
    free |= trace.constants.keys()
    place = {node: -1 if node in free else number for number, node in enumerate(trace.nodes)}
    last = {node: max((place[u] for u in node.users), default=-1) for node in trace.nodes}
    live: set[fx.Node] = set()
    found = []
    for number, node in enumerate(trace.nodes):
        live = {other for other in live if last[other] > number}
        if last[node] > number and node not in free:
            live.add(node)
        if node.op.startswith("call_") and live == {node}:
            found.append(number)
    return found


def sides(trace: Trace) -> set[fx.Node]:
    """The image's shape and numbers made of it, which any piece can find again."""
    image, *rest = trace.nodes
    found: set[fx.Node] = set()
    for node in rest:
        asks = node.target == "size" or (node.target is getattr and node.args[1] == "shape")
        counts = getattr(node.target, "__module__", "") in ("_operator", "builtins", "math")
        given = node.all_input_nodes
        if (given == [image] and asks) or (given and counts and found.issuperset(given)):
            found.add(node)
    return found


def spans(trace: Trace, model: nn.Module) -> dict[str, tuple[int, int]]:
    """The places of the first and the last node of each module."""
    found: dict[str, tuple[int, int]] = {}
    known = {name for name, _ in model.named_modules()}
    for number, node in enumerate(trace.nodes):
        if node.op.startswith("call_"):
            path = trace.paths[node]
            steps = [i for i, letter in enumerate(path) if letter == "."]
            for name in (path, *(path[:i] for i in steps)):
                if name in known:
                    found[name] = (found.get(name, (number,))[0], number)
    return found
