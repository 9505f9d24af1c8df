from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch

import seg_kd
from seg_kd.decoders import decoder_shape, matched
from seg_kd.networks import open_smp, open_weights
from stagewise_kd.networks.origin import rebuild
from stagewise_kd.networks.segmenters import as_blocks, segmenter
from stagewise_kd.system.errors import UserError

seg_kd.register()  # the shrunk encoders


def normalized(net, image):
    return (image - net.mean) / net.std


@pytest.mark.parametrize("name", ["resnet10", "resnet14", "resnet20", "resnet26"])
def test_shrunk_encoders_are_ordinary_smp_encoders(name):
    for kind in (smp.Unet, smp.FPN, smp.UnetPlusPlus):
        model = kind(name, encoder_weights=None, classes=2).eval()
        assert model(torch.rand(1, 3, 32, 32)).shape == (1, 2, 32, 32)


def test_shrunk_encoder_has_the_blocks_of_its_name():
    model = smp.Unet("resnet20", encoder_weights=None)
    assert [len(getattr(model.encoder, f"layer{i}")) for i in (1, 2, 3, 4)] == [2, 2, 3, 2]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"arguments": {"encoder_depth": 3}},
        {"arguments": {"encoder_depth": 4, "decoder_attention_type": "scse"}},
        {"channels": 1, "classes": 1},
        {"channels": 4},
        {"width": 0.5},
        {"convolutions": [1, 1, 2, 1, 1]},
        {
            "arguments": {
                "decoder_interpolation": "bilinear",
                "decoder_channels": [64, 32, 16, 8, 4],
            }
        },
    ],
    ids=str,
)
def test_blocks_give_what_the_model_gives(options):
    net = segmenter("unet", "resnet10", **{"classes": 5, **options}).eval()
    image = torch.rand(2, options.get("channels", 3), 64, 96)
    with torch.no_grad():
        expected = net.model(normalized(net, image))
        assert torch.allclose(net(image), expected, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"arguments": {"encoder_depth": 4}, "convolutions": [1, 2, 1, 2]},
        {"arguments": {"decoder_attention_type": "scse"}, "convolutions": [1, 2, 1, 2, 1]},
        {"width": 0.25},
    ],
)
def test_a_network_is_rebuilt_from_its_description(options):
    net = segmenter("unet", "resnet14", 3, **options)
    again = rebuild(net.origin.build, net.origin.arguments)
    again.model.load_state_dict(net.model.state_dict())
    assert again.origin == net.origin


def test_an_encoder_stage_runs_no_decoder():
    net = segmenter("unet", "resnet10", 2)
    assert net.needed({"image"}, {"layer2"}) == ["stem", "layer1", "layer2"]
    assert net.of_role("encoder") == ("stem", "layer1", "layer2", "layer3", "layer4")
    rest = net.needed({"stem", "layer1", "layer2", "layer3", "layer4"}, {"logits"})
    assert rest == ["decoder0", "decoder1", "decoder2", "decoder3", "decoder4", "head"]


def test_width_halves_every_channel():
    net = segmenter("unet", "resnet10", 2, width=0.5)
    features = net.eval().features({"image": torch.rand(1, 3, 64, 64)}, {"stem", "layer4"})
    assert features["stem"].shape == (1, 32, 32, 32)
    assert features["layer4"].shape == (1, 256, 2, 2)


def test_activation_behind_the_head_is_left_out():
    model = smp.Unet("resnet18", encoder_weights=None, classes=3, activation="softmax").eval()
    logits = as_blocks(model).eval()(torch.rand(1, 3, 32, 32))
    assert not torch.allclose(logits.sum(1), torch.ones(1, 32, 32), atol=1e-3)


def test_opening_a_folder_of_smp_prints_nothing(tmp_path, capsys):
    smp.Unet("resnet18", encoder_weights=None).save_pretrained(tmp_path)
    open_smp(tmp_path, None, None)
    assert capsys.readouterr().out == ""


ASKED = {"model": "unet", "encoder": "resnet10", "classes": 1, "channels": 3, "arguments": {}}


def saved(tmp_path, **networks) -> Path:
    path = tmp_path / "w.ckpt"
    weights = {
        f"{name}.{key}": value
        for name, network in networks.items()
        for key, value in network.state_dict().items()
    }
    torch.save({"state_dict": weights}, path)
    return path


def test_of_several_unets_in_a_file_the_teacher(tmp_path):
    student = smp.Unet("resnet10", encoder_weights=None, classes=3)
    old, new = (smp.Unet("resnet10", encoder_weights=None, classes=2) for _ in range(2))
    wanted = ASKED | {"classes": 2}
    path = saved(tmp_path, student=student, teacher=new)
    net = open_weights(path, wanted)
    assert net.model.segmentation_head[0].weight.equal(new.segmentation_head[0].weight)
    path = saved(tmp_path, old=old, new=new)
    with pytest.raises(UserError, match=r"state_dict.old: resnet10; state_dict.new: resnet10"):
        open_weights(path, wanted)
    net = open_weights(path, wanted, "new")
    assert net.model.encoder.conv1.weight.equal(new.encoder.conv1.weight)


def test_weights_of_another_network(tmp_path):
    path = saved(tmp_path, net=smp.Unet("resnet14", encoder_weights=None))
    with pytest.raises(UserError, match=r"this is a resnet14, .*; pick teacher=resnet14"):
        open_weights(path, ASKED)
    path = saved(tmp_path, net=smp.Unet("mobilenet_v2", encoder_weights=None))
    with pytest.raises(
        UserError, match=r"network of encoder, decoder, .*expected smp.Unet over resnet10"
    ):
        open_weights(path, ASKED)
    path = saved(tmp_path, net=smp.Unet("resnet10", encoder_weights=None, in_channels=1))
    assert open_weights(path, ASKED).model.encoder.conv1.in_channels == 1


class TestDecoders:
    RESNET34 = {  # noqa: RUF012
        "model": "unet",
        "encoder": "resnet34",
        "width": 1.0,
        "arguments": {"encoder_depth": 5},
        "convolutions": [2] * 5,
    }

    def test_matched_goes_by_the_stage_of_its_resolution(self):
        # layer1-3 of ResNet34: 3, 4, 6 blocks; of ResNet18: 2, 2, 2; in all 16 against 8
        assert matched(self.RESNET34, "resnet18", 1.0)["convolutions"] == [1, 1, 2, 1, 1]
        assert matched(self.RESNET34, "resnet10", 1.0)["convolutions"] == [1] * 5
        assert matched(self.RESNET34, "resnet26", 1.0)["convolutions"] == [1, 2, 2, 2, 2]
        assert matched(self.RESNET34, "resnet34", 1.0)["convolutions"] == [2] * 5

    def test_matched_scales_channels_by_the_width(self):
        shape = matched(self.RESNET34, "resnet34", 0.5)
        assert shape["arguments"]["decoder_channels"] == [128, 64, 32, 16, 8]
        assert shape["convolutions"] == [2] * 5

    def test_matched_goes_by_the_widths_of_any_encoders(self):
        # resnet34: 64, 64, 128, 256, 512; mobilenetv3_small: 16, 16, 24, 48, 576
        shape = matched(self.RESNET34, "timm-mobilenetv3_small_100", 1.0)
        assert shape["arguments"]["decoder_channels"] == [48, 24, 16, 8, 4]
        assert shape["convolutions"] == [2] * 5
        # without a feature at the stem's resolution: layer1's, 40 by 64
        shape = matched(self.RESNET34, "tu-convnext_atto", 1.0)
        assert shape["arguments"]["decoder_channels"] == [160, 80, 40, 20, 10]

    def test_matched_scales_a_whole_decoder_by_the_median(self):
        fpn = self.RESNET34 | {"model": "fpn", "convolutions": None}
        arguments = matched(fpn, "timm-mobilenetv3_small_100", 1.0)["arguments"]
        # 1/4, 1/4, 3/16, 3/16 and 9/8, which counts as 1
        assert arguments["decoder_pyramid_channels"] == 64
        assert arguments["decoder_segmentation_channels"] == 32

    def test_default_is_smps(self):
        shape = decoder_shape("default", self.RESNET34, "resnet10", 1.0)
        ours = segmenter("unet", "resnet10", 1, **shape).model.state_dict()
        theirs = smp.Unet("resnet10", encoder_weights=None).state_dict()
        assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}

    def test_unknown(self):
        with pytest.raises(UserError, match="give default, matched or teacher"):
            decoder_shape("small", self.RESNET34, "resnet10", 1.0)
