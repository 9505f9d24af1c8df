"""Whether an exported network is the one that it was made of, as real images tell."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stagewise_kd.data.batches import unit_images
from stagewise_kd.data.loaders import eval_loader
from stagewise_kd.methods.losses import two_or_more
from stagewise_kd.system.errors import UserError

TOLERANCE = 1e-4  # of the largest logit, or of 1 where all are smaller
Predict = Callable[[Tensor], Tensor]  # images in [0, 1] to logits or classes


@dataclass(frozen=True)
class Proof:
    """How far an exported network is from its original.

    Args:
        images: how many both saw.
        difference: the largest of two logits; of classes how much less than the largest logit that
            of the class is, at most.
        scale: the largest logit, or 1 where all are smaller.
        agreement: share of images, or pixels, for which both choose the same class.
    """

    images: int
    difference: float
    scale: float
    agreement: float

    @property
    def holds(self) -> bool:
        """Whether float32 may differ as much, where sums are taken in another order."""
        return self.difference <= TOLERANCE * self.scale

    def __str__(self) -> str:
        return (
            f"largest difference {self.difference:.2g} of logits up to {self.scale:.3g}, "
            f"the same class for {self.agreement:.4%}, over {self.images} images"
        )


@torch.no_grad()
def prove(original: Predict, exported: Predict, batches: Iterable[Tensor], argmax: bool) -> Proof:
    """Hold an exported network against its original.

    Args:
        original: gives logits.
        exported: gives logits, or with `argmax` classes.
        batches: of images in [0, 1].
        argmax: see there.
    """
    count, difference, scale, same, places = 0, 0.0, 1.0, 0, 0
    for images in batches:
        logits, found = two_or_more(original(images)).float(), exported(images)
        best, classes = logits.max(dim=1)
        if argmax:
            apart, chosen = best - logits.gather(1, found[:, None])[:, 0], found
        else:
            found = two_or_more(found)
            apart, chosen = (logits - found).abs(), found.argmax(dim=1)
        # max() of Python would drop what is no number
        difference = float(torch.tensor([difference, apart.max().item()]).max())
        scale = max(scale, logits.abs().max().item())
        same += int((chosen == classes).sum())
        places += classes.numel()
        count += len(images)
    return Proof(count, difference, scale, same / max(places, 1))


def check(proof: Proof, what: str) -> Proof:
    """Raise a `UserError` where an exported network is another than its original."""
    if not proof.holds:
        raise UserError(
            f"{what}: does not compute what the student computes: {proof}; expected a difference "
            f"of {TOLERANCE:g} of the largest logit or less; nothing was written, try another "
            "--format or --opset"
        )
    return proof


def some(dataset: Any, count: int, batch: int = 16) -> Iterator[Tensor]:
    """Images of a split in [0, 1], spread over it, in batches; the first one alone too.

    Args:
        dataset: the split.
        count: the most images that are taken.
        batch: images in a batch.
    """
    step = -(-len(dataset) // count)
    for number, found in enumerate(eval_loader(dataset, batch, 0, step=step)):
        images = unit_images(found.image).contiguous()
        if number == 0:
            yield images[:1]
            images = images[1:]
        if len(images):
            yield images
