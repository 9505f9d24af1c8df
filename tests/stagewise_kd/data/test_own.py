import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset

from stagewise_kd.data.loaders import train_loader
from stagewise_kd.data.own_splits import loading, own_data
from stagewise_kd.data.sampling import View
from stagewise_kd.system.errors import UserError


class Noisy(Dataset):
    """Images that every generator has a part in."""

    def __init__(self, count: int = 30, labelled: bool = True) -> None:
        self.count = count
        self.labelled = labelled
        self.targets = [n % 3 for n in range(count)]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int):
        image = torch.rand(3, 4, 4) + random.random() + np.random.rand()
        return (image, self.targets[index]) if self.labelled else image


def numbers(split) -> list[int]:
    return [int(name) for name in split]


def test_a_view_depends_on_seed_epoch_and_sample_alone():
    train = own_data(Noisy(), None, None, 0).train
    first = train[View(0, 5)][0]
    torch.rand(3), random.random(), np.random.rand()
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    assert train[View(0, 5)][0].equal(first)
    assert torch.get_rng_state().equal(before[0])
    assert random.getstate() == before[1]
    assert (np.random.get_state()[1] == before[2]).all()
    assert not train[View(1, 5)][0].equal(first)
    assert not train[View(0, 6)][0].equal(first)
    assert not own_data(Noisy(), None, None, 1).train[View(0, 5)][0].equal(first)


def test_views_are_the_same_from_workers():
    train = own_data(Noisy(), None, None, 0).train
    alone, helped = (
        [batch.image for batch in train_loader(train, 8, 0, workers)] for workers in (0, 2)
    )
    assert all(one.equal(other) for one, other in zip(alone, helped, strict=True))


def test_validation_is_held_out_balanced_and_always_the_same_view():
    data = own_data(Noisy(60), None, None, 0)
    train, val = numbers(data.splits["train"]), numbers(data.splits["val"])
    assert sorted(train + val) == list(range(60))
    assert [sorted(n % 3 for n in val).count(k) for k in range(3)] == [2, 2, 2]
    assert data.val[2][0].equal(data.val[2][0])
    assert data.test is data.val


def test_splits_that_are_given_are_taken_whole():
    data = own_data(Noisy(20), Noisy(5), Noisy(7), 0)
    assert [len(part) for part in (data.train, data.val, data.test)] == [20, 5, 7]


def test_images_alone_have_no_labels():
    data = own_data(Noisy(labelled=False), None, None, 0)
    assert not data.labelled
    image, label = data.train[View(0, 0)]
    assert image.shape == (3, 4, 4)
    assert label == 0


def test_pil_images_become_tensors():
    pictures = [(Image.new("RGB", (5, 4), (n, 0, 0)), n) for n in range(4)]
    data = own_data(pictures, None, None, 0)
    assert data.shape == (3, 4, 5)
    assert data.train[View(0, 0)][0].dtype == torch.uint8


def test_a_loader_keeps_its_own_way():
    def collate(samples):
        return torch.stack([s["x"] for s in samples]), torch.tensor([s["y"] for s in samples])

    rows = [{"x": torch.full((3, 2, 2), float(n)), "y": n % 2} for n in range(10)]
    loader = DataLoader(rows, batch_size=3, collate_fn=collate)
    assert loading(loader, 64, 5) == (3, 0)
    data = own_data(loader, rows and loader, None, 0)
    image, label = data.train[View(0, 7)]
    assert image.eq(7).all()
    assert label == 1


class Stream(IterableDataset):
    def __iter__(self):
        yield from range(3)


@pytest.mark.parametrize(
    ("train", "val", "words"),
    [
        (Stream(), None, "train is a Stream; expected a data set with __len__ and __getitem__"),
        (3, None, "train is a int; expected a data set"),
        ([], None, "train is empty"),
        ([torch.rand(3, 4, 4)], None, "train has 1 sample; give val="),
        (Noisy(3), None, "train has one sample of each of 3 classes; give val="),
        ([{"x": 1}] * 4, None, "a sample is a dict; expected an image as a tensor"),
        ([torch.rand(4, 4)] * 4, None, r"a sample is a tensor \(4, 4\); expected an image"),
        (
            [torch.rand(3, 4, n) for n in (4, 4, 4, 4, 5, 4, 4, 4)],
            None,
            "samples that make no batch",
        ),
        (Noisy(), Noisy(5, labelled=False), "train with, val without; give all splits alike"),
    ],
)
def test_what_is_no_data(train, val, words):
    with pytest.raises(UserError, match=words):
        data = own_data(train, val, None, 0)
        list(train_loader(data.train, 3, 0, 0))
