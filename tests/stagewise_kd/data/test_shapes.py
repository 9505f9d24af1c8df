"""The generated data set: reproducible, balanced, and with masks that fit the labels."""

import numpy as np
import pytest

from stagewise_kd.data import shapes


def same(first, second) -> bool:
    """Whether two samples agree bit for bit."""
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.fixture(scope="module")
def samples():
    """The first 200 training samples."""
    return shapes.draw_all("train", 200)


def test_classes_are_ten_names_in_alphabetical_order():
    assert len(shapes.CLASSES) == 10
    assert list(shapes.CLASSES) == sorted(set(shapes.CLASSES))


def test_array_shapes_and_types(samples):
    images, masks, labels = samples
    assert (images.shape, images.dtype) == ((200, 64, 64, 3), np.uint8)
    assert (masks.shape, masks.dtype) == ((200, 64, 64), np.uint8)
    assert (labels.shape, labels.dtype) == ((200,), np.int64)


def test_sample_depends_only_on_its_arguments(samples):
    np.random.seed(1)
    for index in (7, 3, 150, 3):
        assert same(shapes.draw(index, "train"), [part[index] for part in samples])


@pytest.mark.parametrize("other", [(4, "test", 64, 0), (14, "train", 64, 0), (4, "train", 64, 1)])
def test_split_index_and_seed_change_the_image(other):
    assert not np.array_equal(shapes.draw(4, "train")[0], shapes.draw(*other)[0])


def test_labels_are_balanced(samples):
    assert np.bincount(samples[2]).tolist() == [20] * 10


def test_mask_holds_background_and_the_label_only(samples):
    for mask, label in zip(*samples[1:], strict=True):
        assert set(np.unique(mask)) == {0, label + 1}


def test_some_kinds_are_drawn_as_among_all(samples):
    images, masks, labels = shapes.draw_all("train", 5, kinds=("star", "circle"))
    among = [8, 1, 18, 11, 28]  # every second one of each ten is a circle, every ninth a star
    assert np.array_equal(images, samples[0][among])
    assert labels.tolist() == [0, 1, 0, 1, 0]
    assert np.array_equal(masks > 0, samples[1][among] > 0)
    assert [int(mask.max()) for mask in masks] == [1, 2, 1, 2, 1]


def test_same_scene_at_every_size():
    small, large = (shapes.draw(8, "train", size)[1] > 0 for size in (64, 256))
    assert small.mean() == pytest.approx(large.mean(), abs=0.01)


def test_coverage_of_a_disc():
    """A disc of radius 0.3 around (0.4, 0.6) covers 0.09 pi, evenly around its centre."""
    disc = [0.4, 0.6] + 0.3 * shapes._arc(0, 2 * np.pi, points=200)
    cover = np.asarray(shapes._coverage(disc, 256)) / 255
    y, x = (np.indices(cover.shape) + 0.5) / 256
    assert cover.mean() == pytest.approx(0.09 * np.pi, rel=0.02)
    assert (x * cover).sum() / cover.sum() == pytest.approx(0.4, abs=0.002)
    assert (y * cover).sum() / cover.sum() == pytest.approx(0.6, abs=0.002)


def test_occluders_are_not_part_of_the_mask(monkeypatch):
    monkeypatch.setattr(shapes, "OCCLUDERS", (0, 1))
    bare = shapes.draw(0, "train")[1]
    monkeypatch.setattr(shapes, "OCCLUDERS", (2, 3))
    barred = shapes.draw(0, "train")[1]
    assert 0 < (barred > 0).sum() < (bare > 0).sum()
    assert not (barred & ~bare).any()


def test_areas_of_outlines():
    """Shoelace areas: a hexagon in the unit circle has 3/2 sqrt(3), a square 2."""

    def area(name: str) -> float:
        x, y = shapes._outlines()[shapes.CLASSES.index(name)].T
        return abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2

    assert area("hexagon") == pytest.approx(1.5 * np.sqrt(3))
    assert area("square") == pytest.approx(2)
    assert area("triangle") == pytest.approx(0.75 * np.sqrt(3))
