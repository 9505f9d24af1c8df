import torch
from PIL import Image
from torch.utils.data import DataLoader

from cls_kd.sources import folder
from stagewise_kd.data.identity import content_hash, fingerprints, leaks, source_hash
from stagewise_kd.data.loaders import Data
from stagewise_kd.data.own_splits import dataset_hash
from stagewise_kd.data.samples import Part, Samples, Source


def part(images: torch.Tensor, labels: list[int], split: str = "train") -> Part:
    return Part([f"{split}/{n}" for n in range(len(images))], images, labels)


def data(train: Part, test: Part) -> Data:
    splits = {"train": train.names, "val": test.names, "test": test.names}
    whole = [Samples(p, lambda samples, seeds: samples) for p in (train, test, test)]
    return Data(*whole, (3, 2, 2), "", splits)


def images(count: int, start: int = 0) -> torch.Tensor:
    return (
        torch.arange(start, start + count)[:, None, None, None].expand(-1, 3, 2, 2).byte().clone()
    )


def test_every_image_and_label_counts():
    def number(change=None, labels=(0, 1, 0)) -> str:
        train = images(3)
        if change is not None:
            train[change, 0, 0, 0] = 99
        return content_hash(fingerprints(data(part(train, [*labels]), part(images(2, 7), [0, 1]))))

    same = number()
    assert number() == same
    assert len({same, number(0), number(1), number(2), number(labels=(0, 1, 1))}) == 5


def test_a_source_is_told_by_names_too():
    one, other = part(images(3), [0, 1, 0]), part(images(3), [0, 1, 0], "t")
    hashes = {source_hash(Source(["a", "b"], p, part(images(1), [0]))) for p in (one, other)}
    hashes.add(source_hash(Source(["a", "c"], one, part(images(1), [0]))))
    assert len(hashes) == 3


def test_a_folder_is_the_same_at_any_size_and_in_memory_or_not(tmp_path):
    for n in range(4):
        path = tmp_path / ("train", "test")[n // 2] / "ab"[n % 2] / "x.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (9, 9), (n, 0, 0)).save(path)
    sources = [
        folder(str(tmp_path), size, in_memory=held)
        for size, held in (((8, 8), True), ((8, 8), False), ((4, 4), True))
    ]
    assert len({source_hash(source) for source in sources}) == 1
    assert torch.equal(sources[0].train.images[1], sources[1].train.images[1])


def test_own_data_are_the_same_whatever_a_seed_holds_out():
    pairs = [(image, n % 2) for n, image in enumerate(images(100))]
    assert dataset_hash(pairs, None, None) == dataset_hash(DataLoader(pairs, 8), None, None)
    assert dataset_hash(pairs, None, None) != dataset_hash(pairs, None, pairs)
    assert dataset_hash(pairs, None, None) != dataset_hash([(images(1)[0], 5), *pairs], None, None)


def test_pictures_of_train_in_test_are_told():
    train = part(images(5), [0, 1, 0, 1, 0])
    test = part(torch.cat([images(2, 50), images(1, 3)]), [0, 1, 1], "test")
    found = data(train, test)
    lines = leaks(fingerprints(found), found.splits)
    assert lines[1] == (
        "1 of 3 test images are in train too, such as test/2 (train/3): its figures flatter"
    )
    assert leaks(fingerprints(data(train, part(images(2, 50), [0, 1]))), found.splits) == []
