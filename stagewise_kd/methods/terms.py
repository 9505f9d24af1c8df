"""A term of a stage from the features of both networks to its value."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from stagewise_kd.methods.plan import Term
from stagewise_kd.networks.blocks import BlockNet


def behind(term: Term, place: int = 0) -> str:
    """Name of the adapter from the student's feature to the teacher's; modules have no dots.

    Args:
        term: of a stage.
        place: of the feature among several.
    """
    several = len(term.ours) > 1 and isinstance(term.adapter, str)
    return f"{term.name} {term.ours[place]}".replace(".", "/") if several else plain(term.name)


def plain(name: str) -> str:
    """A name without dots."""
    return name.replace(".", "/")


def loss_of(
    term: Term,
    features: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    labels: Tensor | None,
    adapters: nn.ModuleDict,
    teacher: BlockNet | None,
) -> Tensor:
    """The value of a term, not weighted.

    Args:
        term: of a stage.
        features: the student's.
        targets: the teacher's, no gradient.
        labels: of the batch.
        adapters: of the stage.
        teacher: goes on from the student's features where the term says so.

    Raises:
        ValueError: the loss cannot take features of these shapes.
    """
    ours: Any = _adapted(term, [features[name] for name in term.ours], adapters)
    alone = isinstance(term.student, str) and not callable(term.adapter)
    if term.through is not None and teacher is not None:
        given = {name: targets[name] for name in term.beside(teacher)}
        given |= {name: stands for (_, name), stands in zip(term.pairs, ours, strict=True)}
        made = teacher.features(given, {*term.theirs})
        ours, alone = tuple(made[name] for name in term.theirs), isinstance(term.teacher, str)
    ours = ours[0] if alone else ours
    if term.teacher is None:
        return term.loss(ours, labels)
    theirs = tuple(targets[name] for name in term.theirs)
    against = theirs[0] if isinstance(term.teacher, str) else theirs
    return term.loss(ours, against, *([labels] if term.labels else []))


def _adapted(term: Term, features: list[Tensor], adapters: nn.ModuleDict) -> Any:
    """The student's features behind their adapters, or what the term's own module makes of them."""
    if callable(term.adapter):
        return adapters[behind(term)](*features)
    names = [behind(term, place) for place in range(len(features))]
    return tuple(
        adapters[name](feature) if name in adapters else feature
        for name, feature in zip(names, features, strict=True)
    )
