import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10

from cls_kd import transforms
from cls_kd.sources import cifar10, folder
from cls_kd.task import Classification
from cls_kd.transforms import OfSamples
from stagewise_kd.data import division
from stagewise_kd.data.image_files import content
from stagewise_kd.data.loaders import Data, train_loader
from stagewise_kd.data.present import absent_classes
from stagewise_kd.data.samples import Part, Samples, Source
from stagewise_kd.data.sampling import View
from stagewise_kd.data.splits import write_split
from stagewise_kd.system.errors import UserError

SIZE = (8, 8)


def part(split: str, count: int) -> Part:
    images = torch.arange(count * 3 * 8 * 8).reshape(count, 3, 8, 8).remainder(251).to(torch.uint8)
    return Part([f"{split}/{n:03d}" for n in range(count)], images, [n % 2 for n in range(count)])


@pytest.fixture
def source() -> Source:
    return Source(["even", "odd"], part("train", 40), part("test", 10))


def make_data(source: Source, **options) -> Data:
    whole = OfSamples(transforms.none(SIZE))
    return division.make_data(source, whole, whole, **options)


def views(samples: Samples, epoch: int) -> torch.Tensor:
    return torch.stack([samples[View(epoch, n)][0] for n in range(len(samples))])


def test_a_view_depends_on_seed_epoch_and_sample_alone():
    samples = Samples(part("train", 20), OfSamples(transforms.default(SIZE)), seed=0)
    first = views(samples, 0)
    torch.rand(7)
    state = torch.get_rng_state()
    assert views(samples, 0).equal(first)
    assert torch.get_rng_state().equal(state)  # nothing else is disturbed
    assert not views(samples, 1).equal(first)
    assert not views(
        Samples(part("train", 20), OfSamples(transforms.default(SIZE)), seed=1), 0
    ).equal(first)


def test_samples_go_to_workers_that_inherit_no_memory(tmp_path):
    """As on macOS and Windows, where a process starts anew."""
    photos(tmp_path, train="bc", test="bc")
    train = folder(str(tmp_path), SIZE, in_memory=False).train
    for augment in (transforms.default, transforms.strong, transforms.paper):
        samples = Samples(train, OfSamples(augment(SIZE)), seed=0)
        copy = pickle.loads(pickle.dumps(samples))
        assert views(copy, 1).equal(views(samples, 1))


def test_images_keep_their_names_and_labels(source):
    data = make_data(source, fraction=0.5)
    for n, name in enumerate(data.splits["train"]):
        image, label = data.train[View(0, n)]
        index = int(name.split("/")[1])
        assert image.equal(source.train.images[index])
        assert label == index % 2


def test_splits_are_disjoint_and_of_the_right_size(source):
    data = make_data(source, fraction=0.5)
    sizes = {split: len(names) for split, names in data.splits.items()}
    assert sizes == {"train": 20, "val": 4, "test": 10}
    assert not set(data.splits["train"]) & set(data.splits["val"])


def test_validation_is_the_same_for_all_fractions(source):
    whole, half = (make_data(source, fraction=f) for f in (1.0, 0.5))
    assert whole.splits["val"] == half.splits["val"]
    assert whole.splits["train"][:20] == half.splits["train"]
    assert whole.split_hash != half.split_hash


def test_a_validation_split_that_is_brought_is_used(source):
    own = Source(source.classes, source.train, source.test, part("val", 6))
    data = make_data(own)
    assert data.splits["val"] == own.val.names
    assert len(data.splits["train"]) == 40


def test_size_of_the_validation_split_can_be_given(source):
    data = make_data(source, val=11)
    assert (len(data.splits["train"]), len(data.splits["val"])) == (29, 11)


def test_rest_as_test(source):
    data = make_data(source, fraction=0.5, rest_as_test=True)
    assert len(data.splits["test"]) == 16  # 40 less 20 train less 4 validation
    assert all(name.startswith("train/") for name in data.splits["test"])
    with pytest.raises(UserError, match="nothing of train is left"):
        make_data(source, rest_as_test=True)


def test_split_files_are_used_in_their_order(source, tmp_path):
    write_split(tmp_path / "train.txt", ["train/030", "train/001", "train/002"])
    write_split(tmp_path / "val.txt", ["train/007"])
    data = make_data(source, splits=str(tmp_path))
    assert data.splits["train"] == ["train/030", "train/001", "train/002"]
    assert data.splits["val"] == ["train/007"]


def test_too_few_images_for_a_validation_split():
    tiny = Source(["a", "b"], part("train", 4), part("test", 2))
    with pytest.raises(UserError, match="too few to cut a validation split off"):
        make_data(tiny)


def test_shuffling_follows_the_epoch(source):
    loader = train_loader(make_data(source).train, 9, 0, 0)

    def order(epoch: int) -> list[int]:
        loader.sampler.set_epoch(epoch)
        return [view.sample for view in loader.sampler]

    assert order(0) == order(0) != order(1)
    assert sorted(order(1)) == list(range(36))


@pytest.mark.parametrize("name", ["none", "default", "strong", "paper"])
@pytest.mark.parametrize("size", [(32, 32), (64, 48), (128, 128)])
def test_augmentations_end_in_the_size_and_uint8(name, size):
    image = torch.randint(0, 255, (3, size[0] + 16, size[1] + 16)).to(torch.uint8)
    found = getattr(transforms, name)(size)(image)
    assert found.shape == (3, *size)
    assert found.dtype == torch.uint8


def test_a_class_without_an_image_does_not_count():
    logits, labels = torch.eye(3)[[0, 1, 2, 0]], torch.tensor([0, 0, 1, 1])
    scores = Classification(3).metrics()
    scores.update(logits, labels)
    found = {name: value.item() for name, value in scores.compute().items()}
    assert found == {"accuracy": 0.25, "balanced_accuracy": 0.25}  # ½ and 0 of two classes


def photos(root: Path, **splits: str) -> Path:
    """An image folder: of each split the letters of its classes; capitals are empty folders."""
    for split, classes in splits.items():
        for name in classes:
            (root / split / name.lower()).mkdir(parents=True)
            if name.islower():
                Image.new("RGB", (8, 8)).save(root / split / name / "1.png")
    return root


def test_val_and_test_may_lack_classes(tmp_path):
    found = folder(str(photos(tmp_path, train="abcd", val="bD", test="cd")), SIZE)
    assert found.classes == ["a", "b", "c", "d"]
    assert (found.val.labels[0], [found.test.labels[n] for n in (0, 1)]) == (1, [2, 3])
    counts = {"val": found.val.counts(4), "test": found.test.counts(4)}
    assert absent_classes(counts, found.classes) == [
        f"{split} has no label of {classes} of 4 classes; labels of the others: {count}): its "
        "scores are over the others"
        for split, classes, count in (("val", "a, c, d (3", 1), ("test", "a, b (2", 2))
    ]


def test_train_must_have_every_class(tmp_path):
    with pytest.raises(UserError) as error:
        folder(str(photos(tmp_path, train="abC", val="abd", test="B")), SIZE)
    for told in (
        f"{tmp_path / 'train' / 'c'} holds no images; add some, or delete it",
        "train/ lacks classes that val/ has: d; add images of them to train/",
        f"{tmp_path / 'test'} holds no images",
    ):
        assert told in str(error.value)


@pytest.mark.parametrize(
    ("root", "splits"),
    [("", {"test": "bc"}), ("", {"val": "bc"}), ("test", {"test": "bc"}), ("", {"b": "", "c": ""})],
)
def test_a_student_is_scored_on_test_or_class_folders_alone(tmp_path, root, splits):
    photos(tmp_path, **splits)
    if "b" in splits:
        for name in "bc":
            (tmp_path / name).mkdir()
            Image.new("RGB", (8, 8)).save(tmp_path / name / "1.png")
    names = {"b": "bee"}
    found = folder(str(tmp_path / root), SIZE, names, known=["ant", "bee", "c"])
    assert found.classes == ["ant", "bee", "c"]
    assert [found.test.labels[n] for n in range(2)] == [1, 2]
    assert not found.train.names
    with pytest.raises(UserError, match="holds the classes c, which the student does not know"):
        folder(str(tmp_path / root), SIZE, names, known=["ant", "bee"])


def test_class_folders_alone_are_not_trained_on(tmp_path):
    with pytest.raises(UserError, match="expected train in it, found a, b"):
        folder(str(photos(tmp_path, test="ab") / "test"), SIZE)


def test_split_files_must_name_every_class(source, tmp_path):
    write_split(tmp_path / "train.txt", ["train/030", "train/002"])
    write_split(tmp_path / "val.txt", ["train/007"])
    with pytest.raises(UserError, match=r"train\.txt: lists no image of odd"):
        make_data(source, splits=str(tmp_path))


def test_the_original_files_of_cifar10_at_any_size(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3072), dtype=np.uint8)
    names = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]
    for name in names:
        (folder / name).write_bytes(pickle.dumps({"data": pixels, "labels": [0, 1]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["a", "b"]}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CIFAR10, "_check_integrity", lambda self: True)
        patch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": None})
        small, large = (cifar10(str(tmp_path), size) for size in ((32, 32), (48, 64)))
    assert small.train.images[1].equal(torch.from_numpy(pixels[1]).view(3, 32, 32))
    image = Image.fromarray(small.test.images[0].permute(1, 2, 0).numpy())
    scaled = np.array(image.resize((64, 64), Image.Resampling.BILINEAR))
    assert large.test.images[0].equal(torch.from_numpy(scaled).permute(2, 0, 1))
    assert content(large.train.images, 1) == content(small.train.images, 1)


def test_only_files_that_a_run_uses_are_read(tmp_path):
    for split, count in (("train", 20), ("test", 3)):
        for name in ("even", "odd"):
            (tmp_path / split / name).mkdir(parents=True)
            for n in range(count):
                Image.new("RGB", SIZE).save(tmp_path / split / name / f"{n:02d}.png")
    splits = make_data(folder(str(tmp_path), SIZE), images=10).splits
    used = {*splits["train"], *splits["val"]}
    every = [f"train/even/{n:02d}.png" for n in range(20)]
    left_out = next(name for name in every if name not in used)
    (tmp_path / left_out).write_bytes(b"no image")
    make_data(folder(str(tmp_path), SIZE), images=10)
    with pytest.raises(UserError, match=f"cannot read every image; .*{left_out}"):
        make_data(folder(str(tmp_path), SIZE))
