"""What a run has to say of a teacher that it did not train."""

from pathlib import Path
from typing import Literal

from stagewise_kd.data.samples import Source
from stagewise_kd.methods.method import about
from stagewise_kd.runs.method import method_of
from stagewise_kd.system.console import console
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.names import Config
from stagewise_kd.system.processes import rank
from stagewise_kd.training.chance import standing
from stagewise_kd.training.setup import Setup

Check = Literal["stop", "warn", "none"]
SEEN = (
    "warning: the validation images are cut off train, and a teacher trained elsewhere may have "
    "seen them: graft scores and figures on them flatter, those of a test split do not; give a "
    "validation split that it has not seen"
)


def check_of(config: Config) -> Check:
    """How a teacher is held against chance: one that was given has to be better, to teach."""
    teacher = config["teacher"]
    if not teacher or not teacher["check"]:
        return "none"
    given = teacher["checkpoint"] and about(method_of(config)).needs_teacher
    return "stop" if given else "warn"


def check_teacher(setup: Setup, check: Check, classes: list[str]) -> None:
    """Hold the teacher against chance on the validation split.

    Raises:
        UserError: it is no better, and the check is to stop there.
    """
    if setup.teacher is None or check == "none" or not setup.data.labelled:
        return
    found = standing(setup.teacher, setup)
    if found is None or not found.doubtful:
        return
    norm = (setup.teacher.mean, setup.teacher.std)
    mean, std = ([round(x, 3) for x in values.flatten().tolist()] for values in norm)
    line = (
        f"the teacher is right on {found.right:.1%} of {found.images} validation images, where "
        f"chance gives {found.chance:.1%}; is the order of its classes {', '.join(classes[:10])}, "
        f"was it trained with mean {mean} and std {std}, and on images of this size and cropping?"
    )
    if check == "stop" and found.hopeless:
        raise UserError(f"{line} Correct that, or set teacher.check=false to learn from it anyway")
    if rank() == 0:
        console.print(f"warning: {line}", soft_wrap=True, highlight=False)


def val_may_be_seen(config: Config, source: Source, val: list[str]) -> bool:
    """Whether a teacher that was given may have learned from validation images.

    Args:
        config: the resolved config, before the run has trained a teacher.
        source: the data set; one that brings a validation split has kept it from train.
        val: names of the validation images.
    """
    teacher, splits = config["teacher"], config["data"].get("splits")
    path = teacher and teacher["checkpoint"]
    cut_off = source.val is None and not splits and config["eval"]["protocol"] == "holdout"
    if not path or not cut_off or not about(method_of(config)).needs_teacher:
        return False
    learned = Path(path) / "splits" / "train.txt"  # of one of our run folders
    if not learned.is_file():
        return True
    return not {*val}.isdisjoint(learned.read_text(encoding="utf-8").split("\n"))
