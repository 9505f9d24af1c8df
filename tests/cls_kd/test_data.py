import pytest
import torch

from cls_kd import transforms
from cls_kd.transforms import whole_batches
from stagewise_kd.data import division
from stagewise_kd.data.loaders import Data, View, train_loader
from stagewise_kd.data.samples import Part, Samples, Source
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
    whole = whole_batches(transforms.none(SIZE))
    return division.make_data(source, whole, whole, **options)


def views(samples: Samples, epoch: int) -> torch.Tensor:
    return torch.stack([samples[View(epoch, n)][0] for n in range(len(samples))])


def test_a_view_depends_on_seed_epoch_and_sample_alone():
    samples = Samples(part("train", 20), whole_batches(transforms.default(SIZE)), seed=0)
    first = views(samples, 0)
    torch.rand(7)
    state = torch.get_rng_state()
    assert views(samples, 0).equal(first)
    assert torch.get_rng_state().equal(state)  # nothing else is disturbed
    assert not views(samples, 1).equal(first)
    assert not views(
        Samples(part("train", 20), whole_batches(transforms.default(SIZE)), seed=1), 0
    ).equal(first)


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
    loader = train_loader(make_data(source).train, 8, 0, 0)

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
