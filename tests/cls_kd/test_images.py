"""A folder of images without labels, and the classes that a teacher's checkpoint tells."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from cls_kd.sources import images
from stagewise_kd.data.division import make_data, scored_alone
from stagewise_kd.runs.taught import check_without_labels, taught
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


@pytest.fixture
def labelled(tmp_path):
    for name, count in (("cat", 3), ("dog", 2)):
        (tmp_path / "some" / name).mkdir(parents=True)
        for number in range(count):
            picture = Image.new("RGB", (18, 14), (0, number, 0))
            picture.save(tmp_path / "some" / name / f"{number}.png")
    return tmp_path / "some"


def same(samples, seeds):
    return samples


def test_some_labels_to_score(photos, labelled):
    source = images(str(photos), None, ["cat", "cow", "dog"], test=str(labelled))
    assert (source.labelled, source.classes) == (False, ["cat", "cow", "dog"])
    data = make_data(source, same, same)
    assert (len(data.train), len(data.val), len(data.test)) == (18, 2, 5)
    assert (data.labelled, data.tested, data.counts) == (False, True, {"test": [3, 0, 2]})
    assert [data.has_labels(split) for split in (data.train, data.val, data.test)] == [
        False,
        False,
        True,
    ]
    assert data.test[4][0].shape == (3, 7, 9)  # the size of the others


def test_classes_of_some_labels(photos, labelled, tmp_path):
    named = images(str(photos), None, ["0", "1"], test=str(labelled))
    assert named.classes == ["cat", "dog"]  # the checkpoint only counts them
    with pytest.raises(UserError, match="the classes are cat, dog, the teacher's cat, hen; name"):
        images(str(photos), None, ["cat", "hen"], test=str(labelled))
    with pytest.raises(UserError, match=r"data\.test=.*expected a folder for each class"):
        images(str(photos), None, ["cat", "dog"], test=str(labelled / "cat"))
    with pytest.raises(UserError, match=r"data\.test=.*: no such folder"):
        images(str(photos), None, ["cat", "dog"], test=str(tmp_path / "nowhere"))


def test_a_student_is_scored_on_a_whole_folder(photos, labelled):
    known = ["cat", "dog"]
    source = images(str(photos), (7, 9), known, known=known)
    data = scored_alone(source, same)
    assert (len(data.test), data.labelled, data.counts) == (20, False, {})
    source = images("gone", (7, 9), known, test=str(labelled), known=known)
    data = scored_alone(source, same)
    assert (len(data.test), data.has_labels(data.test), data.counts) == (5, True, {"test": [3, 2]})


def asking(method="stagewise", protocol="holdout", **options):
    target = {"_target_": f"stagewise_kd.methods.{method}.{method}"}
    return {"method": target | options, "eval": {"protocol": protocol}}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (asking("no_teacher"), "method=no_teacher: set method=stagewise"),
        (asking(head="labels"), "method.head=labels: set method.head=teacher"),
        (asking(finetune="both"), "method.finetune=both: set method.finetune=logits"),
        (asking("hinton", label_weight=0.1), "method.label_weight=0.1: set method.label_weight=0"),
        (asking(protocol="paper"), "eval.protocol=paper: set eval.protocol=holdout"),
    ],
)
def test_what_asks_for_labels(config, expected):
    with pytest.raises(UserError, match=expected):
        check_without_labels(config)


def test_what_asks_for_none():
    check_without_labels(asking(head="teacher", finetune="logits"))
    check_without_labels(asking("hinton", label_weight=0.0))


def classes_of(path) -> list[str]:
    return taught({"teacher": {"checkpoint": path and str(path)}})["classes"]


def test_classes_of_a_teacher(tmp_path):
    weights = {"body.weight": torch.zeros(5, 4), "fc.weight": torch.zeros(3, 5)}
    save_file(weights, tmp_path / "named.safetensors", {"classes": json.dumps(["a", "b", "c"])})
    assert classes_of(tmp_path / "named.safetensors") == ["a", "b", "c"]
    torch.save(weights, tmp_path / "plain.pt")
    assert classes_of(tmp_path / "plain.pt") == ["0", "1", "2"]
    (tmp_path / "run" / "student").mkdir(parents=True)
    (tmp_path / "run" / "student" / "network.json").write_text('{"classes": ["x", "y"]}')
    assert classes_of(tmp_path / "run") == ["x", "y"]
    with pytest.raises(UserError, match="without labels need a trained teacher"):
        classes_of(None)
    torch.save({"body.weight": torch.zeros(5, 4)}, tmp_path / "bare.pt")
    with pytest.raises(UserError, match="tells no classes"):
        classes_of(tmp_path / "bare.pt")
