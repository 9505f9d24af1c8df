from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import seg_kd
import stagewise_kd as skd
from stagewise_kd.networks.cutting import cut
from stagewise_kd.system.errors import UserError

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def double(inputs: int, outputs: int) -> nn.Sequential:
    layers = [
        part
        for given in (inputs, outputs)
        for part in (nn.Conv2d(given, outputs, 3, 1, 1), nn.BatchNorm2d(outputs), nn.ReLU(True))
    ]
    return nn.Sequential(*layers)


class Up(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.both = nn.ConvTranspose2d(2 * width, width, 2, 2), double(2 * width, width)

    def forward(self, x, skip):
        x = self.up(x)
        down, right = (skip.size()[side] - x.size()[side] for side in (2, 3))
        return self.both(torch.cat([skip, F.pad(x, [0, right, 0, down])], 1))


class UNet(nn.Module):
    """A U-Net as people write it: modules by name, a pooling that they share."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.inc, self.down1 = double(3, width), double(width, 2 * width)
        self.down2, self.pool = double(2 * width, 4 * width), nn.MaxPool2d(2)
        self.up2, self.up1 = Up(2 * width), Up(width)
        self.outc = nn.Conv2d(width, 3, 1)

    def forward(self, x):
        first = self.inc(x)
        second = self.down1(self.pool(first))
        x = self.down2(self.pool(second))
        return self.outc(self.up1(self.up2(x, second), first))


class Lists(nn.Module):
    """Another one: lists of modules, two of them for a resolution of the decoder."""

    def __init__(self, widths: tuple[int, ...] = (4, 8)) -> None:
        super().__init__()
        inputs = [3, *widths]
        self.downs = nn.ModuleList(map(double, inputs, widths))
        self.middle = nn.Sequential(double(8, 16), double(16, 16))
        self.ups = nn.ModuleList()
        for width in widths[::-1]:
            self.ups += [nn.ConvTranspose2d(2 * width, width, 2, 2), double(2 * width, width)]
        self.last = nn.Conv2d(widths[0], 3, 1)

    def forward(self, x):
        skips = []
        for down in self.downs:
            skips.append(down(x))
            x = F.max_pool2d(skips[-1], 2)
        x = self.middle(x)
        for enlarge, convolve in zip(self.ups[::2], self.ups[1::2], strict=True):
            x = convolve(torch.cat([skips.pop(), enlarge(x)], 1))
        return self.last(x)


def masks(count: int = 12) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(x, (x[0] * 3).long().clamp(max=2)) for x in torch.rand(count, 3, 32, 32)]


CUTS = {
    UNet: {
        "inc": ("encoder", ("image",)),
        "down1": ("encoder", ("inc",)),
        "down2": ("encoder", ("down1",)),
        "up2": ("decoder", ("down1", "down2")),
        "up1": ("decoder", ("inc", "up2")),
        "outc": ("head", ("up1",)),
    },
    Lists: {
        "downs.0": ("encoder", ("image",)),
        "downs.1": ("encoder", ("downs.0",)),
        "middle": ("encoder", ("downs.1",)),
        "ups.1": ("decoder", ("downs.1", "middle")),
        "ups.3": ("decoder", ("downs.0", "ups.1")),
        "last": ("head", ("ups.3",)),
    },
}


@pytest.mark.parametrize("kind", CUTS)
def test_blocks_read_the_features_that_the_network_reads_again(kind):
    torch.manual_seed(0)
    model = kind()
    net = cut(model, IMAGES)
    assert {name: (block.role, block.reads) for name, block in net.blocks.items()} == CUTS[kind]
    held = [id(p) for block in net.blocks.values() for p in block.module.parameters()]
    assert sorted(held) == sorted(id(p) for p in model.parameters())
    for mode in (False, True):
        assert net.train(mode)(IMAGES).equal(model.train(mode)(IMAGES))
    if kind is UNet:  # which pads
        odd = torch.rand(2, 3, 30, 27)
        assert net.eval()(odd).equal(model.eval()(odd))


def test_a_unet_of_ones_own_learns_features_then_its_decoder():
    torch.manual_seed(0)
    teacher = UNet(width=8)
    run = seg_kd.distill(UNet(), teacher, masks(), steps=2, batch_size=4)
    assert [stage["name"] for stage in run.result["stages"]] == ["features", "decoder"]
    kept = seg_kd.distill(UNet(width=8), teacher, [x for x, _ in masks()], steps=2, batch_size=4)
    theirs = teacher.state_dict()
    later = {k: v for k, v in kept.student.state_dict().items() if k.startswith(("up", "outc"))}
    assert later and all(value.equal(theirs[name]) for name, value in later.items())


def test_shrunk_blocks_of_a_unet_are_cut_alike():
    torch.manual_seed(0)
    net = cut(UNet(width=8), IMAGES)
    smaller = skd.shrink(net, IMAGES, macs=0.7, repair_steps=1)
    assert smaller.names == net.names
    assert [b.role for b in smaller.blocks.values()] == [b.role for b in net.blocks.values()]


class Around(nn.Module):
    """A skip around what goes on below, as MONAI's UNet is built of."""

    def __init__(self, below: nn.Module) -> None:
        super().__init__()
        self.below = below

    def forward(self, x):
        return torch.cat([x, self.below(x)], dim=1)


def test_a_unet_inside_of_another():
    def down(channels, out):
        return nn.Sequential(nn.Conv2d(channels, out, 3, 2, 1), nn.PReLU())

    def up(channels, out):
        return nn.Sequential(nn.ConvTranspose2d(channels, out, 2, 2), nn.PReLU())

    torch.manual_seed(0)
    lowest = nn.Sequential(down(8, 16), Around(nn.Conv2d(16, 16, 3, padding=1)), up(32, 8))
    model = nn.Sequential(OrderedDict(net=nn.Sequential(down(3, 8), Around(lowest), up(16, 4))))
    net = cut(model.eval(), IMAGES)
    assert {name: (block.role, block.reads) for name, block in net.blocks.items()} == {
        "net.0": ("encoder", ("image",)),
        "net.1.below.1": ("encoder", ("net.0",)),
        "net.1.below.2": ("decoder", ("net.1.below.1",)),
        "net.2": ("head", ("net.0", "net.1.below.2")),
    }
    assert net(IMAGES).equal(model(IMAGES))


def test_a_unet_in_a_module_around_it_is_cut_as_it_is():
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = UNet()

        def forward(self, x):
            return F.interpolate(self.net(x), size=x.shape[2:])

    bare, wrapped = cut(UNet(), IMAGES).blocks.values(), cut(Whole(), IMAGES).blocks.values()
    assert [(f"net.{b.name}", b.role) for b in bare] == [(b.name, b.role) for b in wrapped]


def test_branches_that_meet_at_the_end_alone_are_told_what_they_can_do():
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = UNet(), UNet()

        def forward(self, x):
            return self.one(x) + self.other(x)

    with pytest.raises(UserError, match=r"Both has no module .* distill it by its logits"):
        cut(Both(), IMAGES)


def test_modules_that_are_called_twice_are_left_to_other_ways():
    class Shared(UNet):
        def forward(self, x):
            first = self.inc(x)
            second = self.down1(self.pool(first))
            x = self.down2(self.pool(second))
            return self.outc(
                self.up1(self.up2(self.up2(x, second).repeat(1, 2, 1, 1), second), first)
            )

    torch.manual_seed(0)
    net = cut(Shared(), IMAGES)
    held = [id(p) for block in net.blocks.values() for p in block.module.parameters()]
    assert len(held) == len({*held})
    assert net.eval()(IMAGES).equal(net.model(IMAGES))
