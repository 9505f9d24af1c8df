"""A traced model in pieces: modules that hold the model's own submodules."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from torch import Tensor, fx, nn

from stagewise_kd.networks.tracing import Trace, module_ends, sides
from stagewise_kd.system.errors import UserError


def traced_pieces(model: nn.Module, trace: Trace, names: list[str]) -> list[fx.GraphModule]:
    """The graph of a model in pieces that end with these modules; the rest, if any, at last.

    A piece takes what the one before gives, and the image where it needs its height and width.
    """
    ends, start, free = module_ends(trace, model), trace.nodes[0], sides(trace)
    if missing := [name for name in names if name not in ends]:
        raise UserError(f"at: behind {missing[0]} more than one value is in use in training")
    constants = {node: value for node, value in trace.constants.items() if node not in free}
    given, first, found = start, 1, []
    for end in [*(ends[name] for name in names), len(trace.nodes) - 1]:
        nodes = [node for node in trace.nodes[first : end + 1] if node not in free]
        last = nodes.pop().args[0] if nodes[-1].op == "output" else nodes[-1]
        if not isinstance(last, fx.Node):
            raise UserError(f"{type(model).__name__}: gives a {type(last).__name__}, not logits")
        if nodes:
            found.append(piece(model, given, nodes, last, start, constants))
        given, first = last, end + 1
    return found


def piece(
    model: nn.Module,
    given: fx.Node,
    nodes: list[fx.Node],
    last: fx.Node,
    image: fx.Node | None = None,
    constants: Mapping[fx.Node, Any] = MappingProxyType({}),
) -> fx.GraphModule:
    """Some nodes of a model as a module that holds the model's own submodules.

    Args:
        model: the network.
        given: the node whose value the module takes.
        nodes: what it computes, in order.
        last: the node whose value it gives.
        image: what the module takes beside, if it needs its sides.
        constants: values of nodes before that it may read.
    """
    graph, inside = fx.Graph(), {*nodes}
    tensors: dict[str, Tensor] = {}
    copies: dict[fx.Node, Any] = {given: graph.placeholder("x")}
    if image and image is not given:
        copies[image] = graph.placeholder("image")

    def copy(node: fx.Node) -> Any:
        if node not in copies:
            before = node in constants and node not in inside and node.op != "get_attr"
            # else a parameter that was fetched before, or a side of the image
            copies[node] = constant(node) if before else graph.node_copy(node, copy)
        return copies[node]

    def constant(node: fx.Node) -> Any:
        value = constants[node]
        if not isinstance(value, Tensor):
            return value
        tensors[name := f"_constant_{node.name}"] = value
        return graph.get_attr(name)

    for node in nodes:
        copy(node)
    graph.output(copies[last])
    if image and not copies[image].users:
        graph.erase_node(copies[image])
    for name, value in tensors.items():  # where torch.fx looks for them, and puts its own
        setattr(model, name, value)
    found = fx.GraphModule(model, graph)
    for name in tensors:
        delattr(model, name)
    return found


def branch(
    model: nn.Module,
    given: Sequence[Mapping[fx.Node, str]],
    wanted: Sequence[fx.Node],
    where: str = "",
) -> tuple[nn.Module, tuple[str, ...]]:
    """What computes a node from those of the given ones that it depends on, and their names.

    Args:
        model: the network.
        given: names of nodes, in its trace in eval mode and in that in training.
        wanted: the node, in each.
        where: path in the model of the module that was traced, with a dot.
    """
    (judging, reads), (learning, _) = (
        _cone(model, names, node, where) for names, node in zip(given, wanted, strict=True)
    )
    same = judging.code == learning.code
    return judging if same else ByMode(judging, learning), reads


def _cone(
    model: nn.Module, given: Mapping[fx.Node, str], wanted: fx.Node, where: str
) -> tuple[fx.GraphModule, tuple[str, ...]]:
    needed = {*behind(wanted, given)}
    nodes = [node for node in wanted.graph.nodes if node in needed]
    reads = [node for node in nodes if node in given]
    graph = fx.Graph()
    copies = {node: graph.placeholder(f"of_{given[node]}".replace(".", "_")) for node in reads}
    for node in nodes:
        if node not in copies:
            copies[node] = graph.node_copy(node, copies.__getitem__)
            if node.op in ("call_module", "get_attr"):
                copies[node].target = f"{where}{node.target}"
    graph.output(copies[wanted])
    return fx.GraphModule(model, graph), tuple(given[node] for node in reads)


def behind(wanted: fx.Node, given: Collection[fx.Node]) -> Iterator[fx.Node]:
    """A node and all that it depends on, back to the given ones."""
    ahead, seen = [wanted], {wanted}
    while ahead:
        node = ahead.pop()
        yield node
        more = [] if node in given else [n for n in node.all_input_nodes if n not in seen]
        ahead += more
        seen |= {*more}


class ByMode(nn.Module):
    """Two traces of the same submodules: a function such as dropout is traced as it is called."""

    def __init__(self, judging: fx.GraphModule, learning: fx.GraphModule) -> None:
        super().__init__()
        self.traces = (judging, learning)  # no submodules: parts keep their names in the model
        self._modules, self._parameters = judging._modules, judging._parameters
        self._buffers = judging._buffers

    def forward(self, *x: Tensor) -> Tensor:
        """The trace of the mode that the block is in."""
        judging, learning = self.traces
        trace = learning if self.training else judging
        found: Tensor = trace(*x[: count_of_inputs(trace)])
        return found


def count_of_inputs(piece: nn.Module) -> int:
    """How many features a piece takes."""
    traces = piece.traces if isinstance(piece, ByMode) else [piece]
    graphs = [trace.graph for trace in traces if isinstance(trace, fx.GraphModule)]
    return max((sum(n.op == "placeholder" for n in g.nodes) for g in graphs), default=1)


def move_buffers(
    module: nn.Module, moved: Mapping[str, Tensor], fn: Callable[[Tensor], Tensor]
) -> None:
    """Let the traces in a module follow its model, whose buffers are replaced when it moves.

    Args:
        module: a block.
        moved: the model's buffers by name, as they are now.
        fn: for constants that are the trace's own.
    """
    found = [part for part in module.modules() if isinstance(part, fx.GraphModule)]
    found += [one for part in module.modules() if isinstance(part, ByMode) for one in part.traces]
    for trace in found:
        for path, buffer in list(trace.named_buffers(remove_duplicate=False)):
            owner, _, name = path.rpartition(".")
            trace.get_submodule(owner)._buffers[name] = moved.get(path, fn(buffer))
