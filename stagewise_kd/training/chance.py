"""Whether a trained teacher does better than chance on the data at hand."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stagewise_kd.data.batches import unit_images
from stagewise_kd.data.loaders import eval_loader
from stagewise_kd.methods.losses import two_or_more
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.system.precision import autocast
from stagewise_kd.training.setup import Setup

MOST = 500  # images that are looked at, spread evenly over the split
SLIGHT = 0.2  # Cohen's kappa, below which agreement is slight (Landis & Koch 1977)
ONE_SIDED = 1.645  # standard errors of a 95 % bound


@dataclass(frozen=True)
class Standing:
    """How often a network is right, and would be by chance.

    Args:
        images: how many were looked at.
        right: share of them, or of their pixels, that it gives its label.
        upper: where that may lie on all such images: a 95 % bound.
        chance: the share that would be right if its answers had nothing to do with the images,
            however often it gives each; one in the number of classes at least.
    """

    images: int
    right: float
    upper: float
    chance: float

    @property
    def wanted(self) -> float:
        """Twice chance; with few classes, or one that most images are of, a kappa of 0.2."""
        return min(2 * self.chance, self.chance + SLIGHT * (1 - self.chance))

    @property
    def doubtful(self) -> bool:
        """Less is right than wanted."""
        return self.right < self.wanted

    @property
    def hopeless(self) -> bool:
        """Less is right than wanted, and that is no accident of few images."""
        return self.doubtful and self.upper < self.wanted


def standing(net: BlockNet, setup: Setup) -> Standing | None:
    """The standing of a network on the validation split; None where labels are no classes."""
    net.to(setup.device).eval()
    shares: list[Tensor] = []
    counts: list[Tensor] = []
    step = math.ceil(len(setup.data.val) / MOST)  # type: ignore[arg-type]
    with torch.no_grad(), autocast(setup.fitting.precision, setup.device):
        for batch in eval_loader(setup.data.val, setup.at_once, setup.fitting.workers, step=step):
            logits = two_or_more(net(unit_images(batch.image.to(setup.device))))
            chosen, labels = logits.argmax(dim=1).cpu(), batch.labels
            if labels.shape != chosen.shape or labels.is_floating_point():
                return None
            classes = logits.shape[1]
            told = (labels >= 0) & (labels < classes)  # others are pixels without a label
            there = told.reshape(len(told), -1).sum(1)
            right = ((chosen == labels) & told).reshape(len(told), -1).sum(1)
            shares.append((right / there)[there > 0])
            both = (labels[told].long(), chosen[told])
            counts.append(torch.stack([torch.bincount(some, minlength=classes) for some in both]))
    return _judged(torch.cat(shares).double(), torch.stack(counts).sum(0).double())


def _judged(shares: Tensor, counts: Tensor) -> Standing | None:
    """A standing from the share that is right of each image, and counts of labels and answers."""
    if not len(shares):
        return None
    labels, answers = counts / counts.sum(1, keepdim=True)
    # Two images wholly right and two wholly wrong in addition (Agresti & Coull 1998).
    more = torch.cat([shares, shares.new_tensor([0, 0, 1, 1])])
    error = more.std(correction=0) / math.sqrt(len(more))
    return Standing(
        len(shares),
        shares.mean().item(),
        (more.mean() + ONE_SIDED * error).item(),
        max(1 / counts.shape[1], (labels * answers).sum().item()),
    )
