"""What an exported student is proven, calibrated, scored and timed with: the images of its run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from stagewise_kd.data.image_files import sides
from stagewise_kd.data.loaders import Data
from stagewise_kd.data.own_splits import Given, own_images
from stagewise_kd.data.samples import Samples, Source
from stagewise_kd.export.proof import some
from stagewise_kd.export.writing import Images
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.runs.evaluate import scoring
from stagewise_kd.runs.front_end import FrontEnd
from stagewise_kd.system.console import console
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.names import Config
from stagewise_kd.training.setup import Setup

MOST = 256  # images of a split that are looked at
NOISE = 16  # images, where a run has none
SIDE = 256  # pixels of those, where a student takes any size


@dataclass(frozen=True)
class Material:
    """What an exported student is held against.

    Args:
        told: what the images are.
        shape: of one: channels, height and width.
        images: to prove with.
        calibration: to choose the ranges of 8 bits with; None: there are no real ones.
        setup: to score with; None where nothing but images is known.
        teacher: on the CPU, where it can be had.
    """

    told: str
    shape: tuple[int, ...]
    images: Images
    calibration: Images | None = None
    setup: Setup | None = None
    teacher: BlockNet | None = None


def material(
    run: Path,
    net: BlockNet,
    described: dict[str, Any],
    result: dict[str, Any],
    given: Given | Tensor | None = None,
    overrides: Sequence[str] = (),
    front_end: FrontEnd | None = None,
) -> Material:
    """What the student of a run is proven with.

    Args:
        run: the run folder.
        net: its student.
        described: what its network.json tells.
        result: its result.json.
        given: images to use instead of the run's own.
        overrides: changes to the run's config, such as "data.root=DIR".
        front_end: of the task; None: the one that the config's data are of.

    Raises:
        UserError: the data of the run cannot be read.
    """
    if given is not None:
        own = own_images(given, 0, MOST)
        images: Images = partial(some, own, MOST)
        shape = tuple(next(iter(images())).shape[1:])
        return Material("the images that were given", shape, images, images)
    named = OmegaConf.select(OmegaConf.load(run / "config.yaml"), "data.source._target_")
    if named is None:
        return _noise(run, net, described)
    front_end = front_end or _front_end(run, named)
    try:
        setup, source, config = scoring(front_end, run, net, described, overrides, trains=True)
    except UserError as error:
        raise UserError(
            f"{run}: a student is proven on images of its own run, which cannot be read: {error}; "
            "say where they are by data.root=DIR"
        ) from None
    setup = replace(setup, fitting=replace(setup.fitting, trainer={"accelerator": "cpu"}))
    test: Any = setup.data.test
    return Material(
        "the test split",
        setup.data.shape,
        partial(some, test, MOST),
        partial(some, _as_validated(front_end, config, source, setup.data), MOST),
        setup,
        _teacher(front_end, config, source, result),
    )


def _front_end(run: Path, named: str) -> FrontEnd:
    """The front end that a config's data set is of."""
    package = named.partition(".")[0]
    try:
        found: Any = import_module(f"{package}.front_end")
    except ImportError:
        raise UserError(
            f"{run}: its data are of {named}, which is no front end's; "
            "use cls_kd.export or seg_kd.export"
        ) from None
    return found


def _noise(run: Path, net: BlockNet, described: dict[str, Any]) -> Material:
    """Random images of a run from Python, which alone has its data."""
    console.print(
        f"{run}: was run from Python, which alone has its data; proven on random images instead "
        "(stagewise_kd.export(…, images=…) takes real ones)",
        soft_wrap=True,
        highlight=False,
    )
    shape = (len(net.mean), *sides(described["size"] or SIDE))

    def images() -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(0)
        levels = torch.randint(0, 256, (NOISE, *shape), generator=generator)
        yield from torch.split(levels / 255, [1, NOISE - 1])

    return Material("random images", shape, images)


def _as_validated(front_end: FrontEnd, config: Config, source: Source, data: Data) -> Samples:
    """The images that the student has learned from, as they are validated, not augmented."""
    learned: Any = data.images or data.train
    return Samples(learned.part, front_end.make_views(config, source)[1])


def _teacher(
    front_end: FrontEnd, config: Config, source: Source, result: dict[str, Any]
) -> BlockNet | None:
    """The teacher of the run; None, and a line, where it is gone."""
    checkpoint = result.get("teacher_checkpoint") or (config["teacher"] or {}).get("checkpoint")
    if not checkpoint:
        return None
    config = config | {"teacher": config["teacher"] | {"checkpoint": checkpoint}}
    try:
        return front_end.load_teacher(config, source).eval()
    except UserError as error:
        line = f"the teacher is left out of the table: {error}"
        console.print(line, soft_wrap=True, highlight=False)
        return None
