"""What an exported network takes and gives, and the network with that built in."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from stagewise_kd.methods.losses import two_or_more
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.networks.outputs import logits_of

Layout = Literal["nchw", "nhwc"]
CLASSES = "classes"  # what argmax gives


@dataclass(frozen=True)
class Form:
    """What an exported network takes and gives.

    Args:
        preprocess: None: normalized float32 images (B, C, H, W), as the network itself takes them;
            else uint8 ones of this layout, scaling and normalization built in.
        argmax: class indices, (B,) or (B, H, W), in place of logits.
    """

    preprocess: Layout | None = None
    argmax: bool = False

    @property
    def output(self) -> str:
        """The name of what comes out."""
        return CLASSES if self.argmax else "logits"

    @property
    def sides(self) -> tuple[int, int]:
        """Which axes of the input are height and width."""
        return (1, 2) if self.preprocess == "nhwc" else (2, 3)

    def feed(self, images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] as an exported network takes them."""
        if self.preprocess is None:
            return ((images - mean) / std).contiguous()
        pixels = (images * 255).round().byte()
        return (pixels.permute(0, 2, 3, 1) if self.preprocess == "nhwc" else pixels).contiguous()


class Formed(nn.Module):
    """A network in eval mode with what its form builds in before and behind it."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: BlockNet, form: Form) -> None:
        super().__init__()
        self.model = net.model
        self.form = form
        for name in ("mean", "std"):
            self.register_buffer(name, getattr(net, name).clone())
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        """Logits, or classes, of images as the form says."""
        if self.form.preprocess == "nhwc":
            image = image.permute(0, 3, 1, 2)
        if self.form.preprocess:
            image = (image.float() / 255 - self.mean) / self.std
        logits: Tensor = logits_of(self.model(image))
        return two_or_more(logits).argmax(dim=1) if self.form.argmax else logits
