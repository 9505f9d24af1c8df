"""Networks some of whose features are read more than once, such as U-Nets, as blocks."""

from collections.abc import Iterator, Mapping
from math import prod

from torch import Tensor, fx, nn

from stagewise_kd.networks.blocks import IMAGE, Block, Role
from stagewise_kd.networks.layout import Shape
from stagewise_kd.networks.pieces import behind, branch
from stagewise_kd.networks.places import shapes_of
from stagewise_kd.networks.tracing import Trace, sides, spans


def branching_blocks(
    model: nn.Module, judging: Trace, learning: Trace, example: Tensor
) -> list[Block]:
    """A block for each module whose feature more than one reads, or that ends a resolution.

    Blocks up to the last one of the lowest resolution are the encoder, the last one is the head.
    Nothing for a network whose modules run one after the other.

    Args:
        model: the network.
        judging: its trace in eval mode.
        learning: its trace in training.
        example: images (B, C, H, W) that it takes.
    """
    shapes = shapes_of(model, judging, example)
    units = _units(model, judging, shapes)
    ends = {name: node for name, node in units if len(shapes.get(node, ())) == 3}
    trained = {name: learning.nodes[last] for name, (_, last) in spans(learning, model).items()}
    if len(ends) < 2 or not ends.keys() <= trained.keys():
        return []
    *_, last = ends
    ends[last] = judging.nodes[-1].all_input_nodes[0]
    readers = _readers(ends, judging)
    if all(len(found) < 2 for found in readers.values()):
        return []
    sizes = {name: prod(shapes[node][1:]) for name, node in ends.items()}
    names = [name for name in ends if name == last or not _is_within(name, last, readers, sizes)]
    lowest = max(names[:-1], key=lambda name: (-sizes[name], names.index(name)))
    known: list[dict[fx.Node, str]] = [{trace.nodes[0]: IMAGE} for trace in (judging, learning)]
    found = []
    for name in names:
        nodes = [ends[name], trained[name]]
        if name == last:
            nodes = [trace.nodes[-1].all_input_nodes[0] for trace in (judging, learning)]
        encodes = names.index(name) <= names.index(lowest)
        role: Role = "head" if name == last else "encoder" if encodes else "decoder"
        found.append(Block(name, *branch(model, known, nodes), role))
        for given, node in zip(known, nodes, strict=True):
            given[node] = name
    held = [id(p) for block in found for p in block.module.parameters()]
    return found if len(held) == len({*held}) else []


def _units(
    model: nn.Module, trace: Trace, shapes: Mapping[fx.Node, Shape], path: str = ""
) -> Iterator[tuple[str, fx.Node]]:
    """The outermost modules with weights that give one value to what is outside, as they run.

    One that goes down to a lower resolution and up again is a U-Net inside of another.
    """
    found = spans(trace, model)
    inside = [name for name, _ in model.get_submodule(path).named_children()]
    names = [f"{path}.{name}" if path else name for name in inside]
    for name in sorted(names, key=lambda name: found.get(name, (len(trace.nodes),))[0]):
        if not any(True for _ in model.get_submodule(name).parameters()):
            continue
        whole = name in found and _is_unit(name, trace, *found[name])
        if whole and not _goes_down_and_up(name, trace, shapes, *found[name]):
            yield name, trace.nodes[found[name][1]]
        else:
            yield from _units(model, trace, shapes, name)


def _goes_down_and_up(
    name: str, trace: Trace, shapes: Mapping[fx.Node, Shape], first: int, last: int
) -> bool:
    """Whether one part of a module reads its feature, and within there are maps of a quarter."""
    nodes = trace.nodes[first : last + 1]
    given = {one for node in nodes for one in node.all_input_nodes} - {*nodes}
    maps = {node: prod(shapes[node][1:]) for node in shapes if len(shapes[node]) == 3}
    read = [node for node in given if node in maps]
    if len(read) != 1 or nodes[-1] not in maps:
        return False
    users = {*read[0].users} - sides(trace)
    if read[0] is trace.nodes[0] and users - {*nodes}:
        return False  # one of several networks of an image
    lowest = min(maps[node] for node in nodes if node in maps)
    paths = (trace.paths[node].removeprefix(f"{name}.") for node in users & {*nodes})
    parts = {path.partition(".")[0] for path in paths if "." in path}
    return len(parts) == 1 and 1 < lowest <= min(maps[read[0]], maps[nodes[-1]]) / 4


def _is_unit(name: str, trace: Trace, first: int, last: int) -> bool:
    nodes = trace.nodes[first : last + 1]
    own = all(f"{trace.paths.get(node, '')}.".startswith(f"{name}.") for node in nodes)
    return own and all({*node.users} <= {*nodes} for node in nodes[:-1])


def _readers(ends: Mapping[str, fx.Node], trace: Trace) -> dict[str, set[str]]:
    """By each unit those that read its feature."""
    places = {node: name for name, node in ends.items()}
    found: dict[str, set[str]] = {name: set() for name in ends}
    for name, node in ends.items():
        given = places.keys() - {node} | {trace.nodes[0]}
        for read in {*behind(node, given)} & (places.keys() - {node}):
            found[places[read]].add(name)
    return found


def _is_within(
    name: str, last: str, readers: Mapping[str, set[str]], sizes: Mapping[str, int]
) -> bool:
    """Whether a unit is a part of the one that alone reads it, at the same resolution."""
    if len(readers[name]) != 1:
        return False
    (reader,) = readers[name]
    return reader != last and sizes[reader] == sizes[name]
