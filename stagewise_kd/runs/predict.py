"""What predicting on image files starts with, whatever is predicted."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stagewise_kd.data.finding import find_images, say_left_out
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.runs.student import open_student
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.processes import local_device

Files = list[tuple[Path, Path]]


def student_and_files(
    task: str, run: Path, paths: Sequence[Path], out: Path
) -> tuple[BlockNet, dict[str, Any], Files]:
    """A finished student on its device, its description, and the images to predict.

    Args:
        task: what the student must have been trained for.
        run: the run folder.
        paths: image files and folders of them.
        out: the folder that is to be written.

    Returns:
        Of each image its file, and its name below the path that it was found by.

    Raises:
        UserError: the run is not finished, or of images that are no files'; a path holds no images;
            or `out` is where images are read.
    """
    student, described = open_student(run, task)
    if described.get("images") == "prepared":
        raise UserError(
            f"{run}: was trained on images that its own data set had prepared in a way that no "
            "file tells; predict with stagewise_kd.load and that code"
        )
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
    return student.to(local_device({})), described, files


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
