"""Networks of each family, exported at small sizes and proven against torch."""

import json

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from stagewise_kd.export.form import Form
from stagewise_kd.export.onnx_file import OnnxNet
from stagewise_kd.export.program import ABOUT
from stagewise_kd.export.proof import prove
from stagewise_kd.export.writing import write_proven
from stagewise_kd.networks.blocks import Block, BlockNet
from stagewise_kd.networks.libraries import library_blocks, library_model
from stagewise_kd.networks.resnet import resnet
from stagewise_kd.networks.segmenters import segmenter
from stagewise_kd.networks.shrunk import DROP, shrunk
from stagewise_kd.system.errors import UserError

PLAIN = Form()
MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)


def about_of(net: BlockNet, form: Form) -> dict:
    norm = {key: getattr(net, key).flatten().tolist() for key in ("mean", "std")}
    told = {"stagewise_kd": "0", "task": "classification", "classes": ["a", "b", "c"], **norm}
    return told | {"preprocess": form.preprocess, "output": form.output}


def pictures(count: int = 3, sides: tuple[int, int] = (32, 32)) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, *sides), generator=generator) / 255


def own(layers: nn.Module) -> BlockNet:
    torch.manual_seed(0)
    return BlockNet(layers, [Block("all", layers, ("image",), "head")], MEAN, STD).eval()


def small() -> BlockNet:
    torch.manual_seed(0)
    body = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
    return own(nn.Sequential(*body, nn.Flatten(), nn.Linear(8, 3)))


def dense() -> BlockNet:
    torch.manual_seed(0)
    return own(nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), nn.ReLU(), nn.Conv2d(4, 3, 1)))


def of_library(name: str, size: int = 32) -> BlockNet:
    model = library_model(name, 3, (size, size))
    return library_blocks(model, name, 3, (size, size), None, None, MEAN, STD).eval()


def unet(model: str = "unet", encoder: str = "resnet18", **arguments) -> BlockNet:
    return segmenter(model, encoder, 3, arguments=arguments, mean=MEAN, std=STD).eval()


def dropped() -> BlockNet:
    whole = {"name": "resnet14", "classes": 3, "head": "published", "mean": MEAN, "std": STD}
    path = "stagewise_kd.networks.resnet.resnet"
    return shrunk(path, whole, [("layer1.0", DROP)], (3, 32, 32)).eval()


def exported(net: BlockNet, path, form: Form = PLAIN, images: Tensor | None = None):
    images = pictures() if images is None else images
    return write_proven(net, path, images.shape[1:], lambda: [images], about_of(net, form))


FAMILIES = {
    "ours": lambda: resnet("resnet10", 3, "published", MEAN, STD).eval(),
    "shrunk": dropped,
    "torchvision's MobileNet": lambda: of_library("torchvision/mobilenet_v3_small"),
    "DenseNet": lambda: of_library("torchvision/densenet121"),
    "ConvNeXt": lambda: of_library("timm/convnext_atto"),
    "EfficientNet": lambda: of_library("timm/efficientnet_b0"),
    "ViT": lambda: of_library("timm/vit_tiny_patch16_224"),
    "MobileNet": lambda: of_library("timm/mobilenetv3_small_050"),
    "Mixer": lambda: of_library("timm/mixer_s16_224", 224),
    "RegNet": lambda: of_library("timm/regnetx_002"),
    "U-Net": unet,
    "FPN": lambda: unet("fpn", "mobilenet_v2"),
    "DeepLabV3+": lambda: unet("deeplabv3plus"),
}
FIXED = ("ViT", "Mixer")


def check_family(net: BlockNet, folder, sides: tuple[int, int], fixed: bool) -> None:
    made = exported(net, folder / "net.onnx", images=pictures(sides=sides))
    assert made.proof.holds and made.proof.agreement == 1
    assert made.free_sides is not fixed
    file = OnnxNet(folder / "net.onnx")
    other = pictures(5, sides if fixed else (sides[0] + 32, sides[1] + 64))
    with torch.inference_mode():
        torch.testing.assert_close(file(other), net(other), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_small_unet_computes_the_same_in_onnx(tmp_path):
    net = unet(encoder="resnet10", encoder_depth=3, decoder_channels=[16, 8, 4])
    check_family(net, tmp_path, (32, 32), False)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_computes_the_same_in_onnx(family, tmp_path):
    side = 224 if family == "Mixer" else 64 if family == "DeepLabV3+" else 32
    check_family(FAMILIES[family](), tmp_path, (side, side), family in FIXED)


def test_preprocessing_and_argmax_are_built_in(tmp_path):
    net, images = dense(), pictures()
    exported(net, tmp_path / "net.onnx", Form("nchw", argmax=True))
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    (took,), (gave,) = session.get_inputs(), session.get_outputs()
    assert (took.name, took.type) == ("image", "tensor(uint8)")
    assert took.shape == ["batch", 3, "height", "width"]
    assert (gave.name, gave.type) == ("classes", "tensor(int64)")
    pixels = (images * 255).round().byte()
    (classes,) = session.run(None, {"image": pixels.numpy()})
    with torch.inference_mode():
        assert (torch.from_numpy(classes) == net(images).argmax(dim=1)).float().mean() > 0.999


def test_names_axes_and_metadata_of_the_file(tmp_path):
    net, path = small(), tmp_path / "net.onnx"
    write_proven(net, path, (3, 32, 32), lambda: [pictures()], about_of(net, PLAIN), opset=21)
    model = onnx.load(path)
    assert model.opset_import[0].version == 21
    onnx.checker.check_model(model, full_check=True)
    shape = model.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in shape] == ["batch", 3, "height", "width"]
    assert (model.graph.input[0].name, model.graph.output[0].name) == ("image", "logits")
    told = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert told["classes"] == ["a", "b", "c"]
    assert told["mean"] == pytest.approx(MEAN)
    assert told["preprocess"] is None


def test_a_program_of_torch(tmp_path):
    net = small()
    made = exported(net, tmp_path / "net.pt2", Form("nhwc"))
    assert made.proof.holds
    extra = {ABOUT: ""}
    program = torch.export.load(tmp_path / "net.pt2", extra_files=extra)
    assert json.loads(extra[ABOUT])["classes"] == ["a", "b", "c"]
    images = pictures(4, (48, 40))
    pixels = (images * 255).round().byte().permute(0, 2, 3, 1).contiguous()
    with torch.inference_mode():
        torch.testing.assert_close(program.module()(pixels), net(images))


class Bessel(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x).mean(dim=(2, 3))


def test_an_operator_that_onnx_lacks_is_named(tmp_path):
    with pytest.raises(UserError, match=r"ONNX has no operator for [\w.:]*bessel_j0, which"):
        exported(own(Bessel()), tmp_path / "net.onnx")


class Fickle(nn.Module):
    """Computes something else once it is traced."""

    def forward(self, x: Tensor) -> Tensor:
        traced = torch.compiler.is_exporting()
        return x.mean(dim=(2, 3)) + (0.01 if traced else 0)


def test_a_file_that_computes_something_else_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"does not compute what the student computes.* 0\.01 of"):
        exported(own(Fickle()), tmp_path / "net.pt2")


def test_proof_by_hand():
    logits = torch.tensor([[1.0, 2.0], [8.0, 3.0]])
    other = torch.tensor([[1.0, 2.5], [4.0, 4.5]])
    found = prove(lambda x: logits, lambda x: other, [pictures(2)], argmax=False)
    assert (found.images, found.difference, found.scale) == (2, 4, 8)
    assert (found.agreement, found.holds) == (0.5, False)
    # the class 0 that is chosen has 1 less than the largest logit, 2
    chosen = torch.tensor([0, 0])
    found = prove(lambda x: logits, lambda x: chosen, [pictures(2)], argmax=True)
    assert (found.difference, found.agreement) == (1, 0.5)


def test_what_is_no_number_proves_nothing():
    bad = torch.tensor([[float("nan"), 0.0]])
    good = [torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)]
    answers = iter([bad, torch.zeros(1, 2)])
    found = prove(lambda x: torch.zeros(1, 2), lambda x: next(answers), good, argmax=False)
    assert not found.holds


def test_a_single_logit_stands_for_two():
    one = torch.tensor([[-1.0], [2.0]])
    found = prove(lambda x: one, lambda x: -one, [pictures(2)], argmax=False)
    assert (found.difference, found.agreement) == (4, 0)


def test_a_file_of_one_size_says_so(tmp_path):
    net = own(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 3)))
    assert not exported(net, tmp_path / "net.onnx").free_sides
    with pytest.raises(UserError, match="takes images of 32×32 pixels alone, and these are 40×32"):
        OnnxNet(tmp_path / "net.onnx")(pictures(1, (40, 32)))
