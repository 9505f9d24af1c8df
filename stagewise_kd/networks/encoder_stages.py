"""Encoders of segmentation-models-pytorch as blocks, one for each feature that they list."""

from typing import Any

from segmentation_models_pytorch.encoders.mix_transformer import LayerNorm
from segmentation_models_pytorch.encoders.resnet import ResNetEncoder
from torch import fx, nn

from stagewise_kd.networks.blocks import IMAGE, Block
from stagewise_kd.networks.pieces import branch
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
        found.append(Block(name, *branch(model, known, nodes, WHERE)) if is_stage else None)
        if is_stage:
            for given, node in zip(known, nodes, strict=True):
                given[node] = name
    return found


def _listed(trace: Trace) -> tuple[Trace, list[fx.Node]]:
    """A trace, and the nodes of the features that it ends with."""
    features: Any = trace.nodes[-1].args[0]
    return trace, list(features)


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
