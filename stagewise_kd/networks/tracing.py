"""What a model computes, traced by torch.fx, and where it can be cut."""

import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torchvision.models.feature_extraction import NodePathTracer

from stagewise_kd.networks.constants import Constants, constants_of
from stagewise_kd.networks.trace_faults import cannot_be_traced
from stagewise_kd.system.errors import UserError, listed

CALLED, ASKED = nn.Module.__call__, nn.Module.__getattr__  # torch.fx replaces them while it traces


class Skip(nn.Module):
    """In place of a block that is left out: gives what it takes, whatever else it is told."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Features as they are."""
        return x


class Trace(NamedTuple):
    """What a model computes: its nodes, the path of each in the model's modules, and constants."""

    nodes: list[fx.Node]
    paths: dict[fx.Node, str]
    constants: Constants


class _Tracer(NodePathTracer):  # type: ignore[misc]
    """Leaves modules of some names and classes as they are, and what timm says of its own.

    What a network decides by the shapes of its features it decides as for an example.
    """

    def __init__(self, leaves: Collection[str | type[nn.Module]], example: Tensor | None) -> None:
        functions, modules = _not_traced()
        modules += [leaf for leaf in leaves if not isinstance(leaf, str)]
        super().__init__(  # type: ignore[no-untyped-call]
            autowrap_functions=functions, leaf_modules=modules
        )
        self._leaves, self._example = leaves, example

    def is_leaf_module(self, m: nn.Module, module_qualname: str) -> bool:
        """Whether a module is one node of the trace."""
        return module_qualname in self._leaves or super().is_leaf_module(m, module_qualname)

    def create_args_for_root(self, root_fn: Any, *options: Any) -> tuple[Any, list[Any]]:
        """The network and its images; whatever else it may be told stays as by default."""
        function, args = super().create_args_for_root(root_fn, *options)
        for other in args[2:]:
            self.graph.erase_node(other.node)
        return (root_fn, args[:2]) if args[2:] else (function, args)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Whether something holds that no tensor is compared for."""
        value = self._known(obj)
        return bool(value if isinstance(value, bool | int) else super().to_bool(obj))

    def iter(self, obj: Any) -> Iterator[Any]:
        """The parts of a shape."""
        value = self._known(obj)
        if not isinstance(value, tuple | list):
            return super().iter(obj)  # type: ignore[no-any-return]
        return iter([obj[place] for place in range(len(value))])

    def _known(self, obj: fx.Proxy) -> Any:
        """What a value is for the example."""
        if self._example is None:
            return None
        graph, copies = fx.Graph(), dict[fx.Node, fx.Node]()
        graph.graph_copy(self.graph, copies)
        graph.output(copies[obj.node])
        fork = torch.random.fork_rng(devices=[])
        with _as_ever(), modes_kept(self.root), torch.no_grad(), fork:
            whole = fx.GraphModule(self.root.eval(), graph)
            whole.graph.eliminate_dead_code()
            return fx.Interpreter(whole).run(self._example)


@contextmanager
def _as_ever() -> Iterator[None]:
    """Modules are called, not traced, in the middle of a trace."""
    traced = nn.Module.__call__, nn.Module.__getattr__
    nn.Module.__call__, nn.Module.__getattr__ = CALLED, ASKED  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.__call__, nn.Module.__getattr__ = traced  # type: ignore[method-assign]


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


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Put every module back into training or eval mode, as it was."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def forwards(functions: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Let modules compute something else for a while, within one another too."""
    before = {module: vars(module).get("forward") for module in functions}
    try:
        for module, function in functions.items():
            module.forward = function
        yield
    finally:
        for module, forward in before.items():
            vars(module).pop("forward", None)
            if forward is not None:
                module.forward = forward


def _trace(
    model: nn.Module, no_trace: Collection[str | type[nn.Module]], example: Tensor | None
) -> Trace:
    tracer = _Tracer(no_trace, example)
    try:
        graph = tracer.trace(model)
    except Exception as error:  # whatever the model's own code raises on a value that is none yet
        raise cannot_be_traced(model, error) from None
    constants = constants_of(model.eval(), graph, example) if example is not None else {}
    return Trace(list(graph.nodes), tracer.node_to_qualname, constants)


def _not_traced() -> tuple[tuple[Any, ...], list[type[nn.Module]]]:
    """What timm says of its own functions and modules; who has such a network has imported it."""
    if "timm" not in sys.modules:
        return (), [Skip]
    from timm.models import _features_fx as own

    known: Any = own
    return tuple(known.get_notrace_functions()), [*known.get_notrace_modules(), Skip]


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
