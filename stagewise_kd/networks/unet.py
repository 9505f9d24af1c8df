"""U-Nets of segmentation-models-pytorch as blocks with skips."""

from collections.abc import Sequence
from typing import Any

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.encoders.resnet import ResNetEncoder
from torch import Tensor, nn

from stagewise_kd.networks.blocks import Block, BlockNet, usual_norm
from stagewise_kd.networks.encoders import encoder_name
from stagewise_kd.networks.origin import Origin
from stagewise_kd.system.errors import UserError

WIDTHS = (256, 128, 64, 32, 16)  # smp's usual decoder channels, deepest first


class Up(nn.Module):
    """A decoder block of smp that takes the feature below and the skip, where there is one."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, below: Tensor, skip: Tensor | None = None) -> Tensor:
        """Features (B, C, H, W), skip (B, S, 2H, 2W), to (B, D, 2H, 2W)."""
        side = skip.shape[-2:] if skip is not None else [2 * n for n in below.shape[-2:]]
        return self.block(below, *side, skip_connection=skip)


def unet(
    encoder: str,
    classes: int,
    channels: int = 3,
    depth: int = 5,
    width: float = 1.0,
    decoder_channels: Sequence[int] | None = None,
    convolutions: Sequence[int] | None = None,
    attention: str | None = None,
    interpolation: str = "nearest",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    pretrained: bool = False,
) -> BlockNet:
    """A U-Net as the blocks stem, layer1 … layer4, decoder0 … decoder4, head.

    Args:
        encoder: a ResNet that smp knows.
        classes: channels of the logits; 1 for a binary mask.
        channels: of the image.
        depth: how many times the encoder halves the image, 3 to 5.
        width: factor of the encoder's channels.
        decoder_channels: of each decoder block, deepest first; None for smp's usual ones.
        convolutions: of each decoder block, 1 or 2; None for smp's usual two.
        attention: None or "scse".
        interpolation: of the decoder's upsampling.
        mean: per-channel mean of the input; None for ImageNet's.
        std: per-channel standard deviation, likewise.
        pretrained: start the encoder from ImageNet weights.

    Raises:
        UserError: the pretrained weights cannot be fetched.
    """
    options: dict[str, Any] = {
        "encoder_depth": depth,
        "decoder_channels": list(decoder_channels or WIDTHS[:depth]),
        "decoder_attention_type": attention,
        "decoder_interpolation": interpolation,
        "in_channels": channels,
        "classes": classes,
    }
    name = encoder_name(encoder, width)
    model = _pretrained(name, options) if pretrained else _plain(name, options)
    for block, count in zip(model.decoder.blocks, convolutions or (), strict=False):
        if count == 1:
            block.conv2 = nn.Identity()
    model.to(memory_format=torch.channels_last)
    return as_blocks(model, mean, std, encoder, width)


def _plain(name: str, options: dict[str, Any]) -> smp.Unet:
    return smp.Unet(name, encoder_weights=None, **options)


def _pretrained(name: str, options: dict[str, Any]) -> smp.Unet:
    try:
        return smp.Unet(name, encoder_weights="imagenet", **options)
    except Exception as error:  # the hub's client raises many kinds of its own
        raise UserError(
            f"teacher.pretrained=true: cannot fetch ImageNet weights for {name} "
            f"({type(error).__name__}); connect to the network, or give teacher.checkpoint=PATH"
        ) from None


def as_blocks(
    model: smp.Unet,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    encoder: str | None = None,
    width: float = 1.0,
) -> BlockNet:
    """An smp U-Net with a ResNet encoder as blocks; the submodules are the model's own.

    Args:
        model: the U-Net; an activation behind its head is left out, so that it gives logits.
        mean: per-channel mean of the input for images in [0, 1]; None for ImageNet's.
        std: per-channel standard deviation, likewise.
        encoder: name of its encoder, before a width factor; None for the model's own word.
        width: factor of its encoder's channels.

    Raises:
        UserError: the model is no U-Net with a ResNet encoder.
    """
    body: Any = getattr(model, "encoder", None)
    if not isinstance(model, smp.Unet) or not isinstance(body, ResNetEncoder):
        kind = f"{type(model).__name__} with {type(body).__name__}"
        raise UserError(f"the network is a {kind}; expected smp.Unet with a ResNet encoder")
    usual = usual_norm(body.conv1.in_channels)
    norm = {"mean": [*(mean or usual[0])], "std": [*(std or usual[1])]}
    arguments = _shape(model, encoder or model.config["encoder_name"], width) | norm
    origin = Origin("stagewise_kd.networks.unet.unet", arguments, _smp_files(model, arguments))
    return BlockNet(model, _blocks(model), **norm, origin=origin)


def _blocks(model: smp.Unet) -> list[Block]:
    encoder: Any = model.encoder
    depth = len(model.decoder.blocks)
    parts = {
        "stem": nn.Sequential(encoder.conv1, encoder.bn1, encoder.relu),
        "layer1": nn.Sequential(encoder.maxpool, *encoder.layer1),
        **{name: nn.Sequential(*getattr(encoder, name)) for name in ("layer2", "layer3", "layer4")},
    }
    names = list(parts)[:depth]
    blocks = [
        Block(name, parts[name], (read,))
        for name, read in zip(names, ["image", *names[:-1]], strict=True)
    ]
    below = names[-1]
    for index, (block, skip) in enumerate(
        zip(model.decoder.blocks, [*names[-2::-1], None], strict=True)
    ):
        reads = (below, skip) if skip else (below,)
        blocks.append(Block(f"decoder{index}", Up(block), reads, "decoder"))
        below = f"decoder{index}"
    head = nn.Sequential(*list(model.segmentation_head)[:2])
    blocks.append(Block("head", head, (below,), "head"))
    return blocks


def _shape(model: Any, encoder: str, width: float) -> dict[str, Any]:
    """The arguments of `unet` that give a network of this shape."""
    blocks = list(model.decoder.blocks)
    return {
        "encoder": encoder,
        "classes": model.segmentation_head[0].out_channels,
        "channels": model.encoder.conv1.in_channels,
        "depth": len(blocks),
        "width": width,
        "decoder_channels": [block.conv1[0].out_channels for block in blocks],
        "convolutions": [1 if isinstance(block.conv2, nn.Identity) else 2 for block in blocks],
        "attention": "scse" if hasattr(blocks[0].attention1.attention, "sSE") else None,
        "interpolation": blocks[0].interpolation_mode,
    }


def _smp_files(model: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """What smp's `from_pretrained` rebuilds the network from; nothing where smp has none such."""
    if arguments["width"] != 1 or 1 in arguments["convolutions"]:
        return {}
    config = {key: value for key, value in model.config.items() if not key.startswith("_")}
    own = {"encoder_weights": None, "_model_class": type(model).__name__}
    return {"config.json": config | own}
