"""A folder of images without labels, and the classes that a teacher's checkpoint tells."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from cls_kd.sources import images
from stagewise_kd.data.division import make_data
from stagewise_kd.runs.taught import taught_classes
from stagewise_kd.system.errors import UserError


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos" / "2024" / "may").mkdir(parents=True)
    for number in range(20):
        folder = ("", "2024", "2024/may")[number % 3]
        picture = Image.new("RGB", (9, 7), (number, 0, 0))
        picture.save(tmp_path / "photos" / folder / f"{number}.png")
    return tmp_path / "photos"


def test_a_nested_folder_is_divided_without_labels(photos):
    source = images(str(photos), None, ["cat", "dog"])
    assert (source.shape, source.classes) == ((3, 7, 9), ["cat", "dog"])
    data = make_data(source, lambda s, _: s, lambda s, _: s)
    assert (len(data.train), len(data.val), data.labelled, data.counts) == (18, 2, False, {})
    assert data.test is data.val
    assert {*data.splits} == {"train", "val"}
    assert "2024/may/2.png" in data.splits["train"] + data.splits["val"]


def test_folders_that_are_of_no_use(photos, tmp_path):
    with pytest.raises(UserError, match="data=images needs"):
        images(None, None, ["a", "b"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"data\.root=.*empty: holds no images"):
        images(str(tmp_path / "empty"), None, ["a", "b"])
    Image.new("RGB", (5, 5)).save(photos / "small.png")
    with pytest.raises(UserError, match=r"images of 2 sizes, .*5×5 .*give data\.size=\[HEIGHT"):
        images(str(photos), None, ["a", "b"])
    assert images(str(photos), (6, 6), ["a", "b"]).shape[0] == 3


def taught(path) -> list[str]:
    return taught_classes({"teacher": {"checkpoint": path and str(path)}})


def test_classes_of_a_teacher(tmp_path):
    weights = {"body.weight": torch.zeros(5, 4), "fc.weight": torch.zeros(3, 5)}
    save_file(weights, tmp_path / "named.safetensors", {"classes": json.dumps(["a", "b", "c"])})
    assert taught(tmp_path / "named.safetensors") == ["a", "b", "c"]
    torch.save(weights, tmp_path / "plain.pt")
    assert taught(tmp_path / "plain.pt") == ["0", "1", "2"]
    (tmp_path / "run" / "student").mkdir(parents=True)
    (tmp_path / "run" / "student" / "network.json").write_text('{"classes": ["x", "y"]}')
    assert taught(tmp_path / "run") == ["x", "y"]
    with pytest.raises(UserError, match="without labels need a trained teacher"):
        taught(None)
    torch.save({"body.weight": torch.zeros(5, 4)}, tmp_path / "bare.pt")
    with pytest.raises(UserError, match="tells no classes"):
        taught(tmp_path / "bare.pt")
