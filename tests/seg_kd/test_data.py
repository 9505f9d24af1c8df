import pickle
import random
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seg_kd import sources, transforms
from seg_kd.channels import read_image
from seg_kd.legend import Legend, generated_palette, read_legend
from seg_kd.masks import VOID, from_indices, read_mask
from seg_kd.pairs import load_unlabelled
from seg_kd.sources import camvid, folder, shapes
from seg_kd.transforms import A, OfSamples
from stagewise_kd.data import division
from stagewise_kd.data.finding import find_images
from stagewise_kd.data.loaders import Data
from stagewise_kd.data.present import absent_classes
from stagewise_kd.data.samples import Part, Samples, Source
from stagewise_kd.data.sampling import View
from stagewise_kd.system.errors import UserError

RGB = """
classes:
  background: [0, 0, 0]
  road: [128, 64, 128]
  car: [0, 0, 255]
void: [255, 255, 255]
"""
COLOURS = np.array([[0, 0, 0], [128, 64, 128], [0, 0, 255]], np.uint8)
INDICES = "classes: [background, road, car]"
SIZE = (32, 32)


def quadrants(height: int = 40, width: int = 48, classes: int = 3) -> np.ndarray:
    """A mask whose quarters are classes 0, 1, 2, 0 (…), as far as there are classes."""
    mask = np.zeros((height, width), np.uint8)
    mask[: height // 2, width // 2 :] = 1
    mask[height // 2 :, : width // 2] = min(2, classes - 1)
    return mask


def encoded(mask: np.ndarray) -> np.ndarray:
    """An image whose pixels tell the class."""
    return np.repeat((60 + 60 * mask)[..., None], 3, axis=2).astype(np.uint8)


def write(path: Path, pixels: np.ndarray, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if palette:
        image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.save(path)


def data_set(
    root: Path, classes: str = INDICES, masks=None, splits=("train", "test"), palette=False
) -> Path:
    """Three images a split: mixed formats, sizes and folders."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "classes.yaml").write_text(classes)
    for split in splits:
        for name, suffix, shape in (
            ("a", ".jpg", (40, 48)),
            ("b", ".png", (64, 64)),
            ("deep/c", ".bmp", (50, 30)),
        ):
            mask = quadrants(*shape)
            write(root / split / "images" / f"{name}{suffix}", encoded(mask))
            values = mask if masks is None else masks(mask)
            write(root / split / "masks" / f"{name}.png", values, palette)
    return root


def make_data(source: Source, augment, unlabelled: str | None = None, **options) -> Data:
    channels, *size = source.train.images[0].shape
    more = unlabelled and source.unlabelled(*load_unlabelled(unlabelled, tuple(size), channels))
    views = OfSamples(augment(tuple(size))), OfSamples(transforms.none(tuple(size)))
    return division.make_data(source, *views, unlabelled=more, **options)


def values(part: Part) -> list[set[int]]:
    return [set(part.labels[n].unique().tolist()) for n in range(len(part.names))]


def faults(root: Path, size=SIZE, **options) -> str:
    with pytest.raises(UserError) as error:
        folder(str(root), size, **options)
    return str(error.value)


@pytest.fixture
def source() -> Source:
    return shapes(SIZE, train=20, test=4)


def test_index_masks_of_mixed_sizes_and_formats(tmp_path):
    found = folder(str(data_set(tmp_path)), SIZE)
    assert found.classes == ["background", "road", "car"]
    assert found.palette == generated_palette(3)
    assert found.train.names == [f"train/images/{n}" for n in ("a.jpg", "b.png", "deep/c.bmp")]
    for n in range(3):
        mask = found.train.labels[n]
        assert found.train.images[n].shape == (3, *SIZE)
        assert mask.dtype == torch.uint8
        assert mask.equal(torch.from_numpy(quadrants(*SIZE)))  # each by itself, and aligned
        assert abs(found.train.images[n][0].int() - 60 - 60 * mask.int()).median() <= 2


def test_rgb_masks_with_void(tmp_path):
    def colours(mask):
        found = COLOURS[mask]
        found[:4] = 255
        return found

    found = folder(str(data_set(tmp_path, RGB, colours)), SIZE)
    assert found.palette == [(0, 0, 0), (128, 64, 128), (0, 0, 255)]
    assert values(found.train) == [{0, 1, 2, VOID}] * 3
    assert (found.train.labels[0][0] == VOID).all()


def test_palette_masks_hold_indices(tmp_path):
    root = data_set(tmp_path, RGB, palette=True)
    with Image.open(root / "train/masks/a.png") as file:
        assert file.mode == "P"
    assert values(folder(str(tmp_path), SIZE).test) == [{0, 1, 2}] * 3


def test_palette_masks_in_the_colours_of_the_classes(tmp_path):
    colours = ((0, 0, 0), (128, 64, 128), (0, 0, 255))
    legend = Legend(("background", "road", "car"), colours, ((255, 255, 255),))
    classes = np.array([[0, 1, 2], [2, 1, VOID]], np.uint8)
    numbers = np.array([[2, 0, 1], [1, 0, 3]], np.uint8)  # as an editor numbers them
    mask = Image.fromarray(numbers, "P")
    mask.putpalette([level for n in (1, 2, 0) for level in colours[n]] + [255, 255, 255])
    mask.save(tmp_path / "a.png")
    assert (read_mask(tmp_path / "a.png", None, legend).numpy() == classes).all()


@pytest.mark.parametrize("mode", ["L", "1", "RGB"])
def test_black_and_white_masks_in_the_colours_of_the_classes(tmp_path, mode):
    legend = Legend(("cell", "background"), ((255, 255, 255), (0, 0, 0)))
    levels = np.array([[255, 0], [0, 0]], np.uint8)
    Image.fromarray(levels).convert(mode).save(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png", None, legend).tolist() == [[0, 1], [1, 1]]


def test_grey_masks_hold_indices_where_classes_have_colours(tmp_path):
    legend = Legend(("road", "background"), ((128, 64, 128), (0, 0, 0)))
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png", None, legend).tolist() == [[0, 0], [0, 0]]


def test_wide_integers_and_bits(tmp_path):
    wide = folder(str(data_set(tmp_path / "i", masks=lambda m: m.astype(np.uint16))), SIZE)
    assert values(wide.train) == [{0, 1, 2}] * 3
    bits = data_set(tmp_path / "b", "classes: [other, road]", lambda m: m > 0)
    assert values(folder(str(bits), SIZE).train) == [{0, 1}] * 3


def test_255_is_the_second_of_two_classes_unless_it_is_void(tmp_path):
    def binary(mask):
        return ((mask > 0) * 255).astype(np.uint8)

    two = "classes: [other, road]"
    assert values(folder(str(data_set(tmp_path / "two", two, binary)), SIZE).train)[0] == {0, 1}
    void = data_set(tmp_path / "void", f"{two}\nvoid: 255", binary)
    assert values(folder(str(void), SIZE).train)[0] == {0, VOID}
    assert "values 255; the 3 classes are 0 to 2; if 255 is no label, add `void: 255`" in faults(
        data_set(tmp_path / "three", INDICES, binary)
    )
    both = data_set(tmp_path / "both", two)  # 0, 1 and 2
    assert "values 2" in faults(both)


def test_where_0_is_void_classes_count_from_1(tmp_path):
    root = data_set(tmp_path / "ade", f"{INDICES}\nvoid: 0", lambda mask: mask + 1)
    found = folder(str(root), SIZE)
    assert found.train.labels[0].equal(torch.from_numpy(quadrants(*SIZE)))
    shifted = data_set(tmp_path / "some", f"{INDICES}\nvoid: [0, 255]", lambda mask: mask)
    assert values(folder(str(shifted), SIZE).test) == [{0, 1, VOID}] * 3
    wide = np.array([[0, 1, 2]], np.uint16)
    assert from_indices(wide, Legend(("a", "b"), void_indices=(0,))).tolist() == [[VOID, 0, 1]]


@pytest.mark.parametrize(
    ("values", "void", "hint"),
    [
        ((0, 1, 255), (), "; if 255 is no label, add `void: 255`"),
        ((0, 1, 255), (7,), "; if 255 is no label, add 255 to `void`"),
        ((1, 3, 255), (0,), "; if 255 is no label, add 255 to `void`"),
        ((0, 1, 3), (), "; if 0 is no label, add `void: 0`; classes count from 1 then"),
        ((1, 3, 255), (), "; if 0 and 255 are no labels, add `void: [0, 255]`; classes"),
        ((0, 17, 128, 255), (), None),  # shades of an edge
        ((0, 4), (), None),
    ],
)
def test_void_is_offered_where_it_is_all_that_is_wrong(values, void, hint):
    with pytest.raises(ValueError, match="the 3 classes are") as error:
        from_indices(np.array(values), Legend(("a", "b", "c"), void_indices=void))
    assert hint in str(error.value) if hint else "void" not in str(error.value)


def test_pixels_of_each_class_are_counted_as_masks_are_read(tmp_path):
    def masks(mask):
        return np.where(mask == 1, 255, mask * (mask.shape == (64, 64))).astype(np.uint8)

    found = folder(str(data_set(tmp_path, f"{INDICES}\nvoid: 255", masks)), (40, 40))
    assert found.test.counts(3) == [3 * 1200 - 400, 0, 400]  # class 2 in one mask, 1 nowhere
    data = make_data(found, transforms.light, val=1, label_fraction=0.5)
    assert data.splits["train"] == ["train/images/a.jpg"]
    assert data.counts["train"] == [1200, 0, 0]
    told = absent_classes(data.counts | {"val": [0, 0, 0]}, found.classes)
    assert told[0] == (
        "train has no label of road, car (2 of 3 classes; labels of the others: 1,200): a student "
        "cannot learn what it is not shown"
    )
    assert told[1].endswith("its scores say nothing")


def test_masks_are_scaled_by_nearest_neighbour_only(tmp_path):
    noisy = np.random.default_rng(0).choice([0, 2], (40, 48)).astype(np.uint8)
    data_set(tmp_path)
    write(tmp_path / "train/masks/a.png", noisy)
    for size in ((31, 17), (64, 96), (100, 50)):
        assert values(folder(str(tmp_path), size).train)[0] == {0, 2}


def test_a_test_split_alone_or_val_alone_is_reported(tmp_path):
    only_val = folder(str(data_set(tmp_path / "v", splits=("train", "val"))), SIZE)
    assert only_val.val is None
    assert only_val.test.names[0].startswith("val/")
    both = folder(str(data_set(tmp_path / "b", splits=("train", "val", "test"))), SIZE)
    assert both.val.names[0].startswith("val/")
    assert both.test.names[0].startswith("test/")
    with pytest.raises(UserError, match="holds train/ only"):
        folder(str(data_set(tmp_path / "t", splits=("train",))), SIZE)


def test_every_fault_is_listed_at_once(tmp_path):
    data_set(tmp_path, RGB)
    train, test = tmp_path / "train", tmp_path / "test"
    (train / "masks/a.png").unlink()
    write(train / "masks/extra.png", quadrants())
    write(train / "masks/b.png", quadrants(20, 10))
    write(train / "masks/deep/c.png", quadrants(50, 30) + 2)
    colours = COLOURS[quadrants()]
    colours[0, 0] = [1, 2, 3]
    write(test / "masks/a.png", colours)
    (test / "images/b.png").write_bytes(b"no image")
    (test / "masks/deep/c.png").write_bytes((test / "masks/deep/c.png").read_bytes()[:60])
    error = faults(tmp_path)
    assert f"{tmp_path}: faults in images and masks: \n" in error
    for expected in (
        f"{train}/images/a.jpg has no mask in {train}/masks",
        f"{train}/masks/extra.png has no image in {train}/images",
        f"{train}/masks/b.png is 10×20, its image 64×64",
        f"{train}/masks/deep/c.png (values 3, 4; the 3 classes are 0 to 2)",
        f"{test}/masks/a.png (colours [1, 2, 3] are of no class; save masks as PNG)",
        f"{test}/images/b.png (cannot identify image file",
        f"{test}/masks/deep/c.png (",
    ):
        assert expected in error


def test_of_many_faults_the_first_are_shown(tmp_path):
    data_set(tmp_path)
    for n in range(30):
        write(tmp_path / f"train/images/{n:02d}.png", encoded(quadrants()))
    error = faults(tmp_path)
    assert error.count("has no mask") == 20
    assert error.endswith("and 10 more")


def test_images_of_one_name_and_empty_splits(tmp_path):
    data_set(tmp_path)
    write(tmp_path / "train/images/a.png", encoded(quadrants()))
    for path in find_images(tmp_path / "test"):
        path.unlink()
    error = faults(tmp_path)
    assert "a.jpg and" in error
    assert "have the same name" in error
    assert f"{tmp_path}/test/images holds no images" in error


def test_original_size_where_all_images_share_it(tmp_path):
    root = data_set(tmp_path)
    error = faults(root, size=None)
    assert "images of 3 sizes, such as 48×40" in error
    assert "give data.size=[HEIGHT,WIDTH]" in error
    for path in find_images(root):
        write(path, quadrants() if "masks" in path.parts else encoded(quadrants()))
    data = make_data(folder(str(root), None), transforms.light, val=1)
    assert data.shape == (3, 64, 64)  # of 40 by 48


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "no such file; write the class names into it"),
        ("classes: {a: [0, 0, 0", "not readable as YAML"),
        ("names: [a, b]", "expected `classes:`"),
        ("classes: [a]", "number of classes: 1, expected 2"),
        ("classes: [a, a]", "named twice"),
        ("classes: {a: [0, 0, 0], b: [0, 0, 0]}", "colour [0, 0, 0] is given twice"),
        ("classes: {a: [0, 0, 0], b: red}", "class b: 'red' is no colour"),
        ("classes: {a: [0, 0, 0], b: [0, 0, 256]}", "class b: [0, 0, 256] is no colour"),
        ("classes: {a: [0, 0, 0], b: [9, 9, 9]}\nvoid: [0, 0, 0]", "given twice"),
        ("classes: [a, b]\nvoid: 1", "void: index 1 is class b; masks count classes from 0, or fr"),
        (
            "classes: [a, b]\nvoid: [0, 2]",
            "void: index 2 is class b; masks count classes from 1, as",
        ),
        ("classes: [Void, b]\nvoid: 0", "called Void: leave it out of the classes"),
        ("classes: [a, b]\nvoid: white", "void: 'white' is neither"),
        ("classes: [a, b]\nviod: 3", "unknown viod"),
    ],
)
def test_a_wrong_classes_file(tmp_path, text, expected):
    if text is not None:
        (tmp_path / "classes.yaml").write_text(text)
    with pytest.raises(UserError) as error:
        read_legend(tmp_path / "classes.yaml")
    assert expected in str(error.value)


def test_void_is_a_colour_or_an_index_or_several(tmp_path):
    path = tmp_path / "classes.yaml"
    for text, colours, indices in (
        ("[1, 2, 3]", ((1, 2, 3),), ()),
        ("[[1, 2, 3], [4, 5, 6], 255]", ((1, 2, 3), (4, 5, 6)), (255,)),
        ("[254, 255]", (), (254, 255)),
        ("255", (), (255,)),
    ):
        path.write_text(f"classes: [a, b]\nvoid: {text}")
        legend = read_legend(path)
        assert (legend.void_colours, legend.void_indices) == (colours, indices)


def test_another_classes_file(tmp_path):
    root = data_set(tmp_path / "d")
    (tmp_path / "other.yaml").write_text("classes: [x, y, z]")
    assert folder(str(root), SIZE, classes=str(tmp_path / "other.yaml")).classes == ["x", "y", "z"]


@pytest.mark.parametrize("count", [2, 8, 16, 17, 60, 100])
def test_generated_colours_differ(count):
    palette = generated_palette(count)
    assert len(set(palette)) == len(palette) == count


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_converted_to_grey_or_rgb(tmp_path, channels):
    found = folder(str(data_set(tmp_path)), SIZE, channels=channels)
    assert found.train.images[0].shape == (channels, *SIZE)
    data = make_data(found, transforms.light, val=1)
    assert data.shape == (channels, *SIZE)
    assert data.train[View(0, 0)][0].shape == data.shape


def test_four_channels_need_four(tmp_path):
    root = data_set(tmp_path)
    assert "mode RGB; data.channels=4 needs RGBA" in faults(root, channels=4)
    assert "data.channels=2: give 1 (grey), 3 (RGB) or 4 (RGBA)" in faults(root, channels=2)
    rgba = np.zeros((40, 48, 4), np.uint8)
    rgba[..., :3] = 200  # though the fourth channel is 0
    write(tmp_path / "x.png", rgba)
    found = read_image(tmp_path / "x.png", SIZE, 4)
    assert found[:3].unique().tolist() == [200]
    assert found[3].unique().tolist() == [0]


def test_images_of_16_bits_are_refused(tmp_path):
    root = data_set(tmp_path)
    write(root / "train/images/b.png", np.full((64, 64), 4000, np.uint16))
    assert "mode I;16: pixels of more than 8 bits" in faults(root)


@pytest.mark.parametrize("name", ["none", "light", "strong"])
@pytest.mark.parametrize("size", [(32, 32), (40, 48), (64, 100)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_augmentations_end_in_multiples_of_32_with_void_only_in_the_padding(name, size, channels):
    pipeline = getattr(transforms, name)(size)
    height, width = size
    for seed in range(20):
        pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
        image = np.random.default_rng(seed).integers(1, 255, (*size, channels), np.uint8)
        mask = np.full(size, 7, np.uint8)
        mask[: height // 2] = 3
        found = pipeline(image=image, mask=mask)
        assert found["image"].shape == (*transforms.padded(size), channels)
        assert found["mask"].shape == transforms.padded(size)
        assert found["image"].dtype == found["mask"].dtype == np.uint8
        assert set(np.unique(found["mask"])) <= {3, 7, VOID}
        assert (found["mask"][height:] == VOID).all()
        assert (found["mask"][:, width:] == VOID).all()
        if name == "none":
            assert (found["mask"][:height, :width] == mask).all()
            assert (found["image"][:height, :width] == image).all()


@pytest.mark.parametrize("name", ["light", "strong"])
def test_image_and_mask_stay_aligned(name):
    mask = quadrants(64, 64)
    images, masks = (torch.from_numpy(x)[None] for x in (encoded(mask).transpose(2, 0, 1), mask))
    samples = Samples(Part(["a"], images, masks), OfSamples(getattr(transforms, name)((64, 64))), 0)
    whole = 0
    for epoch in range(60):
        image, found = samples[View(epoch, 0)]
        grey = image.float().mean(dim=0)
        levels = [grey[found == c] for c in range(3)]
        if min(map(len, levels)) < 100:
            continue
        whole += 1
        medians = torch.stack([level.median() for level in levels])
        assert medians.equal(medians.sort().values)
        gap = medians.diff().min()
        near = [
            ((x - m).abs() < gap / 2).float().mean() for x, m in zip(levels, medians, strict=True)
        ]
        assert min(near) > 0.7  # all but the edges
    assert whole > 30


def test_light_multiplies_all_pixels_of_an_image_by_one_factor():
    colour = torch.tensor([40, 80, 160], dtype=torch.uint8)
    images = colour[:, None, None].repeat(1, 64, 64)[None]
    masks = torch.zeros(1, 64, 64, dtype=torch.uint8)
    samples = Samples(Part(["a"], images, masks), OfSamples(transforms.light((64, 64))), 0)
    factors = []
    for epoch in range(30):
        found = samples[View(epoch, 0)][0].flatten(1).float()
        assert (found == found[:, :1]).all()
        factors.append(found[2, 0] / 160)
        assert (found[:, 0] - colour * factors[-1]).abs().max() <= 1  # rounding
    assert 0.79 < min(factors) < 0.85
    assert 1.15 < max(factors) < 1.21


@pytest.mark.parametrize("name", ["light", "strong"])
def test_a_view_depends_on_seed_epoch_and_sample_alone(source, name):
    def views(samples, epoch):
        return [torch.cat([i, m[None]]) for i, m in (samples[View(epoch, n)] for n in range(20))]

    def same(one, other):
        return [a.equal(b) for a, b in zip(one, other, strict=True)]

    augment = getattr(transforms, name)(SIZE)
    samples = Samples(source.train, OfSamples(augment), 0)
    first = views(samples, 0)
    views(samples, 3)
    assert all(same(views(samples, 0), first))
    assert samples[View(0, 7)][0].equal(first[7][:3])
    assert all(
        same(views(Samples(source.train, OfSamples(getattr(transforms, name)(SIZE)), 0), 0), first)
    )
    assert not any(same(views(samples, 1), first))
    assert not any(same(views(Samples(source.train, OfSamples(augment), 1), 0), first))


def test_samples_go_to_workers_that_inherit_no_memory(tmp_path):
    """As on macOS and Windows, where a process starts anew."""
    train = folder(str(data_set(tmp_path)), SIZE, in_memory=False).train
    samples = Samples(train, OfSamples(transforms.light(SIZE)), 0)
    copy = pickle.loads(pickle.dumps(samples))
    for one, other in zip(samples[View(0, 1)], copy[View(0, 1)], strict=True):
        assert one.equal(other)


def test_the_steps_of_a_view_are_drawn_independently(source):
    """An image that is flipped must not be the one that is changed in brightness, each time."""
    pipeline = A.Compose([A.HorizontalFlip(p=0.5), A.InvertImg(p=0.5)])
    image = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    image[..., :4] = 10
    samples = Samples(
        Part(["a"], image, torch.zeros(1, 8, 8, dtype=torch.uint8)), OfSamples(pipeline), 0
    )
    shown = {tuple(samples[View(epoch, 0)][0][0, 0].tolist()) for epoch in range(50)}
    assert len(shown) == 4


def test_splits_of_generated_shapes(source):
    assert source.classes[:2] == ["background", "arrow"]
    assert len(source.palette) == len(source.classes) == 11
    data = make_data(source, transforms.light, fraction=0.5)
    sizes = {split: len(names) for split, names in data.splits.items()}
    assert sizes == {"train": 10, "val": 2, "test": 4}
    assert data.images is None
    image, mask = data.val[0]
    assert image.shape == data.shape == (3, 32, 32)
    assert mask.shape == (32, 32)
    index = int(data.splits["val"][0].split("/")[1])
    assert image.equal(source.train.images[index])
    assert mask.equal(source.train.labels[index])
    with pytest.raises(UserError, match="shapes are square"):
        shapes((32, 48))
    with pytest.raises(
        UserError, match=r"data.source.kinds=\['cube'\]: give some of arrow, circle"
    ):
        shapes(SIZE, kinds=["cube"])


def test_protocol_paper_chooses_on_the_reported_split(source):
    data = make_data(source, transforms.none, protocol="paper")
    assert data.splits["val"] == data.splits["test"]
    assert len(data.splits["train"]) == 20


def test_a_validation_split_that_is_brought_is_used(source):
    own = replace(source, val=source.test)
    data = make_data(own, transforms.none)
    assert data.splits["val"] == source.test.names
    assert len(data.splits["train"]) == 20


def test_label_fraction_keeps_the_masks_of_a_prefix(source):
    whole = make_data(source, transforms.light, fraction=0.5)
    data = make_data(source, transforms.light, fraction=0.5, label_fraction=0.4)
    assert data.splits["train"] == whole.splits["train"][:4]
    assert data.splits["images"] == whole.splits["train"]
    assert data.splits["val"] == whole.splits["val"]
    assert data.split_hash != whole.split_hash
    assert (len(data.train), len(data.images)) == (4, 10)
    for n in range(10):
        image, mask = data.images[View(2, n)]
        expected = whole.train[View(2, n)]
        assert image.equal(expected[0])
        assert mask.equal(expected[1]) if n < 4 else (mask == VOID).all()
    assert data.train[View(2, 3)][1].equal(whole.train[View(2, 3)][1])
    for wrong in (0, 1.5, 0.001):
        with pytest.raises(UserError, match=r"data\.label_fraction="):
            make_data(source, transforms.none, label_fraction=wrong)


def test_unlabelled_images_are_added(source, tmp_path):
    for n in range(3):
        write(tmp_path / f"more/{n}.png", encoded(quadrants(20 + n, 50)))
    data = make_data(source, transforms.light, unlabelled=str(tmp_path))
    assert len(data.train) == 18
    assert data.splits["images"] == [
        *data.splits["train"], *(f"unlabelled/more/{n}.png" for n in range(3))
    ]  # fmt: skip
    image, mask = data.images[View(0, 20)]
    assert image.shape == data.shape
    assert (mask == VOID).all()
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"^cannot read every image; replace or delete: .*bad.png"):
        make_data(source, transforms.none, unlabelled=str(tmp_path))
    (tmp_path / "empty").mkdir()
    for name, expected in (("empty", "holds no images"), ("none", "no such folder")):
        with pytest.raises(UserError, match=expected):
            make_data(source, transforms.none, unlabelled=str(tmp_path / name))


def test_images_that_do_not_fit_in_memory_are_decoded_at_each_access(tmp_path, monkeypatch):
    root = str(data_set(tmp_path, splits=("train", "val", "test")))
    kept = make_data(folder(root, SIZE), transforms.light)
    monkeypatch.setattr("stagewise_kd.data.image_files.IN_MEMORY_SHARE", 0)
    read = make_data(folder(root, SIZE), transforms.light)
    for n in range(3):
        for one, other in zip(kept.train[View(0, n)], read.train[View(0, n)], strict=True):
            assert one.equal(other)


@pytest.fixture(scope="module")
def frames(shared, tmp_path_factory) -> Path:
    """A few frames of CamVid: the first two of each split."""
    archive = shared / "data" / "camvid.tgz"
    if not archive.is_file():
        pytest.skip("no CamVid beside the checkout")
    root = tmp_path_factory.mktemp("frames")
    with tarfile.open(archive) as files:
        members = [m for m in files.getmembers() if m.isfile()]
        for split in ("train", "val", "test"):
            stems = sorted({Path(m.name).stem for m in members if f"/{split}/" in m.name})[:2]
            chosen = [m for m in members if Path(m.name).stem in stems]
            files.extractall(root, chosen, filter="data")
    return root


def test_camvid(frames):
    found = camvid(str(frames), [90, 120])
    assert len(found.classes) == len(found.palette) == 11
    assert found.train.names[0].startswith("train/0001TP_")
    assert [len(part.names) for part in (found.train, found.val, found.test)] == [2, 2, 2]
    seen = set.union(*values(found.train), *values(found.test))
    assert {0, 1, 3, VOID} <= seen <= {*range(11), VOID}
    sky = found.train.labels[0] == 0
    ground = found.train.labels[0] == 3
    assert sky.nonzero()[:, 0].float().mean() < ground.nonzero()[:, 0].float().mean()
    data = make_data(found, transforms.light)
    assert data.shape == (3, 96, 128)
    assert data.splits["val"] == found.val.names
    assert camvid(str(frames / "CamVid"), [90, 120]).train.names == found.train.names
    assert camvid(str(frames), None).train.images[0].shape == (3, 360, 480)


def test_camvid_from_png_frames(frames, tmp_path):
    for path in frames.rglob("*.jpg"):
        folder_of = tmp_path / path.parent.name
        folder_of.mkdir(exist_ok=True)
        Image.open(path).save(folder_of / f"{path.stem}.png")
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}annot").symlink_to(frames / "CamVid" / f"{split}annot")
    assert camvid(str(tmp_path), [90, 120]).train.names[0].endswith(".png")
    (tmp_path / "valannot").unlink()
    with pytest.raises(UserError, match="no folder valannot"):
        sources.camvid(str(tmp_path), [90, 120])
