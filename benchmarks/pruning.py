"""The pruned teacher beside a distilled student, of the same multiply-adds and images seen.

python -m benchmarks.pruning --cifar10 DIR --teacher FILE [--images N] [--epochs N] [--share 0.25]

A ResNet34 is pruned by torch-pruning (Fang et al., arXiv 2301.12900), shrunk by this project, and a
ResNet10 starts with its weights. Each of the three is then trained on labels, on softened logits
and labels, and stagewise: repaired against the teacher that it was made of. Prints a row each.
"""

import argparse
from bisect import bisect_left
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch_pruning
from torch import Tensor, nn
from torch.utils.data import Subset

import cls_kd.front_end
import stagewise_kd as skd
from benchmarks.problem import Plain, one_by_one
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.networks.cost import macs
from stagewise_kd.runs.build import make_student
from stagewise_kd.runs.composing import composing
from stagewise_kd.runs.config import resolved
from stagewise_kd.runs.front_end import load_data

STAGES = 6  # of stagewise distillation: five features and the head
METHODS = ("no_teacher", "hinton", "stagewise")
RATIOS = [number / 1000 for number in range(1, 1000)]


def main() -> None:
    """Make the three networks, train each by each method, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cifar10", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--images", type=int, default=1000, help="of train; a tenth is validation")
    parser.add_argument("--test", type=int, default=2000, help="images to report on")
    parser.add_argument("--epochs", type=int, default=2, help="a feature; six times as many in all")
    parser.add_argument("--share", type=float, help="of multiply-adds; by default ResNet10's")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    teacher, student, data = prepared(args)
    image = torch.zeros(1, *data["val"][0][0].shape)
    share = args.share or macs(partial(student, image)) / macs(partial(teacher, image))
    nets = {
        "pruned": pruned(teacher.model, image, share),
        "shrunk": skd.shrink(teacher, data["train"], macs=share, repair_steps=0, seed=args.seed),
        "ResNet10": student,
    }
    print("| network | its cost | method | test accuracy | images seen | seconds |")
    print("|---|---|---|---|---|---|")
    for name, net in nets.items():
        for method in METHODS:
            figures = row(net, teacher, method, STAGES * args.epochs, data)
            print(f"| {name} | {figures} |", flush=True)


def prepared(args: argparse.Namespace) -> tuple[BlockNet, BlockNet, dict[str, Any]]:
    """The teacher, a ResNet10 that starts with its weights, and what `distill` takes of data."""
    settings = ["data=cifar10", f"data.root={args.cifar10}", f"data.images={args.images}"]
    settings += [f"teacher.checkpoint={args.teacher}", f"seed={args.seed}"]
    with composing("cls") as compose:
        config = resolved(compose(settings))
    data, source = load_data(cls_kd.front_end, config)
    teacher = cls_kd.front_end.load_teacher(config, source)
    student = make_student(cls_kd.front_end, config, source, teacher, data).net
    augment = one_by_one(source.shape[1:])
    train = Plain(source.train.take(data.splits["train"]), lambda image, y: (augment(image), y))
    test = Subset(data.test, range(0, len(data.test), max(1, len(data.test) // args.test)))
    found = {"train": train, "val": data.val, "test": test, "seed": args.seed}
    norm = {"mean": teacher.mean.flatten().tolist(), "std": teacher.std.flatten().tolist()}
    return teacher, student, found | norm


def row(net: nn.Module, teacher: BlockNet, method: str, epochs: int, data: dict[str, Any]) -> str:
    """The figures of a network that is trained by a method, in so many epochs in all."""
    each = epochs // STAGES if method == "stagewise" else epochs
    found = cls_kd.distill(net, teacher, method=method, epochs=each, **data).result
    cost = found["cost"]["student"]["macs"] / found["cost"]["teacher"]["macs"]
    score, seen = found["student_metrics"]["accuracy"], found["images_seen"]
    return f"{cost:.1%} | {method} | {score:.1%} | {seen:,} | {found['seconds']:.0f}"


def pruned(model: nn.Module, image: Tensor, share: float) -> nn.Module:
    """A copy without the channels of least magnitude of all layers, in a single step.

    Args:
        model: a network whose last linear layer gives the logits.
        image: as it takes them, (1, C, H, W).
        share: of its multiply-adds that is left, at most.
    """
    limit = share * macs(partial(model.eval(), image))

    def within(ratio: float) -> bool:
        return macs(partial(without(model, image, ratio), image)) <= limit

    return without(model, image, RATIOS[bisect_left(RATIOS, True, key=within)])


def without(model: nn.Module, image: Tensor, ratio: float) -> nn.Module:
    """A copy without that ratio of all channels."""
    copy, least = deepcopy(model).eval(), torch_pruning.importance.GroupMagnitudeImportance()
    last = [module for module in copy.modules() if isinstance(module, nn.Linear)][-1]
    options = {"global_pruning": True, "pruning_ratio": ratio, "ignored_layers": [last]}
    torch_pruning.pruner.BasePruner(copy, image, least, **options).step()
    return copy


if __name__ == "__main__":
    main()
