from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from stagewise_kd.data import image_files
from stagewise_kd.data.image_files import find_images, say_left_out


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
    with image_files.console.capture() as said:
        say_left_out("photos", left_out)
        say_left_out("photos", Counter())
    assert said.get().startswith("photos: left out, no images: 2 .heic, ")
    assert said.get().count("\n") == 1
    for suffix in (".txt", ".pdf", ".h5"):
        assert f"1 {suffix}" in said.get()
