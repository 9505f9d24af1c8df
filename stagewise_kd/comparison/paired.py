"""Methods against each other, seed by seed, so that what a seed does to both cancels out."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stagewise_kd.comparison.runs import Group, direction, main_metric
from stagewise_kd.comparison.settings import AS_DESCRIBED, INIT, Settings, agree

RESAMPLES = 10_000
FEWEST = 3  # pairs for an interval; two say nothing about how far a third would lie
SETTING = ("data", "student", "model", "eval")  # what runs must share to be held side by side
NOTE = (
    "Method less the one it is held against, mean over the seeds that both have been run with; the "
    "interval is a bootstrap over these pairs, too narrow rather than too wide where they are few. "
    "Images seen are those of the training, on average over seeds."
)
COLUMNS = ["dataset", "data_fraction", "student", "protocol", "method", "against", "metric"]
COLUMNS += ["difference", "low", "high", "pairs", "images_seen", "images_seen_against"]


def differences(groups: Sequence[Group]) -> pd.DataFrame:
    """Every method less stagewise distillation, paired by seed.

    Only groups of the same data, labels, student and protocol are held against each other. The
    reference is stagewise distillation as the paper describes it, or any where there is none; of
    several, those with the method's own decoder that differ in the fewest other settings. Another
    decoder of the reference itself is held against its default one.

    Args:
        groups: from `told_apart`.

    Returns:
        Columns: those that name the pair, difference (mean over paired seeds), low and high (of
        its 95 % interval, from `interval`; empty with fewer than 3 pairs), pairs, and the mean
        number of images that each of the two has seen.
    """
    rows = [
        _row(group, reference)
        for alike in peers(groups)
        for group in alike
        for reference in _references(group, alike)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def peers(groups: Sequence[Group]) -> list[list[Group]]:
    """Groups of the same data, labels, student and protocol.

    Students of random weights and those that start with their teacher's are peers: to start so is
    what having a teacher means. Further weights that a student starts with are its own.
    """
    found: dict[str, list[Group]] = {}
    for group in groups:
        facts = [group[fact] for fact in ("dataset", "data_fraction", "student", "protocol")]
        setting = {k: v for k, v in group.chosen.items() if k.split(".")[0] in SETTING}
        if setting.get("student.init") in INIT.values():
            del setting["student.init"]
        found.setdefault(repr((facts, sorted(setting.items()))), []).append(group)
    return list(found.values())


def clear_winners(groups: Sequence[Group]) -> set[str]:
    """Names of the groups that are the best of their peers beyond the noise.

    Such a group has at least one peer, and its interval against each one lies above 0.
    """
    found = set()
    for alike in peers(groups):
        sign = direction(alike[0].runs[0].result)
        best = max(alike, key=lambda group: sign * np.mean([*scores(group).values()]))
        bounds = [interval(sign * paired(best, group)) for group in alike if group is not best]
        if bounds and all(pair is not None and pair[0] > 0 for pair in bounds):
            found.add(best.name)
    return found


def scores(group: Group) -> dict[int, float]:
    """Main metric by seed; of a seed run twice the mean."""
    metric = main_metric(group.runs[0].result)
    found: dict[int, list[float]] = {}
    for run in group.runs:
        found.setdefault(run.result["seed"], []).append(run.result["student_metrics"][metric])
    return {seed: float(np.mean(scores)) for seed, scores in found.items()}


def paired(group: Group, other: Group) -> NDArray[np.float64]:
    """Main metric of a group less that of another, for each seed that both have."""
    ours, theirs = scores(group), scores(other)
    return np.array([ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())])


def interval(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """95 % bootstrap percentile interval of a mean; None with fewer than 3 values."""
    if len(values) < FEWEST:
        return None
    drawn = np.random.default_rng(0).choice(values, (RESAMPLES, len(values)))
    low, high = np.percentile(drawn.mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The differences as text, without columns that say nothing.

    Args:
        table: from `differences`.
    """
    fraction = table["data_fraction"].map(lambda value: f"{100 * value:.4g}%")
    columns = {
        "dataset": table["dataset"] if table["dataset"].nunique() > 1 else None,
        "data": fraction if (table["data_fraction"] != 1).any() else None,
        "network": table["student"],
        "method": table["method"],
        "against": table["against"],
        f"difference in {table['metric'].iloc[0]}": table["difference"].map(_signed),
        "95 % interval": table.apply(_bounds, axis=1),
        "pairs": table["pairs"].astype(str),
        "images seen": table["images_seen"].map("{:,.0f}".format),
        "seen by the other": table["images_seen_against"].map("{:,.0f}".format),
    }
    return pd.DataFrame({name: column for name, column in columns.items() if column is not None})


def _references(group: Group, peers: Sequence[Group]) -> list[Group]:
    """What a group is held against; nothing where it is the reference itself."""
    stagewise = [peer for peer in peers if peer["reference"]]
    described = [peer for peer in stagewise if agree(peer.chosen, AS_DESCRIBED)] or stagewise
    decoder = group["decoder"]
    if group in described:
        decoder = min((peer["decoder"] for peer in described), key=_default_first, default=None)
        if decoder == group["decoder"]:
            return []
    found = [peer for peer in described if peer["decoder"] == decoder]
    distances = [_distance(group.settings, peer.settings) for peer in found]
    return [peer for peer, far in zip(found, distances, strict=True) if far == min(distances)]


def _default_first(decoder: str | None) -> tuple[bool, str]:
    return decoder != "default", decoder or ""


def _distance(one: Settings, other: Settings) -> int:
    """How many settings two groups do not share, beside the methods' own."""
    return len({name for name, _ in one.items() ^ other.items()})


def _row(group: Group, reference: Group) -> dict[str, object]:
    values = paired(group, reference)
    low, high = interval(values) or (None, None)
    return {
        **{fact: group[fact] for fact in COLUMNS[:4]},
        "method": _label(group),
        "against": _label(reference),
        "metric": main_metric(group.runs[0].result),
        "difference": values.mean() if len(values) else None,
        "low": low,
        "high": high,
        "pairs": len(values),
        "images_seen": np.mean([run.result["images_seen"] for run in group.runs]),
        "images_seen_against": np.mean([run.result["images_seen"] for run in reference.runs]),
    }


def _label(group: Group) -> str:
    settings = {"decoder": group["decoder"]} if group["decoder"] else {}
    told = (f"{name}={value}" for name, value in (settings | group.settings).items())
    return ", ".join([group["method"], *told])


def _signed(value: float) -> str:
    return "" if pd.isna(value) else f"{value:+.4f}"


def _bounds(row: "pd.Series[float]") -> str:
    if pd.isna(row["low"]):
        return f"fewer than {FEWEST} pairs"
    return f"{_signed(row['low'])} to {_signed(row['high'])}"
