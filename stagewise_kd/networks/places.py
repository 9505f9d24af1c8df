"""Where a network is cut by itself: at the end of the last module of each resolution."""

from collections import defaultdict
from math import prod
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from stagewise_kd.networks.layout import Shape, layout
from stagewise_kd.networks.modes import modes_kept
from stagewise_kd.networks.tracing import Trace, alone, module_ends, spans
from stagewise_kd.system.errors import UserError, first_line

PARTS = 4  # of a network that keeps its resolution
SAME = 2  # resolutions of fewer times as many places are one: class tokens, unpadded convolutions
POOLING = ("pool", "mean", "amax", "flatten")


class Body(NamedTuple):
    """A traced network up to where it pools all places of an image into one.

    Args:
        model: the network.
        sizes: number of places of the value, by the place where it carries everything onward.
        spans: first and last node of each module.
        ends: names of the modules that end at a place, the outermost first.
        weights: places of the nodes that have weights.
    """

    model: nn.Module
    sizes: dict[int, int]
    spans: dict[str, tuple[int, int]]
    ends: dict[int, list[str]]
    weights: list[int]


def stage_ends(
    model: nn.Module, judging: Trace, learning: Trace, example: Tensor
) -> dict[str, str]:
    """The modules behind which a network is cut where nobody says, by the names of the blocks.

    That is the last place of each resolution where a module of several layers ends (not a layer of
    the module that goes on to the next resolution), else a layer. A network of one long stretch, as
    a ViT is, is cut into parts of as many of its repeated blocks.

    Args:
        model: the network.
        judging: its trace in eval mode.
        learning: its trace in training.
        example: images (B, C, H, W) that it takes.
    """
    body = _body(model, judging, learning, example)
    chosen = _last_of_each_size(body)
    if len({*body.sizes.values()}) <= 2 and (parts := _parts(body)):
        before = [place for place in chosen if body.sizes[place] != body.sizes[parts[-1]]]
        chosen = [place for place in before if place < parts[0]] + parts
    chosen = _trainable(body, chosen)
    names = [_name(body, place, chosen) for place in chosen]
    first = "stem" if chosen and not _is_stage(body, chosen[0]) else ""
    called = [first if first and first not in names else names[0], *names[1:]] if names else []
    return dict(zip(called, names, strict=True))


def _body(model: nn.Module, judging: Trace, learning: Trace, example: Tensor) -> Body:
    shapes = shapes_of(model, judging, example)
    sizes = _sizes(judging, shapes, model, tuple(example.shape[1:]))
    found, in_training = module_ends(judging, model), module_ends(learning, model)
    ends: dict[int, list[str]] = defaultdict(list)
    for name in sorted(found.keys() & in_training, key=lambda name: (name.count("."), name)):
        if found[name] in sizes:
            ends[found[name]].append(name)
    weights = [n for n, node in enumerate(judging.nodes) if _has_weights(node, model)]
    return Body(model, sizes, spans(judging, model), dict(sorted(ends.items())), weights)


def _has_weights(node: fx.Node, model: nn.Module) -> bool:
    if node.op == "call_module":
        return any(True for _ in model.get_submodule(str(node.target)).parameters())
    return node.op == "get_attr" and isinstance(attrgetter(str(node.target))(model), nn.Parameter)


class _Shapes(fx.Interpreter):
    """Runs a graph and notes the shape of each value."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.found: dict[fx.Node, Shape] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run one node."""
        value = super().run_node(n)
        if isinstance(value, Tensor):
            self.found[n] = tuple(value.shape[1:])
        return value


def shapes_of(model: nn.Module, trace: Trace, example: Tensor) -> dict[fx.Node, Shape]:
    """The shape of each value of a network, of one image.

    Raises:
        UserError: the trace does not run: the network has taken another way through its code.
    """
    with modes_kept(model), torch.no_grad():
        runner = _Shapes(fx.GraphModule(model.eval(), trace.nodes[0].graph))
        try:
            runner.run(example)
        except Exception as error:  # of any of its operations
            raise UserError(
                f"{type(model).__name__} cannot be traced: it does something else for a traced "
                f"value than for a tensor ({first_line(error)}), such as by isinstance(x, Tensor); "
                "change that, or leave the module that asks whole: no_trace=[…]"
            ) from None
    return runner.found


def _sizes(
    trace: Trace, shapes: dict[fx.Node, Shape], model: nn.Module, image: Shape
) -> dict[int, int]:
    """Numbers of places up to the global pooling, those of equal resolution made equal."""
    found: dict[int, int] = {}
    last = prod(image[1:])
    for number in alone(trace):
        node = trace.nodes[number]
        now = layout(shapes[node], image) if len(shapes.get(node, ())) in (1, 2, 3) else None
        if now is None:  # no tensor, or one in the middle of a rearrangement
            continue
        size = prod(now.places)
        if now.kind == "vector" or (size == 1 and (_pools(node, model) or last > 4)):
            break
        found[number] = next((n for n in found.values() if n / SAME < size < n * SAME), size)
        last = size
    return found


def _pools(node: fx.Node, model: nn.Module) -> bool:
    if node.op == "call_module":
        name = type(model.get_submodule(str(node.target))).__name__
    else:
        name = getattr(node.target, "__name__", str(node.target))
    return any(word in name.lower() for word in POOLING)


def _last_of_each_size(body: Body) -> list[int]:
    """Of each resolution the last stage, else a layer.

    At the last resolution the last sibling of the stage before, if there is one, for what comes
    after it belongs to the head; so do layers at one place, which are such as a classifier has.
    """
    steps = [span for name, span in body.spans.items() if _is_step(body, name)]
    free = [p for p in body.ends if not any(first <= p < last for first, last in steps)]
    chosen: list[int] = []
    for size in (sizes := [*dict.fromkeys(body.sizes.values())]):
        parents = _parents(body, chosen[-1]) if chosen and size == sizes[-1] else set()
        rated = [
            (_is_stage(body, place), bool(parents & _parents(body, place)), place)
            for place in free
            if body.sizes[place] == size and place < body.weights[-1]
        ]
        *rating, best = max(rated, default=(False, False, -1))
        if best >= 0 and (size > 1 or all(rating)):
            chosen.append(best)
    return sorted(chosen)


def _parents(body: Body, place: int) -> set[str]:
    return {name.rpartition(".")[0] for name in _units(body, place)}


def _is_stage(body: Body, place: int) -> bool:
    """Whether a module of several layers ends there."""
    return any(_layers(body, name) > 1 for name in _units(body, place))


def _units(body: Body, place: int) -> list[str]:
    """The modules that end there and hold no whole body of several stages."""
    return [name for name in body.ends[place] if len({*_inside(body, name).values()}) <= 2]


def _inside(body: Body, name: str) -> dict[int, int]:
    first, last = body.spans[name]
    return {place: size for place, size in body.sizes.items() if first <= place <= last}


def _layers(body: Body, name: str) -> int:
    """The number of layers with weights, biases and scales aside."""
    return sum(
        any(parameter.ndim > 1 for parameter in module.parameters(recurse=False))
        for module in body.model.get_submodule(name).modules()
    )


def _is_step(body: Body, name: str) -> bool:
    """Whether a module is all of one resolution, but for layers at its start of the one before."""
    first, last = body.spans[name]
    before = [size for place, size in body.sizes.items() if place < first][-1:]
    inside = _inside(body, name)
    begun = [place for place in body.ends if place in inside and [inside[place]] == before]
    return (
        _layers(body, name) > 1
        and len({*inside.values(), *before}) <= 1 + len(before)
        and not any(_is_stage(body, place) for place in begun if place < last)
    )


def _parts(body: Body) -> list[int]:
    """Where whole repeated blocks make near-equal parts; nowhere where there are too few."""
    groups: dict[tuple[str, type, int], list[int]] = defaultdict(list)
    for place, names in body.ends.items():
        for name in names:
            if _layers(body, name) > 1:
                kind = type(body.model.get_submodule(name))
                groups[name.rpartition(".")[0], kind, body.sizes[place]].append(place)
    blocks = max(groups.values(), key=len, default=[])
    if len(blocks) < PARTS:
        return []
    return [blocks[(part + 1) * len(blocks) // PARTS - 1] for part in range(PARTS)]


def _trainable(body: Body, chosen: list[int]) -> list[int]:
    """The places without those between which nothing has weights: of two, that of a layer goes."""
    kept: list[int] = []
    for place in chosen:
        start = kept[-1] if kept else -1
        if any(start < weight <= place for weight in body.weights):
            kept.append(place)
        elif kept and _is_stage(body, place) and not _is_stage(body, start):
            kept[-1] = place
    return kept


def _name(body: Body, place: int, chosen: list[int]) -> str:
    """The outermost of the modules that end at a place in which no other place lies."""
    spans = [(name, *body.spans[name]) for name in body.ends[place]]
    apart = [n for n, first, last in spans if not any(first <= p < last for p in chosen)]
    return apart[0]
