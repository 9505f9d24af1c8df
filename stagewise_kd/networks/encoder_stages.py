"""Encoders of segmentation-models-pytorch as blocks, one for each feature that they list."""

from collections.abc import Iterator, Mapping
from typing import Any

from segmentation_models_pytorch.encoders.mix_transformer import LayerNorm
from segmentation_models_pytorch.encoders.resnet import ResNetEncoder
from torch import fx, nn

from stagewise_kd.networks.blocks import IMAGE, Block
from stagewise_kd.networks.pieces import ByMode
from stagewise_kd.networks.tracing import Trace, traces

STAGES = ("full", "stem", "layer1", "layer2", "layer3", "layer4")  # by strides 1, 2, 4, … 32
WHERE = "encoder."  # of a model


def encoder_stages(model: Any) -> list[Block | None]:
    """A block for each feature that a model's encoder lists, called by its place in the list.

    Encoders of any kind give features of the same strides the same names. None stands for the
    image, and for a feature without channels, which encoders that begin at stride 4 have.

    Raises:
        UserError: the encoder cannot be traced; names the line of its code.
    """
    encoder = model.encoder
    if isinstance(encoder, ResNetEncoder):
        return [None, *_resnet_stages(encoder)]
    judging, learning = (_listed(trace) for trace in traces(encoder, [LayerNorm]))
    found: list[Block | None] = []
    known: list[dict[fx.Node, str]] = [{trace.nodes[0]: IMAGE} for trace, _ in (judging, learning)]
    for name, width, *nodes in zip(
        STAGES, encoder.out_channels, judging[1], learning[1], strict=False
    ):
        is_stage = width > 0 and nodes[0] not in known[0]
        found.append(_stage(model, name, known, nodes) if is_stage else None)
        if is_stage:
            for given, node in zip(known, nodes, strict=True):
                given[node] = name
    return found


def _listed(trace: Trace) -> tuple[Trace, list[fx.Node]]:
    """A trace, and the nodes of the features that it ends with."""
    features: Any = trace.nodes[-1].args[0]
    return trace, list(features)


def _stage(
    model: nn.Module, name: str, known: list[dict[fx.Node, str]], nodes: list[fx.Node]
) -> Block:
    """The block of a feature; one that computes the same in both modes is traced once."""
    (judging, reads), (learning, _) = (
        _piece(model, given, node) for given, node in zip(known, nodes, strict=True)
    )
    same = judging.code == learning.code
    return Block(name, judging if same else ByMode(judging, learning), reads)


def _piece(
    model: nn.Module, given: Mapping[fx.Node, str], wanted: fx.Node
) -> tuple[fx.GraphModule, tuple[str, ...]]:
    """What computes a node from those of the given ones that it depends on, and their names."""
    needed = {*_behind(wanted, given)}
    nodes = [node for node in wanted.graph.nodes if node in needed]
    reads = [node for node in nodes if node in given]
    graph = fx.Graph()
    copies = {node: graph.placeholder(given[node]) for node in reads}
    for node in nodes:
        if node not in copies:
            copies[node] = graph.node_copy(node, copies.__getitem__)
            if node.op in ("call_module", "get_attr"):
                copies[node].target = f"{WHERE}{node.target}"
    graph.output(copies[wanted])
    return fx.GraphModule(model, graph), tuple(given[node] for node in reads)


def _behind(wanted: fx.Node, given: Mapping[fx.Node, str]) -> Iterator[fx.Node]:
    """A node and all that it depends on, back to the given ones."""
    ahead, seen = [wanted], {wanted}
    while ahead:
        node = ahead.pop()
        yield node
        more = [] if node in given else [n for n in node.all_input_nodes if n not in seen]
        ahead += more
        seen |= {*more}


def _resnet_stages(encoder: Any) -> list[Block]:
    """The stages of a ResNet, as chains of its modules."""
    parts = {
        "stem": (encoder.conv1, encoder.bn1, encoder.relu),
        "layer1": (encoder.maxpool, *encoder.layer1),
        **{name: tuple(getattr(encoder, name)) for name in ("layer2", "layer3", "layer4")},
    }
    names = [*parts][: len(encoder.out_channels) - 1]
    reads = [IMAGE, *names[:-1]]
    return [
        Block(name, nn.Sequential(*parts[name]), (read,))
        for name, read in zip(names, reads, strict=True)
    ]
