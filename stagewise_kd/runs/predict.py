"""What predicting on image files starts and ends with, whatever is predicted."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from stagewise_kd.data.finding import find_images, say_left_out
from stagewise_kd.data.image_files import raise_first
from stagewise_kd.export.onnx_file import OnnxNet
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.runs.own_function import factory_of
from stagewise_kd.runs.student import check_pictures, check_task, open_student
from stagewise_kd.system.errors import IncompleteError, UserError
from stagewise_kd.system.processes import local_device

Files = list[tuple[Path, Path]]
Read = TypeVar("Read")
THREADS = 4  # that decode images, each of which may be large


def student_and_files(
    task: str, run: Path, paths: Sequence[Path], out: Path, factory: str | None = None
) -> tuple[BlockNet | OnnxNet, dict[str, Any], Files]:
    """A finished student on its device, its description, and the images to predict.

    Args:
        task: what the student must have been trained for.
        run: the run folder, or an ONNX file of `export`.
        paths: image files and folders of them.
        out: the folder that is to be written.
        factory: `module:function` that builds a network of the user's own.

    Returns:
        Of each image its file, and its name below the path that it was found by.

    Raises:
        UserError: the run is not finished, or of images that are no files'; a path holds no images;
            or `out` is where images are read.
    """
    student, described = _opened(task, run, factory)
    check_pictures(run, described)
    left_out: Counter[str] = Counter()
    files = [
        (file, file.relative_to(path if path.is_dir() else path.parent))
        for path in paths
        for file in (find_images(path, left_out) if path.is_dir() else [path])
    ]
    if not files:
        raise UserError(f"{', '.join(map(str, paths))}: no images there")
    _check_out(out, [path for path in paths if path.is_dir()], [file.parent for file, _ in files])
    say_left_out(", ".join(map(str, paths)), left_out)
    return student, described, files


def _opened(task: str, run: Path, factory: str | None) -> tuple[BlockNet | OnnxNet, dict[str, Any]]:
    """A student ready to compute, of a run folder or of an ONNX file, and its description."""
    if run.suffix != ".onnx" or run.is_dir():
        student, described = open_student(run, task, factory_of(run, factory))
        return student.to(local_device({})), described
    if not run.is_file():
        raise UserError(f"{run}: no such file; give a file of `export`, or a run folder")
    net = OnnxNet(run)
    check_task(run, net.about["task"], task)
    if net.form.argmax:
        raise UserError(
            f"{run}: gives classes alone, and predictions are made of logits; export it without "
            "--argmax, or give the run folder"
        )
    return net, net.about


def _check_out(out: Path, searched: Sequence[Path], homes: Sequence[Path]) -> None:
    """Refuse to write beside images, which would be replaced, or where they are searched for."""
    target = out.resolve()
    around = {target, *target.parents}
    inside = [folder for folder in searched if folder.resolve() in around]
    beside = [folder for folder in dict.fromkeys(homes) if folder.resolve() == target]
    for folder in inside or beside:
        raise UserError(
            f"--out {out}: lies where images are read, in {folder}, and would replace them or be "
            "read with them the next time; give a folder elsewhere"
        )


def read_some(
    files: Sequence[Path], read: Callable[[Path], Read], count: int, unreadable: list[str]
) -> Iterator[list[tuple[Path, Read]]]:
    """What files hold, so many at a time.

    Args:
        files: any number of them.
        read: opens one.
        count: of files that are held at a time.
        unreadable: gets a line for each file that cannot be read.
    """

    def attempt(path: Path) -> tuple[Path, Read] | str:
        try:
            return path, read(path)
        except Exception as error:  # Pillow raises nearly anything on a damaged file
            return f"{path} ({error})"

    with ThreadPoolExecutor(min(count, THREADS)) as pool:
        for start in range(0, len(files), count):
            found = [*pool.map(attempt, files[start : start + count])]
            unreadable += [item for item in found if isinstance(item, str)]
            if good := [item for item in found if not isinstance(item, str)]:
                yield good


def check_read(unreadable: Sequence[str], count: int) -> None:
    """Tell of files that could not be read, when all others are done.

    Args:
        unreadable: a line for each.
        count: of all files.

    Raises:
        UserError: none could be read.
        IncompleteError: some could not.
    """
    if len(unreadable) == count:
        raise_first("cannot read any image; replace or delete", unreadable)
    raise_first(
        f"{len(unreadable)} of {count} images cannot be read, the others are done; replace or "
        "delete",
        unreadable,
        IncompleteError,
    )
