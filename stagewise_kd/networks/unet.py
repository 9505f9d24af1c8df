"""U-Nets over ResNets, by what they are commonly told by."""

from collections.abc import Sequence

from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.networks.segmenters import segmenter

WIDTHS = (256, 128, 64, 32, 16)  # smp's usual decoder channels, deepest first


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

    Folders of students of earlier versions name this function; for the other arguments see
    `segmenter`.

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
    """
    arguments = {
        "encoder_depth": depth,
        "decoder_channels": list(decoder_channels or WIDTHS[:depth]),
        "decoder_attention_type": attention,
        "decoder_interpolation": interpolation,
    }
    return segmenter(
        "unet",
        encoder,
        classes,
        channels,
        width,
        arguments,
        convolutions,
        mean,
        std,
        pretrained,
    )
