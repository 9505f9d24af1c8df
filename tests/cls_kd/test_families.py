"""Networks of many families, made in Python: shrunk, trained, and opened from their folders."""

import pytest
import timm
import torch

import cls_kd
import stagewise_kd as skd

SIDE = 64
NAMES = """levit_128s efficientformerv2_s0 cait_xxs24_224 pvt_v2_b0 mobilevit_xxs edgenext_xx_small
poolformer_s12 mobilenetv4_conv_small lcnet_050 repvit_m0_9 mixer_s32_224 starnet_s1"""


def made(name: str) -> torch.nn.Module:
    known = timm.models.get_pretrained_cfg(name)
    side = {"img_size": SIDE} if known.fixed_input_size else {}
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=3, **side)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES.split())
def test_a_family_from_a_network_to_an_opened_folder(name, tmp_path):
    teacher = made(name)
    x = torch.randint(0, 256, (12, 3, SIDE, SIDE), dtype=torch.uint8)
    student = skd.shrink(teacher, x, params=0.85, repair_steps=1)
    data = [(image, number % 3) for number, image in enumerate(x)]
    run = cls_kd.distill(student, teacher, data, steps=1, batch_size=4, out=tmp_path / "run")
    loaded = skd.load(tmp_path / "run")
    cost = run.result["cost"]
    assert type(loaded) is type(teacher)
    assert cost["student"]["params"] <= 0.85 * cost["teacher"]["params"]
    given = torch.rand(2, 3, SIDE, SIDE)
    with torch.no_grad():
        assert loaded(given).equal(run.student(given))
