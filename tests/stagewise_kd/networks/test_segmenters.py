import warnings

import pytest
import torch
from torch import nn

from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.networks.origin import rebuild
from stagewise_kd.networks.segmenters import CLASSES, as_blocks, segmenter
from stagewise_kd.system.errors import UserError

PAIRS = [
    ("unet", "tu-convnext_atto"),  # without a feature at stride 2
    ("fpn", "efficientnet-b0"),  # drops its connections in training by a function
    ("deeplabv3plus", "timm-mobilenetv3_small_100"),
    ("segformer", "mit_b0"),
]
ENCODERS = (
    *("resnet18", "efficientnet-b0", "tu-convnext_atto"),
    *("timm-mobilenetv3_small_100", "mit_b0"),
)


def made(model: str, encoder: str) -> BlockNet:
    torch.manual_seed(0)
    return segmenter(model, encoder, 3, mean=[0.0] * 3, std=[1.0] * 3)


def check(net: BlockNet, side: int) -> None:
    """Blocks give what the model gives, in both modes, and train alone."""
    images = torch.rand(2, 3, side, side)
    model = net.eval().model
    with torch.no_grad():
        found = net.features({"image": images}, {*net.names})
        listed = [x for x in model.encoder(images)[1:] if x.shape[1]]
        stages = net.of_role("encoder")[-len(listed) :]
        assert all(found[n].equal(x) for n, x in zip(stages, listed, strict=True))
        assert found["head"].equal(model(images))
    for module in net.train().model.modules():
        if type(module).__name__.startswith("Drop"):
            module.eval()
    model.encoder._drop_connect_rate = 0.0
    _check_a_step(net, images)


def _check_a_step(net: BlockNet, images: torch.Tensor) -> None:
    name = net.of_role("encoder")[1]
    net.eval()
    block = net.blocks[name].module.train()
    before = {k: v.clone() for k, v in net.model.state_dict().items()}
    optimizer = torch.optim.SGD(block.parameters(), lr=0.1)
    net.features({"image": images}, {name})[name].square().mean().backward()
    optimizer.step()
    own = {id(x) for x in (*block.parameters(), *block.buffers())}
    changed = {
        k: id(v) in own
        for k, v in net.model.state_dict(keep_vars=True).items()
        if not v.equal(before[k])
    }
    assert changed
    assert all(changed.values())


@pytest.mark.parametrize(("model", "encoder"), PAIRS)
def test_blocks_are_the_model(model, encoder):
    check(made(model, encoder), 64)


@pytest.mark.parametrize(("model", "encoder"), PAIRS[:2])
def test_in_training_blocks_do_what_the_model_does(model, encoder):
    net = made(model, encoder).train()
    for module in net.model.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = 0.0
    images = torch.rand(2, 3, 64, 64)
    torch.manual_seed(1)
    expected = net.model(images)
    torch.manual_seed(1)  # the same connections are dropped
    torch.testing.assert_close(net(images), expected, rtol=1e-3, atol=1e-4)


def test_encoders_name_features_of_equal_strides_alike():
    net = made("deeplabv3plus", "timm-mobilenetv3_small_100")
    assert net.names == ("stem", "layer1", "layer2", "layer3", "layer4", "decoder0", "head")
    assert net.blocks["decoder0"].reads == ("layer1", "layer4")
    assert made("unet", "tu-convnext_atto").of_role("encoder")[0] == "layer1"
    assert made("unet", "tu-convnext_atto").blocks["decoder3"].reads == ("decoder2",)


@pytest.mark.parametrize(("model", "encoder"), PAIRS[1:3])
def test_any_network_is_rebuilt_and_known_again(model, encoder):
    net = made(model, encoder)
    again = rebuild(net.origin.build, net.origin.arguments)
    again.model.load_state_dict(net.model.state_dict())
    assert again.origin == net.origin
    known = as_blocks(net.model, [0.0] * 3, [1.0] * 3).origin
    assert known.arguments["arguments"] == net.origin.arguments["arguments"]
    assert net.origin.files["config.json"]["_model_class"] == CLASSES[model].__name__


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("fpm", "resnet18", 2), "model=fpm: give one of unet"),
        (("fpn", "efficientnet_b0", 2), r"no such encoder; did you mean smp/efficientnet-b0"),
        (("linknet", "mit_b0", 2), "model=linknet over mit_b0: Encoder `mit_b0` is not supported"),
        (("fpn", "resnet18", 2, 3, 1.0, {"pyramid": 3}), r"model\.arguments\.pyramid: FPN takes"),
        (("fpn", "mit_b0", 2, 3, 0.5), "student.width=0.5: mit_b0 has one width only"),
        (("unet", "dpn68", 2), "dpn68: DPNEncoder cannot be traced"),
    ],
)
def test_what_there_is_not(arguments, words):
    with pytest.raises(UserError, match=words):
        segmenter(*arguments)


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("model", CLASSES)
def test_every_model_over_every_kind_of_encoder(model, encoder):
    with warnings.catch_warnings(action="ignore"):
        try:
            net = made(model, encoder)
        except UserError as error:
            assert f"model={model} over {encoder}" in str(error)
            assert (model, encoder) in [("unetplusplus", "mit_b0"), ("linknet", "mit_b0")]
            return
        check(net, 128)
