"""What `load` gives, beside what `predict` does with the same files."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.modules.module import register_module_forward_hook
from torchvision import tv_tensors

import cls_kd
import cls_kd.predict
import seg_kd
import seg_kd.predict
import stagewise_kd as skd
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.networks.resnet import resnet
from stagewise_kd.networks.segmenters import segmenter
from stagewise_kd.runs.student import save_student


def saved(folder, net: BlockNet, task: str, size, **more):
    """A run folder with an untrained student of two classes."""
    folder.mkdir()
    described = {"task": task, "classes": ["a", "b"], "palette": None, "size": size}
    save_student(folder / "student", net.eval(), described | more)
    return folder


def photo(path, mode: str = "RGB", size=(300, 200), **options):
    """A picture of coarse patches and fine noise."""
    draw = np.random.default_rng(0)
    coarse = Image.fromarray(draw.integers(0, 256, (5, 7, 4), np.uint8)).resize(size)
    noise = draw.integers(0, 30, (*size[::-1], 4), np.uint8)
    Image.fromarray(np.asarray(coarse) // 2 + noise).convert(mode).save(path, **options)
    return path


def predicted(front_end, run, file, out):
    """The logits of the network while `predict` does its work."""
    found = []
    hook = register_module_forward_hook(
        lambda module, args, logits: found.append(logits) if type(module) is BlockNet else None
    )
    with hook:
        front_end.predict.predict(run, [file], out)
    (logits,) = found
    return logits


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.mark.parametrize("size", [112, [40, 32]])
def test_a_classifier_gives_the_logits_of_predict(size, tmp_path):
    run = saved(tmp_path / "run", resnet("resnet10", 2), "classification", size)
    file = photo(tmp_path / "a.jpg", size=(600, 380), exif=turned(), quality=95)
    model, preprocess = cls_kd.load(run, with_preprocess=True)
    expected = predicted(cls_kd, run, file, tmp_path / "out")
    with torch.inference_mode():
        found = model(preprocess(Image.open(file))[None].to(expected.device))
    assert not model.training
    assert found.equal(expected)


@pytest.mark.parametrize(("channels", "size"), [(3, None), (4, [40, 48])])
def test_a_segmenter_gives_the_logits_of_predict(channels, size, tmp_path):
    net = segmenter("unet", "resnet10", 2, channels)
    run = saved(tmp_path / "run", net, "segmentation", size)
    file = photo(tmp_path / "a.png", {3: "RGB", 4: "RGBA"}[channels], (70, 50))
    model, preprocess = seg_kd.load(run, with_preprocess=True)
    expected = predicted(seg_kd, run, file, tmp_path / "out")
    with torch.inference_mode():
        found = model(preprocess(Image.open(file))[None].to(expected.device))
    assert found.equal(expected)


def test_tensors_are_taken_as_pictures_are(tmp_path):
    run = saved(tmp_path / "run", resnet("resnet10", 2), "classification", 24)
    _, preprocess = skd.load(run, with_preprocess=True)
    image = Image.open(photo(tmp_path / "a.png"))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    one = preprocess(image)
    assert one.shape == (3, 24, 24) and one.dtype == torch.float32
    assert preprocess(pixels).equal(one)
    assert preprocess(torch.stack([pixels, pixels])).equal(torch.stack([one, one]))
    label = torch.tensor(3)
    both = preprocess((tv_tensors.Image(pixels), label))
    assert both[0].equal(one) and both[1] is label
    grey = image.convert("L")
    assert preprocess(torch.from_numpy(np.array(grey))[None]).equal(preprocess(grey))


def test_what_is_no_picture_is_refused(tmp_path):
    run = saved(tmp_path / "run", resnet("resnet10", 2), "classification", 24)
    _, preprocess = skd.load(run, with_preprocess=True)
    for wrong in (torch.rand(3, 24, 24), torch.zeros(2, 24, 24, dtype=torch.uint8)):
        with pytest.raises(skd.UserError, match=r"expected a PIL image, or torch\.uint8"):
            preprocess(wrong)
    with pytest.raises(ValueError, match="more than 8 bits"):
        preprocess(Image.new("I;16", (24, 24)))


def test_students_of_another_task_or_of_prepared_images(tmp_path):
    run = saved(tmp_path / "run", resnet("resnet10", 2), "classification", 24, images="prepared")
    with pytest.raises(skd.UserError, match="is a classification run, expected a segmentation run"):
        seg_kd.load(run)
    assert not cls_kd.load(run).training
    with pytest.raises(skd.UserError, match="had prepared in a way that no file tells"):
        cls_kd.load(run, with_preprocess=True)


def test_a_student_that_is_opened_in_inference_mode_can_learn(tmp_path):
    save_student(tmp_path, segmenter("fpn", "resnet10", 3), {})
    with torch.inference_mode():
        net = skd.load(tmp_path)
    net(torch.rand(2, 3, 32, 32)).sum().backward()
    assert net.segmentation_head[0].weight.grad is not None
