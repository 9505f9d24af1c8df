"""`student=shrunk`: the student is the trained teacher itself, made smaller to a target."""

import random
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from stagewise_kd.data.batches import unit_images
from stagewise_kd.data.loaders import Data, Feed
from stagewise_kd.data.samples import Samples, Source
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.networks.origin import rebuild
from stagewise_kd.networks.shrunk import cut_again, cuts, shrunk_origin
from stagewise_kd.runs.front_end import FrontEnd
from stagewise_kd.runs.shrink import most_images
from stagewise_kd.sizing.alternatives import Choices, alternatives, on_device
from stagewise_kd.sizing.choice import Choice
from stagewise_kd.sizing.costs import Costs
from stagewise_kd.sizing.scores import Scores
from stagewise_kd.sizing.search import Smaller, built, restored, scored, told, within
from stagewise_kd.sizing.target import Target, target_of
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.names import SHRUNK, Config
from stagewise_kd.system.processes import from_first, local_device, rank

SCORES = Path("runs") / "scores"  # by what they depend on: all targets share them


class Start(NamedTuple):
    """The student as it starts.

    Args:
        net: as blocks.
        said: lines about it.
        choice: of a shrunk one, from which it is built again.
    """

    net: BlockNet
    said: list[str]
    choice: dict[str, Any] | None = None


def shrunk_student(
    front_end: FrontEnd,
    config: Config,
    source: Source,
    data: Data,
    teacher: BlockNet,
    choice: dict[str, Any] | None,
) -> Start:
    """The smaller teacher as blocks, with the teacher's weights.

    Args:
        front_end: of the task.
        config: the resolved config.
        source: the data set.
        data: its splits; alternatives are scored on train images, without labels.
        teacher: the trained one, or one of its shape, whose copy stands for the student then.
        choice: of an earlier start, which is kept, for latencies are never measured twice alike.

    Raises:
        UserError: no target or one that nothing reaches, or no block can be changed.
    """
    target = target_of(config["target"], "target.")
    if not config["teacher"]["checkpoint"]:
        return Start(deepcopy(teacher), [])
    teacher.eval()
    images = images_of(front_end, config, source, data, teacher)
    with torch.random.fork_rng(devices=[]):
        net, space = space_of(config, teacher, images)
        if choice is None and rank() == 0:
            there = on_device(net, space, local_device(config["trainer"]))
            choice = _chosen(config, *there, images, target)
        choice = from_first(choice)
        smaller = built(net, space, Choice(**choice["choice"]), Costs(**choice["costs"]))
        smaller = restored(teacher.model, smaller)
    said = ["student: the teacher, of which", *told(smaller)]
    return Start(_as_blocks(config, teacher, smaller, data.shape), said, choice)


def _chosen(
    config: Config, net: nn.Module, space: Sequence[Choices], images: Tensor, target: Target
) -> dict[str, Any]:
    """The choice within the target, and the costs that it was made by."""
    space, scores = scored_space(config, net, space, images)
    found = within(net, space, scores.kl, target, images[:1], "target.")
    return {"choice": asdict(found.choice), "costs": asdict(found.costs)}


def images_of(
    front_end: FrontEnd, config: Config, source: Source, data: Data, teacher: BlockNet
) -> Tensor:
    """Some train images as the teacher's network takes them, (N, C, H, W)."""
    part, names = source.train, data.splits["train"]
    most = min(most_images(data.shape), len(names))
    drawn = random.Random(config["seed"]).sample(sorted(names), most)
    whole = front_end.make_views(config, source)[1]
    images, _ = Feed(Samples(part.take(sorted(drawn)), whole)).load(range(len(drawn)))
    return (unit_images(images) - teacher.mean) / teacher.std


def scored_space(
    config: Config, net: nn.Module, space: Sequence[Choices], images: Tensor
) -> tuple[list[Choices], Scores]:
    """The alternatives, repaired where that is asked for, and their scores.

    Args:
        config: the resolved config.
        net: the teacher's network as blocks are called in it.
        space: from `space_of`.
        images: as the network takes them.
    """
    steps, seed = config["shrink"]["score_steps"], config["seed"]
    return scored(net, space, images, steps, seed, SCORES.absolute())


def space_of(config: Config, teacher: BlockNet, images: Tensor) -> tuple[nn.Module, list[Choices]]:
    """The teacher's network as its blocks are called in it, and those that may change.

    Blocks of a decoder may with decoder=shrunk alone.
    """
    net, space = alternatives(teacher.model, images[:2])
    decoder = config.get("decoder")
    if not decoder or decoder["name"] == SHRUNK:
        return net, space
    blocks = teacher.modules_of(teacher.of_role("encoder"))
    inside = {id(parameter) for block in blocks for parameter in block.parameters()}
    found = [
        choices
        for choices in space
        if {id(p) for p in net.get_submodule(choices.path).parameters()} <= inside
    ]
    if not found:
        raise UserError(
            "student=shrunk: the teacher's encoder has no block that can be left out or narrowed; "
            "set decoder=shrunk"
        )
    return net, found


def _as_blocks(
    config: Config, teacher: BlockNet, smaller: Smaller, shape: tuple[int, ...]
) -> BlockNet:
    """The smaller network as blocks; with random weights where those are asked for."""
    whole, recipe = teacher.origin, smaller.recipe or ()
    origin = shrunk_origin(whole, recipe, smaller.model, shape)
    if origin.build is None:  # of the user's own code
        return cut_again(smaller.model, teacher, shape, origin, **cuts(config["teacher"]))
    if config["student"]["init"] == "random":
        torch.manual_seed(config["seed"])
        net: BlockNet = rebuild(origin.build, origin.arguments)
        return net
    return cut_again(smaller.model, teacher, shape, origin, **cuts(origin.arguments["arguments"]))
