"""What the page of a comparison shows of its networks: the test images of the first run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stagewise_kd.comparison.runs import Group, Run, read_runs, told_apart
from stagewise_kd.data.batches import unit_images
from stagewise_kd.data.loaders import Data, eval_loader
from stagewise_kd.data.samples import Source
from stagewise_kd.methods.losses import two_or_more
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.runs.evaluate import run_config
from stagewise_kd.runs.front_end import FrontEnd, load_data
from stagewise_kd.runs.student import check_task, open_student
from stagewise_kd.system.console import console
from stagewise_kd.system.errors import UserError

SEARCHED = 400  # test images among which those to show are looked for
BATCH = 8


@dataclass(frozen=True)
class Shown:
    """Test images and the networks that see them.

    Args:
        data: its test split holds the images, whose labels may mean nothing.
        source: the data set.
        described: what the first student's folder tells: classes, palette, ….
        teacher: by its name; empty where there is none.
        students: by the names of their groups.
    """

    data: Data
    source: Source
    described: dict[str, Any]
    teacher: dict[str, BlockNet]
    students: dict[str, BlockNet]

    @property
    def names(self) -> list[str]:
        """Of the images that are looked at."""
        splits = self.data.splits
        return splits.get("test", splits.get("val", []))[:SEARCHED]

    @property
    def labelled(self) -> bool:
        """Whether the images have labels."""
        return self.data.has_labels(self.data.test)


def shown_runs(front_end: FrontEnd, paths: Sequence[Path]) -> Shown | None:
    """What there is to show of runs on the data of the first one, one of each group of seeds.

    Figures can be compared without: a line tells why there are no pictures where the data is no
    longer there, or a student that only the user's own code can build, or whose weights are gone.

    Args:
        front_end: of the task.
        paths: run folders, or folders of them.

    Returns:
        None where there is nothing, or all were run from Python, which alone has the data.

    Raises:
        UserError: a run is not finished or of another task.
    """
    every = told_apart(read_runs(paths))
    for group in every:
        check_task(group.runs[0].path, group["task"], front_end.TASK)
    groups = [group for group in every if "source" in group.runs[0].config["data"]]
    if not groups:
        return None
    try:
        return _opened(front_end, groups)
    except UserError as error:
        console.print(f"no pictures: {error}", soft_wrap=True, highlight=False)
        return None


def _opened(front_end: FrontEnd, groups: Sequence[Group]) -> Shown:
    first = groups[0].runs[0]
    alike = [group for group in groups if _data_of(group.runs[0]) == _data_of(first)]
    opened = {group.name: open_student(group.runs[0].path, front_end.TASK) for group in alike}
    described = opened[groups[0].name][1]
    config = run_config(first.path)
    data, source = load_data(front_end, config, described["classes"], alone=False)
    teacher = _teacher(front_end, [group.runs[0] for group in alike], source)
    return Shown(data, source, described, teacher, {name: net for name, (net, _) in opened.items()})


def _data_of(run: Run) -> Any:
    data = run.config["data"]
    return [data.get(key) for key in ("name", "root", "test", "size", "splits")]


def _teacher(front_end: FrontEnd, runs: Sequence[Run], source: Source) -> dict[str, BlockNet]:
    for run in runs:
        checkpoint = run.result.get("teacher_checkpoint")
        if run.has_teacher and checkpoint and Path(checkpoint).exists():
            config = run_config(run.path)
            config["teacher"]["checkpoint"] = checkpoint
            return {f"{config['teacher']['name']} teacher": front_end.load_teacher(config, source)}
    return {}


@torch.no_grad()
def seen(net: BlockNet, shown: Shown, keep: Callable[[Tensor], Tensor]) -> Tensor:
    """What is kept of a network's logits (B, K, …) for the images that are looked at."""
    found: list[Tensor] = []
    for batch in eval_loader(shown.data.test, BATCH, 0):
        found.append(keep(two_or_more(net.eval()(unit_images(batch.image)))))
        if BATCH * len(found) >= len(shown.names):
            break
    return torch.cat(found)[: len(shown.names)]
