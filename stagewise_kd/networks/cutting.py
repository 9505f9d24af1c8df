"""Any model as blocks: cut where a single tensor carries everything onward."""

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torchvision.models.feature_extraction import NodePathTracer
from torchvision.models.resnet import ResNet

from stagewise_kd.networks.blocks import IMAGE, LOGITS, Block, BlockNet
from stagewise_kd.networks.resnet import resnet_blocks
from stagewise_kd.system.errors import UserError

SHOWN = 12  # places that a message names


class Trace(NamedTuple):
    """What a model computes: its nodes, and the path of each in the model's modules."""

    nodes: list[fx.Node]
    paths: dict[fx.Node, str]


def cut(
    model: nn.Module,
    example: Tensor,
    at: Sequence[str] | None = None,
    *,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
) -> BlockNet:
    """A model as blocks over its own submodules, so that what is trained and saved is the model.

    Args:
        model: any network that gives logits.
        example: images as the model takes them, (B, C, H, W).
        at: names of the modules at whose ends it is cut, as in `named_modules`; what comes after
            the last one is the head. None: as this project knows the network, which holds for
            torchvision's ResNets and for U-Nets of segmentation-models-pytorch over them.
        mean: per-channel mean of the input, for images in [0, 1]; by default they are taken as
            they are.
        std: per-channel standard deviation, likewise.

    Raises:
        UserError: the network is not known, cannot be traced, or cannot be cut at a name.
    """
    if at is None and (blocks := known_cut(model)) is not None:
        return blocks(model, mean, std)
    training = model.training
    judging, learning = (_trace(model.train(mode)) for mode in (False, True))
    model.train(training)
    kind, ends = type(model).__name__, _ends(judging, model)
    if at is None:
        raise UserError(
            f"{kind} is no network that this project knows; say where to cut it: "
            f"at=[…] of {_listed([*ends])}"
        )
    names = _in_order(kind, at, dict(model.named_modules()), ends)
    net = BlockNet(model, _blocks(model, judging, learning, names), mean, std)
    _check(net, example)
    return net


def known_cut(model: nn.Module) -> Callable[..., BlockNet] | None:
    """How this project cuts a network that it knows; None where it does not."""
    if type(model) is ResNet:
        return resnet_blocks
    if type(model).__module__.startswith("segmentation_models_pytorch."):
        from stagewise_kd.networks.unet import as_blocks

        return as_blocks
    return None


def _trace(model: nn.Module) -> Trace:
    functions, modules = _not_traced()
    make: Any = NodePathTracer
    tracer = make(autowrap_functions=functions, leaf_modules=modules)
    try:
        graph = tracer.trace(model)
    except Exception as error:  # whatever the model's own code raises on a value that is none yet
        raise UserError(
            f"{type(model).__name__} cannot be traced: {str(error).splitlines()[0]} "
            f"({_line(error)}); give blocks of your own: BlockNet(model, [Block(…), …], mean, std)"
        ) from None
    return Trace(list(graph.nodes), tracer.node_to_qualname)


def _not_traced() -> tuple[tuple[Any, ...], list[type[nn.Module]]]:
    """What timm says of its own functions and modules."""
    try:
        from timm.models import _features_fx as own
    except ImportError:
        return (), []
    known: Any = own
    return tuple(known.get_notrace_functions()), known.get_notrace_modules()


def _line(error: Exception) -> str:
    """The line of the user's code that an error comes from."""
    libraries = str(Path(torch.__file__).parents[1])
    here = str(Path(__file__).parents[1])
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not f.filename.startswith((libraries, here))]
    return f"{own[-1].filename}, line {own[-1].lineno}: {own[-1].line}" if own else "in a library"


def _ends(trace: Trace, model: nn.Module) -> dict[str, int]:
    """The modules at whose end one value carries everything onward: places of their last nodes."""
    place = {node: number for number, node in enumerate(trace.nodes)}
    last = {node: max((place[u] for u in node.users), default=-1) for node in trace.nodes}
    live: set[fx.Node] = set()
    alone = []
    for number, node in enumerate(trace.nodes):
        live = {other for other in live if last[other] > number}
        if last[node] > number and node.op != "get_attr" and not _is_option(node, trace):
            live.add(node)
        if node.op.startswith("call_") and live == {node}:
            alone.append(number)
    final: dict[str, int] = {}
    for number, node in enumerate(trace.nodes):
        if node.op.startswith("call_"):
            path = trace.paths[node]
            steps = [i for i, letter in enumerate(path) if letter == "."]
            final |= dict.fromkeys((path, *(path[:i] for i in steps)), number)
    known = {name for name, _ in model.named_modules()}
    return {name: end for name, end in final.items() if name in known and end in {*alone}}


def _is_option(node: fx.Node, trace: Trace) -> bool:
    """Whether a node is an argument of the model beside the image, which stays at its default."""
    return node.op == "placeholder" and node is not trace.nodes[0]


def _in_order(
    kind: str, at: Sequence[str], modules: dict[str, nn.Module], ends: dict[str, int]
) -> list[str]:
    """The names of `at` as they run."""
    if unknown := [name for name in at if name not in modules]:
        raise UserError(
            f"at: {kind} has no module {', '.join(unknown)}; it can be cut at {_listed([*ends])}"
        )
    if inside := [name for name in at if name not in ends]:
        raise UserError(
            f"at: behind {', '.join(inside)} more than one value is still in use; {kind} can be "
            f"cut at {_listed([*ends])}"
        )
    if not at or len({ends[name] for name in at}) < len(at):
        raise UserError(f"at={list(at)}: name one module or more, each with an end of its own")
    return sorted(at, key=ends.__getitem__)


def _listed(names: Sequence[str]) -> str:
    """Names, those of few dots first."""
    shown = sorted(names, key=lambda name: name.count("."))
    return (", ".join(shown[:SHOWN]) or "no module") + (", …" if len(shown) > SHOWN else "")


def _blocks(model: nn.Module, judging: Trace, learning: Trace, names: list[str]) -> list[Block]:
    """The pieces between the ends; one that computes the same in both modes is traced once."""
    pairs = list(zip(_pieces(model, judging, names), _pieces(model, learning, names), strict=True))
    named = [*names, "head"][: len(pairs)]
    return [
        Block(
            name,
            one if one.code == other.code else ByMode(one, other),
            (named[number - 1] if number else IMAGE,),
            "head" if name == named[-1] else "encoder",
        )
        for number, (name, (one, other)) in enumerate(zip(named, pairs, strict=True))
    ]


def _pieces(model: nn.Module, trace: Trace, names: list[str]) -> list[fx.GraphModule]:
    """The graph of a model in pieces that end with these modules; the rest, if any, at last."""
    ends, (start, *rest) = _ends(trace, model), trace.nodes
    defaults = {n: n.args[0] if n.args else None for n in rest if n.op == "placeholder"}
    given, first, found = start, 1, []
    for end in [*(ends[name] for name in names), len(trace.nodes) - 1]:
        nodes = [node for node in trace.nodes[first : end + 1] if node not in defaults]
        last = nodes.pop().args[0] if nodes[-1].op == "output" else nodes[-1]
        if not isinstance(last, fx.Node):
            raise UserError(f"{type(model).__name__}: gives a {type(last).__name__}, not logits")
        if nodes:
            found.append(_piece(model, given, nodes, last, defaults))
        given, first = last, end + 1
    return found


def _piece(
    model: nn.Module,
    given: fx.Node,
    nodes: list[fx.Node],
    last: fx.Node,
    defaults: dict[fx.Node, Any],
) -> fx.GraphModule:
    """Some nodes of a model as a module that holds the model's own submodules."""
    graph = fx.Graph()
    copies: dict[fx.Node, Any] = defaults | {given: graph.placeholder("x")}

    def copy(node: fx.Node) -> Any:
        if node not in copies:  # a parameter that was fetched before
            copies[node] = graph.node_copy(node, copy)
        return copies[node]

    for node in nodes:
        copy(node)
    graph.output(copies[last])
    return fx.GraphModule(model, graph)


class ByMode(nn.Module):
    """Two traces of the same submodules: a function such as dropout is traced as it is called."""

    def __init__(self, judging: nn.Module, learning: nn.Module) -> None:
        super().__init__()
        self.judging = judging
        self.learning = learning

    def forward(self, x: Tensor) -> Tensor:
        """The trace of the mode that the block is in."""
        found: Tensor = (self.learning if self.training else self.judging)(x)
        return found


def _check(net: BlockNet, example: Tensor) -> None:
    """See that the blocks compute what the model computes, bit for bit."""
    modes = {module: module.training for module in net.modules()}
    with torch.inference_mode():
        net.eval()
        image = example * net.std + net.mean
        blocks = net.features({IMAGE: image}, {LOGITS})[LOGITS]
        whole = net.model((image - net.mean) / net.std)  # example, as it is rounded on this way
    for module, mode in modes.items():
        module.training = mode
    if not isinstance(whole, Tensor) or not whole.equal(blocks):
        raise UserError(
            f"{type(net.model).__name__}: its blocks do not compute what it computes; give blocks "
            "of your own: BlockNet(model, [Block(…), …], mean, std)"
        )
