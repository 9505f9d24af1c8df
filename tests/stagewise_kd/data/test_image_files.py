from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image

from cls_kd.class_folders import decode
from seg_kd.channels import read_image
from seg_kd.sources import folder
from stagewise_kd.data import finding, reading
from stagewise_kd.data.finding import find_images, say_left_out
from stagewise_kd.data.image_files import FileImages


def draw(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path, format="PNG")


def test_what_a_system_keeps_beside_images_is_not_read(tmp_path):
    hidden = [".ipynb_checkpoints/a.png", "in/.thumbnails/b.png", "@eaDir/c.png"]
    hidden += ["__MACOSX/d.png", ".e.png"]
    draw(tmp_path / "in" / "a.png", *(tmp_path / name for name in hidden))
    left_out: Counter[str] = Counter()
    assert find_images(tmp_path, left_out) == [tmp_path / "in" / "a.png"]
    assert not left_out


@pytest.mark.parametrize("suffix", [".jfif", ".gif", ".avif", ".jp2", ".JPG", ".webp"])
def test_what_pillow_opens_is_read(tmp_path, suffix):
    draw(tmp_path / f"a{suffix}")
    assert find_images(tmp_path) == [tmp_path / f"a{suffix}"]


def test_what_is_left_out_is_said_in_one_line(tmp_path):
    draw(tmp_path / "a.png")
    for name in ("b.heic", "deep/c.HEIC", "notes.txt", "d.pdf", "e.h5"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    left_out: Counter[str] = Counter()
    find_images(tmp_path, left_out)
    with finding.console.capture() as said:
        say_left_out("photos", left_out)
        say_left_out("photos", Counter())
    assert said.get().startswith("photos: left out, no images: 2 .heic, ")
    assert said.get().count("\n") == 1
    for suffix in (".txt", ".pdf", ".h5"):
        assert f"1 {suffix}" in said.get()


def photograph(path: Path, orientation: int) -> None:
    """A phone's picture: dark above and bright below, stored as the sensor lay."""
    upright = Image.new("RGB", (20, 40), (200, 200, 200))
    upright.paste((20, 20, 20), (0, 0, 20, 20))
    turn = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    (upright.transpose(turn) if turn is not None else upright).save(path, exif=exif, quality=95)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_photographs_are_turned_as_they_were_taken(tmp_path, orientation):
    photograph(tmp_path / "a.jpg", orientation)
    for image in (decode(tmp_path / "a.jpg", (40, 20)), read_image(tmp_path / "a.jpg", None, 3)):
        assert image.shape == (3, 40, 20)
        assert image[:, :18].float().mean() < 40
        assert image[:, 22:].float().mean() > 180


def test_masks_are_held_against_the_upright_image(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split / "images").mkdir(parents=True)
        (tmp_path / split / "masks").mkdir()
        photograph(tmp_path / split / "images" / "a.jpg", 6)
        Image.new("L", (20, 40)).save(tmp_path / split / "masks" / "a.png")
    (tmp_path / "classes.yaml").write_text("classes: [a, b]")
    assert folder(str(tmp_path), None).train.images[0].shape == (3, 40, 20)


@pytest.mark.parametrize(("keep", "later"), [(True, []), (False, ["1.png"])])
def test_a_file_is_checked_once_and_held_where_it_shall_be(tmp_path, keep, later):
    draw(*(tmp_path / f"{n}.png" for n in range(3)))
    decoded = []

    def read(path: Path):
        decoded.append(path.name)
        return decode(path, (4, 4))

    images = FileImages([tmp_path / f"{n}.png" for n in range(3)], read, keep)
    assert images.read([0, 1]) == []
    assert images.read() == []
    assert decoded == ["0.png", "1.png", "2.png"]
    assert images[1].shape == (3, 4, 4)
    assert decoded[3:] == later


@pytest.mark.parametrize(("keep", "seen"), [(True, [0, 1, 2, 3, 4]), (False, [0, 2, 4])])
def test_of_very_many_images_some_are_looked_at(tmp_path, monkeypatch, keep, seen):
    monkeypatch.setattr(reading, "CHECKED", 3)
    found = []

    def read(path):
        found.append(int(path.stem))
        return torch.zeros(1, 2, 2, dtype=torch.uint8)

    reading.read_files([FileImages([tmp_path / f"{n}.png" for n in range(5)], read, keep)])
    assert found == seen
