from collections import OrderedDict, namedtuple

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import segmentation

import cls_kd
import seg_kd
import stagewise_kd as skd
from stagewise_kd.networks.cutting import cut
from stagewise_kd.system.errors import UserError

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
Two = namedtuple("Two", ["logits", "further"])


def layer(inputs: int, outputs: int, stride: int = 2) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


class Dense(nn.Module):
    """As torchvision's segmentation networks are: a dict of maps of the image's size."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = layer(3, 8), nn.Sequential(layer(8, 16), layer(16, 16, 1))
        self.classifier, self.auxiliary = nn.Conv2d(16, 3, 1), nn.Conv2d(8, 3, 1)

    def forward(self, x):
        size = x.shape[-2:]
        early = self.stem(x)
        found = OrderedDict(out=self.enlarged(self.classifier(self.body(early)), size))
        if self.training:
            found["aux"] = self.enlarged(self.auxiliary(early), x.size()[2:])
        return found

    def enlarged(self, x, size):
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


class Auxiliary(nn.Module):
    """As Inception is: in training logits of a further head beside its own."""

    def __init__(self, kind=Two) -> None:
        super().__init__()
        self.stem, self.kind = layer(3, 8), kind
        self.body = nn.Sequential(layer(8, 16), layer(16, 16, 1))
        self.further, self.fc = nn.Linear(8, 3), nn.Linear(16, 3)

    def forward(self, x):
        x = self.stem(x)
        further = self.further(x.mean((2, 3))) if self.training else None
        x = self.fc(self.body(x).mean((2, 3)))
        return self.kind(x, further) if self.training else x


def test_a_piece_that_needs_the_size_of_the_image_takes_the_image():
    torch.manual_seed(0)
    model = Dense().eval()
    net = cut(model, IMAGES).eval()
    assert {name: block.reads for name, block in net.blocks.items()} == {
        "stem": ("image",),
        "body": ("stem",),
        "head": ("body", "image"),
    }
    for size in ((32, 32), (40, 56)):  # the size is that of each image, not of the example
        x = torch.rand(2, 3, *size)
        assert net(x).equal(model(x)["out"])


def test_of_several_outputs_in_training_the_logits_are_kept():
    torch.manual_seed(0)
    model = Dense()
    net = cut(model, IMAGES).train()
    held = {id(p) for block in net.blocks.values() for p in block.module.parameters()}
    further = {id(p) for p in model.auxiliary.parameters()}
    assert held == {id(p) for p in model.parameters()} - further
    assert net(IMAGES).equal(model.train()(IMAGES)["out"])


@pytest.mark.parametrize("kind", [Two, lambda x, further: (x, further)])
def test_of_a_tuple_in_training_the_first_are_the_logits(kind):
    torch.manual_seed(0)
    net = cut(Auxiliary(kind), IMAGES).train()
    assert net.names == ("stem", "body", "head")
    assert net(IMAGES).equal(net.model.train()(IMAGES)[0])


def test_what_is_no_tensor_in_eval_mode_is_refused():
    class Always(Auxiliary):
        def forward(self, x):
            return super().forward(x), x

    data = [(image, 0) for image in IMAGES.repeat(2, 1, 1, 1)]
    with pytest.raises(UserError, match="Always gives a tuple; expected logits"):
        cut(Always(), IMAGES)
    with pytest.raises(UserError, match="gives tuple; expected logits"):
        cls_kd.distill(Always(), Auxiliary(), data, method="hinton")


@pytest.mark.parametrize("method", ["stagewise", "hinton"])
def test_a_network_of_several_outputs_is_distilled_shrunk_and_exported(method, tmp_path):
    torch.manual_seed(0)
    teacher = Dense()
    data = [(x, (x[0] * 3).long().clamp(max=2)) for x in torch.rand(12, 3, 32, 32)]
    images = torch.stack([x for x, _ in data])
    student = skd.shrink(teacher, images, macs=0.8, repair_steps=1)
    run = seg_kd.distill(
        student, teacher, data, method=method, steps=1, batch_size=4, out=tmp_path / "run"
    )
    loaded = skd.load(tmp_path / "run", factory=Dense)
    assert type(loaded) is Dense
    given = images[:2]
    assert loaded(given)["out"].equal(run.student(given)["out"])
    skd.export(tmp_path / "run", tmp_path / "it.pt2", format="torch", factory=Dense, images=images)
    found = torch.export.load(tmp_path / "it.pt2").module()(given)
    assert torch.allclose(found, run.student(given)["out"], atol=1e-5)


def test_wrapped_networks_and_those_of_another_precision_are_taken_bare():
    torch.manual_seed(0)
    teacher = Auxiliary().half()
    student = torch.compile(nn.DataParallel(Auxiliary()))
    data = [(x, number % 3) for number, x in enumerate(torch.rand(12, 3, 32, 32))]
    run = cls_kd.distill(student, teacher, data, steps=1, batch_size=4)
    assert type(run.student) is Auxiliary
    assert next(teacher.parameters()).dtype is torch.float16  # what is given stays as it is
    images = torch.stack([x for x, _ in data])
    smaller = skd.shrink(nn.DataParallel(teacher), images, params=0.8, repair_steps=1)
    assert type(smaller) is Auxiliary


@pytest.mark.slow
def test_segmentation_networks_of_torchvision():
    options = {"weights": None, "weights_backbone": None, "num_classes": 3}
    teacher = segmentation.deeplabv3_mobilenet_v3_large(**options, aux_loss=True)
    data = [(x, (x[0] * 3).long().clamp(max=2)) for x in torch.rand(12, 3, 64, 64)]
    student = segmentation.lraspp_mobilenet_v3_large(**options)
    run = seg_kd.distill(student, teacher, data, steps=1, batch_size=4)
    assert len(run.result["stages"]) == 2
    assert run.student(torch.rand(1, 3, 96, 64))["out"].shape == (1, 3, 96, 64)
