"""What a front end brings to the skeleton of a run; each has a module `front_end` of this shape."""

from collections.abc import Sequence
from typing import Any, Protocol

from hydra.utils import instantiate

from stagewise_kd.data.division import make_data, scored_alone
from stagewise_kd.data.image_files import sides
from stagewise_kd.data.loaders import Data
from stagewise_kd.data.samples import Part, Source, Transform
from stagewise_kd.methods.method import takes
from stagewise_kd.methods.task import Task
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.runs.taught import check_without_labels, taught
from stagewise_kd.system.names import Config

SPLIT = ("fraction", "images", "label_fraction", "seed", "val", "splits", "rest_as_test")


class FrontEnd(Protocol):
    """A kind of labels, with its data sets and networks. Every function takes a resolved config."""

    PACKAGE: str  # `python -m PACKAGE run …` starts further processes
    TASK: str  # the task's name, as result.json has it

    def check(self, config: Config) -> None:
        """Raise a `UserError` where settings do not go together."""
        ...

    def make_views(self, config: Config, source: Source) -> tuple[Transform, Transform]:
        """The transforms of train images and of all others."""
        ...

    def load_unlabelled(self, config: Config, source: Source) -> Part | None:
        """The images of `data.unlabelled`."""
        ...

    def image_size(self, config: Config, source: Source) -> int | list[int] | None:
        """What images are scaled to when they are predicted; None: used as they are."""
        ...

    def make_task(self, config: Config, source: Source) -> Task:
        """Losses and metrics."""
        ...

    def untrained_teacher(self, config: Config, source: Source) -> BlockNet:
        """A network of the teacher's shape, to check a plan with before one is trained."""
        ...

    def load_teacher(self, config: Config, source: Source) -> BlockNet:
        """The trained teacher of `teacher.checkpoint`."""
        ...

    def make_student(self, config: Config, source: Source, teacher: BlockNet | None) -> BlockNet:
        """The student as it starts; draws from torch's generator."""
        ...

    def teacher_changes(self, config: Config) -> Config:
        """What of a config is other in the run that trains the teacher."""
        ...

    def method_options(self, config: Config) -> dict[str, Any]:
        """Options of the method that follow from other settings."""
        ...

    def told(self, config: Config, student: BlockNet) -> list[str]:
        """Lines about the student, said before it trains."""
        ...


def load_data(
    front_end: FrontEnd,
    config: Config,
    known: Sequence[str] | None = None,
    alone: bool = True,
    trains: bool = False,
) -> tuple[Data, Source]:
    """The splits of a config, and the data set they are of.

    Args:
        front_end: of the task.
        config: the resolved config.
        known: the classes of a student that is only scored; a folder needs no train/ then.
        alone: of images without labels such a student is scored on all, or on those of `data.test`;
            else on what its run has held out.
        trains: whether its train images are wanted too, which a folder must have then.

    Raises:
        UserError: the data cannot be read, or the settings leave a split without images.
    """
    settings = config["data"]
    labelled = settings.get("labelled", True)
    if not labelled:
        check_without_labels(config)
    front_end.check(config)
    size = None if settings["size"] is None else sides(settings["size"])
    make = instantiate(settings["source"])
    given = {} if labelled else {"classes": known} if known else taught(config)
    if known and not trains and (labelled or alone) and not settings.get("rest_as_test"):
        given |= {"known": known}
    source = make(size=size, **{k: v for k, v in given.items() if takes(make, k)})
    augment, whole = front_end.make_views(config, source)
    if known and not trains and not source.train.names:
        return scored_alone(source, whole), source
    data = make_data(
        source,
        augment,
        whole,
        view_seed=config["seed"],
        unlabelled=front_end.load_unlabelled(config, source),
        protocol=config["eval"]["protocol"],
        **{key: settings[key] for key in SPLIT if key in settings},
    )
    return data, source
