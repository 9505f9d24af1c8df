import pytest
import torch

from stagewise_kd.data.division import make_data
from stagewise_kd.data.samples import Part, Source
from stagewise_kd.data.splits import (
    read_split,
    split_hash,
    split_train,
    take_fraction,
    with_every_class,
    write_split,
)
from stagewise_kd.system.errors import UserError

NAMES = [f"{label}/{n}" for label in "abc" for n in range(40)]
LABELS = [i for i in range(3) for _ in range(40)]


def test_split_ignores_the_order_of_names():
    shuffled = list(reversed(list(zip(NAMES, LABELS, strict=True))))
    assert split_train(*map(list, zip(*shuffled, strict=True)), 30, 0) == split_train(
        NAMES, LABELS, 30, 0
    )


def test_split_is_disjoint_whole_and_seeded():
    train, val = split_train(NAMES, LABELS, 30, 0)
    assert sorted(train + val) == sorted(NAMES)
    assert (len(train), len(val)) == (90, 30)
    assert split_train(NAMES, LABELS, 30, 1)[1] != val


@pytest.mark.parametrize("count", [9, 30, 90])
def test_any_prefix_is_class_balanced(count):
    train, val = split_train(NAMES, LABELS, 30, 0)
    counts = [sum(name.startswith(c) for name in train[:count]) for c in "abc"]
    assert max(counts) - min(counts) <= 1
    assert [sum(name.startswith(c) for name in val) for c in "abc"] == [10, 10, 10]


def test_fraction_is_of_the_whole_split():
    train, _ = split_train(NAMES, LABELS, 12, 0)
    assert take_fraction(train, 0.25, 120) == train[:30]
    assert take_fraction(train, 1.0, 120) == train  # all that validation leaves


@pytest.mark.parametrize("fraction", [0, -0.5, 1.5, 0.001])
def test_fraction_that_makes_no_sense(fraction):
    with pytest.raises(UserError, match=f"data.fraction={fraction}"):
        take_fraction(NAMES, fraction, len(NAMES))


def test_split_file_round_trip(tmp_path):
    write_split(tmp_path / "splits" / "train.txt", NAMES)
    assert read_split(tmp_path / "splits" / "train.txt", NAMES) == NAMES


def test_split_file_with_strangers_and_repeats(tmp_path):
    write_split(tmp_path / "a.txt", ["a/0", "z/1"])
    with pytest.raises(UserError, match="names 1 images that are not in the data set, first z/1"):
        read_split(tmp_path / "a.txt", NAMES)
    write_split(tmp_path / "b.txt", ["a/0", "a/0"])
    with pytest.raises(UserError, match="names an image twice"):
        read_split(tmp_path / "b.txt", NAMES)


def test_hash_tells_splits_apart():
    assert split_hash({"train": ["a", "b"]}) == split_hash({"train": ["a", "b"]})
    assert split_hash({"train": ["a", "b"]}) != split_hash({"train": ["a"], "val": ["b"]})


def test_the_last_image_of_a_class_is_for_training():
    names = [f"{n:02d}" for n in range(30)]
    labels = [0] * 27 + [1, 2, 2]
    for seed in range(20):
        train, val = split_train(names, labels, 3, seed)
        kinds = dict(zip(names, labels, strict=True))
        assert {kinds[name] for name in train} == {0, 1, 2}
        assert len(val) == 3
        assert not set(train) & set(val)
    assert split_train(["a", "b"], [0, 1], 1, 0)[1] == []


def test_a_fraction_holds_every_class():
    kinds = {"a": 0, "b": 0, "c": 0, "d": 1, "e": 2, "f": 1}
    assert with_every_class(["a"], [*kinds], kinds) == ["a", "d", "e"]
    assert with_every_class(["a", "b", "c", "d", "e"], [*kinds], kinds) == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(("images", "train"), [(10, 9), (50, 45), (100, 90)])
def test_few_images_are_balanced_and_hold_those_held_out(images, train):
    part = Part(NAMES, torch.zeros(120, 3, 2, 2, dtype=torch.uint8), LABELS)
    source = Source([*"abc"], part, part)

    def none(samples, seeds):
        return samples

    data = make_data(source, none, none, images=images)
    drawn = data.splits["train"] + data.splits["val"]
    assert (len(data.train), len({*drawn})) == (train, images)
    counts = [sum(name.startswith(c) for name in drawn) for c in "abc"]
    assert max(counts) - min(counts) <= 1
    more = make_data(source, none, none, images=images + 10).splits
    assert {*drawn} <= {*more["train"], *more["val"]}
    with pytest.raises(UserError, match=r"data\.images=200: train holds 120"):
        make_data(source, none, none, images=200)
    with pytest.raises(UserError, match=r"leave out data\.fraction"):
        make_data(source, none, none, images=50, fraction=0.5)


def test_one_image_a_class_still_leaves_one_to_choose_by():
    part = Part(["a", "b", "c"], torch.zeros(3, 3, 2, 2, dtype=torch.uint8), [0, 1, 2])
    data = make_data(Source([*"abc"], part, part), lambda s, _: s, lambda s, _: s, images=3)
    assert (len(data.train), len(data.val)) == (2, 1)
