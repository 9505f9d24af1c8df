import pytest
import timm
import torch
import torchvision
from torch import nn

from stagewise_kd.networks.blocks import IMAGE, BlockNet
from stagewise_kd.networks.cutting import cut
from stagewise_kd.system.errors import UserError

SWIN = {"window_size": 2, "embed_dim": 24, "depths": (1, 1, 2, 1), "num_heads": (1, 2, 4, 8)}
VIT = {"img_size": 64}
FAMILIES = {
    "timm/mobilenetv3_small_100": ({}, "stem blocks.0 blocks.1 blocks.3 blocks.4 head"),
    "timm/convnext_atto": ({}, "stages.0 stages.1 stages.2 stages.3 head"),
    "timm/vit_tiny_patch16_224": (VIT, "blocks.2 blocks.5 blocks.8 blocks.11 head"),
    "timm/swin_tiny_patch4_window7_224": (VIT | SWIN, "layers.0 layers.1 layers.2 layers.3 head"),
    "torchvision/squeezenet1_0": ({}, "stem features.5 features.10 features.12 head"),
    "torchvision/shufflenet_v2_x1_0": ({}, "stem stage2 stage3 stage4 head"),
}
TIMM = """resnet50 resnext50_32x4d regnety_008 efficientnet_b0 tf_efficientnetv2_s mobilenetv2_100
mobilenetv3_small_100 mobilenetv4_conv_small mnasnet_100 convnext_atto convnextv2_nano densenet121
vgg16_bn inception_v3 ghostnet_100 repvgg_a0 hrnet_w18_small swin_tiny_patch4_window7_224
vit_tiny_patch16_224 deit_tiny_patch16_224 mixer_s16_224 edgenext_xx_small fastvit_t8 mobilevit_xxs
nfnet_l0 dla34 xception41 rexnet_100 efficientformerv2_s0 maxvit_rmlp_pico_rw_256
vit_small_patch16_dinov3 eva02_tiny_patch14_224 twins_svt_small"""
TORCHVISION = """resnet18 googlenet squeezenet1_0 shufflenet_v2_x1_0 densenet121 efficientnet_b0
convnext_tiny mobilenet_v3_large regnet_y_400mf swin_t vit_b_16 alexnet"""
ALL = [f"timm/{name}" for name in TIMM.split()]
ALL += [f"torchvision/{name}" for name in TORCHVISION.split()]
SIZES = {"timm/inception_v3": 96, "timm/efficientformerv2_s0": 224}
SIZES |= {"timm/eva02_tiny_patch14_224": 56, "timm/twins_svt_small": 224}
OPTIONS = {
    "timm/swin_tiny_patch4_window7_224": VIT | {"window_size": 2},
    "timm/maxvit_rmlp_pico_rw_256": VIT,
    "torchvision/vit_b_16": {"image_size": 64},
    "torchvision/googlenet": {"init_weights": False, "aux_logits": False},
} | dict.fromkeys((f"timm/{n}_224" for n in ("vit_tiny_patch16", "deit_tiny_patch16")), VIT)
OPTIONS["timm/mixer_s16_224"] = VIT
OPTIONS["timm/eva02_tiny_patch14_224"] = {"img_size": 56}


def network(name: str, options: dict) -> nn.Module:
    """A network without dropout, and with no weights of zero, which would hide its blocks."""
    torch.manual_seed(0)
    library, name = name.split("/")
    make = timm.create_model if library == "timm" else torchvision.models.get_model
    model = make(name, num_classes=10, **options)
    for module in model.modules():
        for key in {"p", "drop_prob", "drop_rate", "dropout"} & vars(module).keys():
            if isinstance(getattr(module, key), float):
                setattr(module, key, 0.0)
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return model


def check(net: BlockNet, size: int) -> None:
    """Blocks compute what their network computes in both modes, and learn alone."""
    images = torch.rand(3, 3, size, size)  # another batch size than the example's
    with torch.no_grad():
        features = net.eval().features({IMAGE: images}, {*net.names})
        assert features[net.names[-1]].equal(net.model(images))
        before = {key: value.clone() for key, value in net.model.state_dict().items()}
        blocks = net.train()(images)
        net.model.load_state_dict(before)
        torch.testing.assert_close(blocks, net.model(images), rtol=1e-4, atol=1e-4)
    net.model.load_state_dict(before)
    trained = net.eval().blocks[net.names[1]]
    held = {id(t) for t in (*trained.module.parameters(), *trained.module.buffers())}
    trained.module.train()
    given = {name: ({IMAGE: images} | features)[name] for name in trained.reads}
    loss = net.features(given, {trained.name})[trained.name].square().mean()
    optimizer = torch.optim.SGD(net.parameters(), 0.1, weight_decay=0.1)
    loss.backward()
    optimizer.step()
    now = net.model.state_dict(keep_vars=True)
    changed = {key for key, value in now.items() if not value.equal(before[key])}
    assert changed and all(id(now[key]) in held for key in changed)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_of_each_family(name):
    options, names = FAMILIES[name]
    model = network(name, options)
    keys = [*model.state_dict()]
    net = cut(model, torch.rand(2, 3, 64, 64))
    assert net.names == tuple(names.split())
    assert [*net.model.state_dict()] == keys
    assert net.of_role("head") == ("head",)
    check(net, 64)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ALL)
def test_every_network(name):
    size = SIZES.get(name, 64)
    net = cut(network(name, OPTIONS.get(name, {})), torch.rand(2, 3, size, size))
    assert len(net.of_role("encoder")) >= 3
    check(net, size)


def test_a_found_cut_of_a_resnet_is_the_published_one():
    class Own(torchvision.models.ResNet):
        """Not known as torchvision's."""

    model = Own(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=4)
    found = cut(model, torch.rand(2, 3, 32, 32))
    known = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], 4)
    known.load_state_dict(model.state_dict())
    published = cut(known, torch.rand(2, 3, 32, 32))
    assert found.names == published.names
    of_model = {id(p): key for net in (found, published) for key, p in net.model.named_parameters()}
    for name in found.names:
        ours, theirs = (
            [of_model[id(p)] for p in net.blocks[name].module.parameters()]
            for net in (found, published)
        )
        assert sorted(ours) == sorted(theirs)


def test_images_of_another_size_than_the_examples():
    net = cut(network("timm/mobilenetv3_small_100", {}), torch.rand(2, 3, 64, 64)).eval()
    images = torch.rand(1, 3, 96, 80)
    assert net(images).equal(net.model(images))


def test_a_network_of_one_size_says_so():
    model = timm.create_model("vit_tiny_patch16_224", num_classes=2, depth=4, img_size=64)
    with pytest.raises(UserError, match=r"VisionTransformer cannot take images of \(3, 32, 32\)"):
        cut(model, torch.rand(2, 3, 32, 32))


class Gate(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        if x.mean() > 0:
            x = -x
        return self.conv(x)


class Gated(nn.Module):
    """A chain with a line that cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU())
        self.layers = nn.ModuleList([Gate(4), nn.Conv2d(4, 8, 3, 2, 1), Gate(8)])
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))

    def forward(self, x):
        x = self.stem(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


class Skipping(Gated):
    def forward(self, x):
        return super().forward(x) + x.mean()


IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_a_network_that_cannot_be_traced_names_the_line_and_two_ways_out():
    with pytest.raises(UserError) as error:
        cut(Gated(), IMAGES)
    for words in ("if x.mean() > 0:", "test_cutting_any.py", "no_trace=['layers.0']", "at=[…]"):
        assert words in str(error.value)
    with pytest.raises(UserError, match="Skipping cannot be traced"):
        cut(Skipping(), IMAGES, ["stem", "layers.1"])  # no chain


def test_a_chain_is_cut_without_tracing():
    net = cut(Gated(), IMAGES, ["layers.1", "stem"]).eval()
    assert net.names == ("stem", "layers.1", "head")
    assert net(IMAGES).equal(net.model(IMAGES))
    assert net.blocks["stem"].module[0] is net.model.stem
    check(net, 32)


@pytest.mark.parametrize("whole", [[Gate], ["layers.0", "layers.2"]])
def test_modules_that_are_left_whole(whole):
    net = cut(Gated(), IMAGES, no_trace=whole).eval()
    assert net.names == ("stem", "layers", "head")
    assert net(IMAGES).equal(net.model(IMAGES))


def test_modules_to_leave_whole_that_are_none():
    with pytest.raises(UserError, match="no_trace: Gated has no module nope"):
        cut(Gated(), IMAGES, no_trace=["nope"])


def test_a_head_without_weights_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.AdaptiveAvgPool2d(1))
    with pytest.raises(UserError, match="nothing behind 1 has weights"):
        cut(model.append(nn.Flatten()), IMAGES, ["1"])
