import hashlib
import io
import os
import pickle
import re
import subprocess
import sys
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from data_scripts import cifar10, image_folders, imagenette, imagewoof
from data_scripts.archives import UNPACKING, ArchiveError, download, unpack

REPOSITORY = Path(__file__).resolve().parents[2]
REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "cifar10.tgz"
COUNTS = {"train": 20, "val": 4}


def write_tar(path, files, mode="w:gz"):
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def tiny_files(top="tiny2"):
    files = {f"{top}/notes.csv": b"dropped"}
    for split, count in COUNTS.items():
        for i in range(count):
            files[f"{top}/{split}/{'ab'[i % 2]}/{i:02d}.JPEG"] = os.urandom(200)
    return files


def checksum(path, algorithm="md5"):
    return f"{algorithm}:{hashlib.new(algorithm, path.read_bytes()).hexdigest()}"


def sizes(archive, counts=COUNTS, url=None):
    return {"full": (image_folders("tiny2", url, (checksum(archive),), counts, classes=2),)}


def no_fault(parent, folder):
    return ""


@pytest.fixture
def archive(tmp_path):
    return write_tar(tmp_path / "tiny2.tgz", tiny_files())


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data"


def run(root, known, *more):
    return imagenette.main(["--root", str(root), *map(str, more)], known)


def one_line(capsys):
    error = capsys.readouterr().err.lstrip("\n")  # of a disabled bar, before rich 15
    assert error.count("\n") == 1
    return error


def snapshot(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_lays_out_and_splits(archive, root):
    assert run(root, sizes(archive), "--archive", archive) == 0
    assert sorted(path.name for path in root.iterdir()) == ["splits", "train", "val"]
    train = (root / "splits" / "train.txt").read_text().split()
    val = (root / "splits" / "val.txt").read_text().split()
    assert len(train) == 18
    assert len(val) == 2
    found = {path.relative_to(root).as_posix() for path in (root / "train").rglob("*.JPEG")}
    assert {*train, *val} == found


def test_rerun_says_finished_and_changes_nothing(archive, root, capsys):
    run(root, sizes(archive), "--archive", archive)
    before = snapshot(root)
    known = sizes(archive)
    archive.unlink()
    assert run(root, known) == 0
    assert "finished already" in capsys.readouterr().out
    assert snapshot(root) == before


def test_another_seed_is_refused(archive, root, capsys):
    run(root, sizes(archive), "--archive", archive)
    before = snapshot(root)
    assert run(root, sizes(archive), "--seed", 1) == 2
    assert "choose another --root" in one_line(capsys)
    assert snapshot(root) == before


def test_seed_decides_the_split(archive, tmp_path):
    texts = []
    for folder, seed in (("one", 0), ("two", 0), ("three", 1)):
        run(tmp_path / folder, sizes(archive), "--archive", archive, "--seed", seed)
        texts.append((tmp_path / folder / "splits" / "train.txt").read_text())
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("lost", ["val", "splits/val.txt", "splits"])
def test_half_finished_run_is_completed(archive, root, lost):
    run(root, sizes(archive), "--archive", archive)
    before = snapshot(root)
    (root / lost).rename(root.parent / "lost")
    (root / UNPACKING / "rubbish").mkdir(parents=True)
    (root / UNPACKING / "rubbish" / "file").touch()
    assert run(root, sizes(archive), "--archive", archive) == 0
    assert snapshot(root) == before


def test_incomplete_train_folder_is_left_alone(archive, root, capsys):
    (root / "train" / "a").mkdir(parents=True)
    (root / "train" / "a" / "mine.jpg").write_bytes(b"mine")
    before = snapshot(root)
    assert run(root, sizes(archive), "--archive", archive) == 2
    assert "holds 1 images of 1 classes, expected 20 images of 2 classes" in one_line(capsys)
    assert snapshot(root) == before


def test_foreign_split_file_is_left_alone(archive, root, capsys):
    (root / "splits").mkdir(parents=True)
    (root / "splits" / "val.txt").write_text("mine\n")
    assert run(root, sizes(archive), "--archive", archive) == 2
    assert "splits/val.txt was not written by this script" in one_line(capsys)
    assert list(snapshot(root).values()) == [b"mine\n"]


@pytest.mark.parametrize("change", ["truncated", "damaged"])
def test_wrong_checksum(archive, root, capsys, change):
    known, whole = sizes(archive), archive.read_bytes()
    archive.write_bytes(whole[:-100] if change == "truncated" else whole[:-1] + b"?")
    assert run(root, known, "--archive", archive) == 2
    error = one_line(capsys)
    assert str(archive) in error
    assert f"wrong checksum: {archive.stat().st_size} bytes" in error
    assert not snapshot(root)


def test_missing_archive(archive, root, capsys):
    assert run(root, sizes(archive), "--archive", root / "none.tgz") == 2
    assert "none.tgz: no such archive file" in one_line(capsys)


def test_no_public_address(archive, root, capsys):
    assert run(root, sizes(archive)) == 2
    assert "pass --archive FILE" in one_line(capsys)


def test_wrong_counts(archive, root, capsys):
    known = sizes(archive, counts={"train": 20, "val": 5})
    assert run(root, known, "--archive", archive) == 2
    assert "val holds 4 images of 2 classes, expected 5 images" in one_line(capsys)
    assert not list(root.iterdir())


def test_root_is_a_file(archive, capsys):
    assert run(archive, sizes(archive), "--archive", archive) == 2
    assert f"--root {archive}" in one_line(capsys)


@pytest.mark.parametrize("mode", ["w:gz", "w:xz"])
def test_truncated_archive(tmp_path, root, mode):
    root.mkdir()
    archive = write_tar(tmp_path / "tiny.tar", tiny_files(), mode)
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(ArchiveError, match="unreadable or truncated"):
        unpack(archive, root, ["train"], no_fault)
    assert not list(root.iterdir())


def test_no_archive_at_all(tmp_path, root):
    root.mkdir()
    (tmp_path / "page.tgz").write_text("<html>not found</html>")
    with pytest.raises(ArchiveError, match="unreadable or truncated"):
        unpack(tmp_path / "page.tgz", root, ["train"], no_fault)
    assert not list(root.iterdir())


@pytest.mark.parametrize("name", ["../escaped", "train/../../escaped", "{outside}/escaped"])
def test_escaping_paths_are_refused(tmp_path, root, name):
    root.mkdir()
    name = name.format(outside=tmp_path)  # one of them is absolute
    archive = write_tar(tmp_path / "bad.tgz", {"train/a/1.jpg": b"", name: b"out"})
    with pytest.raises(ArchiveError, match=re.escape(f"unsafe member '{name}'")):
        unpack(archive, root, ["train"], no_fault)
    assert sorted(tmp_path.iterdir()) == [archive, root]
    assert not list(root.iterdir())
    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path, root, kind):
    root.mkdir()
    with tarfile.open(tmp_path / "bad.tar", "w") as tar:
        member = tarfile.TarInfo("train/link")
        member.type, member.linkname = kind, "elsewhere"
        tar.addfile(member)
    with pytest.raises(ArchiveError, match="unsafe member 'train/link'"):
        unpack(tmp_path / "bad.tar", root, ["train"], no_fault)
    assert not list(root.iterdir())


@pytest.fixture
def server(archive):
    """Serves the archive, and breaks off after `limit` bytes of an answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            whole, given = archive.read_bytes(), self.headers["Range"]
            self.server.ranges.append(given)
            start = int(given[len("bytes=") : -1]) if given and self.server.resumes else 0
            self.send_response(416 if start >= len(whole) else 206 if start else 200)
            self.send_header("Content-Length", str(max(0, len(whole) - start)))
            self.end_headers()
            self.wfile.write(whole[start:][: self.server.limit])

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.ranges, server.limit, server.resumes = [], None, True
        server.url = f"http://127.0.0.1:{server.server_port}/tiny2.tgz"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("resumes", [True, False])
def test_broken_download_resumes(archive, root, server, capsys, resumes):
    known = sizes(archive, url=server.url)
    server.limit, server.resumes = 1000, resumes
    assert run(root, known) == 2
    assert "1000 bytes have arrived; run again to resume" in one_line(capsys)
    assert [path.name for path in root.iterdir()] == ["tiny2.tgz.part"]
    server.limit = None
    assert run(root, known) == 0
    assert server.ranges == [None, "bytes=1000-"]
    assert (root / "tiny2.tgz").read_bytes() == archive.read_bytes()
    assert not (root / "tiny2.tgz.part").exists()


def test_download_that_only_lacked_its_name(archive, root, server):
    root.mkdir()
    (root / "tiny2.tgz.part").write_bytes(archive.read_bytes())
    assert run(root, sizes(archive, url=server.url)) == 0


def test_download_of_another_file_is_dropped(root, server):
    root.mkdir()
    with pytest.raises(ArchiveError, match="wrong checksum"):
        download(server.url, root, ["md5:00"])
    assert not list(root.iterdir())


def test_no_network(archive, root, capsys):
    known = sizes(archive, url="http://127.0.0.1:1/tiny2.tgz")
    assert run(root, known) == 2
    assert "cannot download http://127.0.0.1:1/tiny2.tgz" in one_line(capsys)


@pytest.fixture
def batches(tmp_path):
    """A tiny archive of python batches, and the release that knows it."""

    labels = [i % 10 for i in range(20)]
    files = {
        "data_batch_1": pickle.dumps({"data": pixels(20), "labels": labels}),
        "test_batch": pickle.dumps({"data": pixels(10), "labels": labels[:10]}),
        "batches.meta": pickle.dumps({"label_names": list("abcdefghij")}),
    }
    sums = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}

    class Tiny(CIFAR10):
        train_list = (("data_batch_1", sums["data_batch_1"]),)
        test_list = (("test_batch", sums["test_batch"]),)
        meta = {  # noqa: RUF012 (as torchvision declares it)
            "filename": "batches.meta",
            "key": "label_names",
            "md5": sums["batches.meta"],
        }

    top = {f"{CIFAR10.base_folder}/{name}": content for name, content in files.items()}
    archive = write_tar(tmp_path / "python.tgz", top)
    return archive, cifar10.batches("http://127.0.0.1:1/x", (checksum(archive),), Tiny)


def pixels(count):
    return np.zeros((count, 3072), dtype=np.uint8)


def test_cifar10_batches(root, batches):
    archive, release = batches
    known = {"full": (release, cifar10.RELEASES[1])}
    given = ["--root", str(root), "--archive", str(archive)]
    assert cifar10.main(given, known) == 0
    names = [(root / "splits" / f"{split}.txt").read_text().split() for split in ("train", "val")]
    assert sorted(names[0] + names[1]) == [f"train/{i:05d}" for i in range(20)]
    assert len(names[1]) == 2
    assert cifar10.main(["--root", str(root)], known) == 0


def test_cifar10_archive_is_recognized_by_checksum(root, archive, batches):
    folders = image_folders("jpeg", None, (checksum(archive, "sha256"),), COUNTS, classes=2)
    given = ["--root", str(root), "--archive", str(archive)]
    assert cifar10.main(given, {"full": (batches[1], folders)}) == 0
    assert (root / "val").is_dir()


def test_cifar10_damaged_batches(root, batches, capsys):
    (root / CIFAR10.base_folder).mkdir(parents=True)
    (root / CIFAR10.base_folder / "data_batch_1").touch()
    assert cifar10.main(["--root", str(root)]) == 2
    assert "fails torchvision's integrity check" in one_line(capsys)


@pytest.mark.parametrize("script", [imagenette, imagewoof])
def test_sizes(script):
    assert list(script.SIZES) == ["full", "320", "160"]
    for (release,) in script.SIZES.values():
        assert release.url.endswith(f"/{release.name}.tgz")
        assert release.folders == ("train", "val")


@pytest.mark.parametrize(
    ("how", "name"),
    [
        ("file", "camvid"),
        ("file", "cifar10"),
        ("file", "imagenette"),
        ("file", "imagewoof"),
        ("module", "cifar10"),
    ],
)
def test_runs_from_any_folder(tmp_path, how, name):
    path = str(REPOSITORY / "data_scripts" / f"{name}.py")
    command = [path] if how == "file" else ["-m", f"data_scripts.{name}"]
    environment = os.environ | ({"PYTHONPATH": str(REPOSITORY)} if how == "module" else {})
    given = ["--root", "data", "--archive", "none.tgz"]
    done = subprocess.run(
        [sys.executable, *command, *given],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("none.tgz: no such archive file")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.skipif(not REAL.exists(), reason=f"{REAL} is absent")
def test_real_cifar10(root):
    assert cifar10.main(["--root", str(root), "--archive", str(REAL)]) == 0
    assert len((root / "splits" / "train.txt").read_text().split()) == 48_000
    assert len((root / "splits" / "val.txt").read_text().split()) == 2_000
    assert cifar10.main(["--root", str(root)]) == 0
