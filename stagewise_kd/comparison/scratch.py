"""Where the student does no better with the teacher than from scratch."""

from collections.abc import Iterator, Sequence

import numpy as np

from stagewise_kd.comparison.paired import interval, paired, peers, scores
from stagewise_kd.comparison.runs import Group, direction, main_metric

ADVICE = (
    "This teacher knows no more than the labels tell: train from scratch, take a better teacher "
    "(of more images, or fit to these), or give the student images without labels."
)


def ahead(groups: Sequence[Group]) -> list[str]:
    """A line for each student that is better from scratch than with any method that has a teacher.

    Only groups of the same data, labels, student and protocol are held against each other, and only
    students that learn from labels; a lead within the noise of the seeds is none.

    Args:
        groups: from `told_apart`.
    """
    return [line for alike in peers(groups) for line in _ahead(alike)]


def _ahead(alike: Sequence[Group]) -> Iterator[str]:
    sign = direction(alike[0].runs[0].result)

    def best(found: Sequence[Group]) -> Group:
        return max(found, key=lambda group: sign * _mean(group))

    alone = [g for g in alike if not g.runs[0].has_teacher and _is_from_scratch(g)]
    taught = [group for group in alike if group.runs[0].has_teacher and _sees_labels(group)]
    if not alone or not taught:
        return
    first, second = best(alone), best(taught)
    bounds = interval(sign * paired(first, second))
    lead = sign * (_mean(first) - _mean(second))
    if lead > 0 and (bounds is None or bounds[0] > 0):
        yield _line(first, second)


def _is_from_scratch(group: Group) -> bool:
    return group.chosen.get("student.init", "random") == "random"


def _line(alone: Group, taught: Group) -> str:
    part = alone["data_fraction"]
    data = alone["dataset"] + (f" ({100 * part:.4g}% of it)" if part != 1 else "")
    seeds = min(len(scores(alone)), len(scores(taught)))
    noise = f" ({seeds} seed{'s' * (seeds > 1)}: a hint, no more)" if seeds < 3 else ""
    return (
        f"{data}: {alone['student']} reaches {main_metric(alone.runs[0].result)} "
        f"{_mean(alone):.4f} from scratch ({alone.name}), and at most {_mean(taught):.4f} with the "
        f"teacher ({taught.name}){noise}. {ADVICE}"
    )


def _mean(group: Group) -> float:
    return float(np.mean([*scores(group).values()]))


def _sees_labels(group: Group) -> bool:
    chosen = group.chosen
    kept = chosen.get("method.head") == "teacher" or chosen.get("decoder.train") is False
    tuned = bool(chosen.get("method.finetune_epochs")) and chosen.get("method.finetune") != "logits"
    return not kept or tuned
