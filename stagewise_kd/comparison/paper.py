"""Our figures beside the published ones; published/SOURCE.md names the source."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from stagewise_kd.comparison.runs import Group, Run
from stagewise_kd.comparison.settings import AS_DESCRIBED, Settings, agree

TEACHER = "resnet34"
# of any schedule, which the tables mark
WANTED: Settings = {
    name: value for name, value in AS_DESCRIBED.items() if name != "method.schedule"
}
WANTED |= {"student.width": 1.0, "student.head": "published", "data.unlabelled": None}
KEYS = ["dataset", "data_fraction", "student", "method", "metric"]
COLUMNS = [*KEYS, "published", "ours", "ours_std", "seeds", "protocol"]
COLUMNS += ["decoder", "all_images", "settings", "schedule"]
COSTS = ("macs", "params")


def beside(groups: Sequence[Group]) -> pd.DataFrame:
    """Published figures and ours, of the data sets and fractions that both have.

    Args:
        groups: from `told_apart`.

    Returns:
        Columns: dataset, data_fraction (empty for costs), student, method, metric, published,
        ours (mean over seeds), ours_std, seeds, protocol, decoder, all_images (whether the images
        beyond the fraction were used without labels), settings, schedule. Scores are in [0, 1],
        costs are for one image, with its size under settings. A row without a published or
        without an own figure is half empty.
    """
    own = [row for group in groups if _as_published(group) for row in _our_rows(group)]
    ours = pd.DataFrame(own, columns=COLUMNS).drop(columns="published").drop_duplicates()
    theirs = _their_scores()
    known = set(theirs["dataset"]) & set(ours[ours["metric"] == "accuracy"]["dataset"])
    theirs = pd.concat([theirs, *(_their_costs(dataset) for dataset in sorted(known))])
    for keys in (["dataset", "data_fraction", "student"], ["dataset", "method"]):
        ours = ours.merge(theirs[keys].drop_duplicates())
    shared = ours[ours["method"] != "teacher"][["dataset", "data_fraction"]].drop_duplicates()
    table = theirs.merge(ours, "outer", on=KEYS).merge(shared)
    return table[COLUMNS].astype({"seeds": "Int64"})


def _their_scores() -> pd.DataFrame:
    accuracy = _read("accuracy")
    gap = accuracy["accuracy"] - accuracy["teacher_accuracy"]
    accuracy["minus_teacher"] = gap.where(accuracy["method"] == "stagewise")
    columns = {"teacher": "student", "teacher_accuracy": "accuracy"}
    teachers = accuracy[["dataset", "data_fraction", *columns]].drop_duplicates()
    camvid = pd.concat([_read("camvid"), _read("camvid_fractions")]).assign(dataset="camvid")
    scores = pd.concat(
        [
            accuracy.drop(columns=[*columns]),
            teachers.rename(columns=columns).assign(method="teacher"),
            camvid.rename(columns={"encoder": "student"}),
        ]
    ).melt(KEYS[:4], var_name="metric", value_name="published")
    return scores.dropna().assign(published=scores["published"] / 100)


def _their_costs(dataset: str) -> pd.DataFrame:
    """Costs of the classifiers, which are those of an image, whatever the data set."""
    columns = {"model": "student", "macs_millions": "macs", "params_millions": "params"}
    costs = _read("cost").rename(columns=columns).assign(dataset=dataset, method="")
    costs = costs.melt(["dataset", "student", "method"], var_name="metric", value_name="published")
    return costs.assign(published=1e6 * costs["published"], data_fraction=float("nan"))


def _read(name: str) -> pd.DataFrame:
    return pd.read_csv(Path(__file__).parent / "published" / f"{name}.csv")


def _as_published(group: Group) -> bool:
    run = group.runs[0]
    teacher = not run.has_teacher or run.result["teacher"] == TEACHER
    return teacher and agree(group.chosen, WANTED)


def _our_rows(group: Group) -> Iterator[dict[str, Any]]:
    run = group.runs[0]
    labels = (run.config.get("data") or {}).get("label_fraction", 1.0)
    facts = {
        **{key: group[key] for key in ("student", "method", "protocol", "decoder")},
        "dataset": group.chosen["data.name"],
        "data_fraction": round(group["data_fraction"] * labels, 6),
        "all_images": labels < 1 and run.has_teacher,  # others learn from labels alone
        "settings": ", ".join(f"{name}={value}" for name, value in group.settings.items()),
        "schedule": group.chosen.get("method.schedule"),
    }
    for row in _scores(group.runs, _student_scores):
        yield facts | row
    if run.has_teacher:
        for row in _scores(group.runs[:1], _teacher_scores):
            place = {key: facts[key] for key in ("dataset", "data_fraction")}
            score = {"metric": row["metric"], "ours": round(row["ours"], 3)}
            yield place | score | {"method": "teacher", "student": TEACHER}
    yield from _cost_rows(run, {"dataset": facts["dataset"], "method": ""})


def _cost_rows(run: Run, facts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    facts |= {"settings": f"size={(run.config.get('data') or {}).get('size')}"}
    networks = {"student": run.result["student"]}
    networks |= {"teacher": TEACHER} if run.has_teacher else {}
    for role, network in networks.items():
        for metric in COSTS:
            cost = float(run.result["cost"][role][metric])
            yield facts | {"student": network, "metric": metric, "ours": cost}


def _scores(runs: Sequence[Run], of: Callable[[Run], dict[str, float]]) -> Iterator[dict[str, Any]]:
    frame = pd.DataFrame([{"seed": run.result["seed"], **of(run)} for run in runs])
    for metric, scores in frame.groupby("seed").mean().items():
        mean, std = scores.mean(), scores.std()
        yield {"metric": metric, "ours": mean, "ours_std": std, "seeds": scores.count()}


def _student_scores(run: Run) -> dict[str, float]:
    scores, teacher = run.result["student_metrics"], run.result["teacher_metrics"]
    if run.result["task"] == "segmentation":
        return _mean_ious(scores) | _val_score(run)
    found = {"accuracy": scores["accuracy"]}
    if run.result["method"] == "stagewise":
        found["minus_teacher"] = scores["accuracy"] - teacher["accuracy"]
    return found


def _teacher_scores(run: Run) -> dict[str, float]:
    scores = run.result["teacher_metrics"]
    if run.result["task"] == "segmentation":
        return _mean_ious(scores)
    return {"accuracy": scores["accuracy"]}


def _mean_ious(scores: dict[str, float]) -> dict[str, float]:
    return {"test_miou_paper": scores["miou_paper"], "test_miou": scores["miou"]}


def _val_score(run: Run) -> dict[str, float]:
    """Of the epoch that the last stage kept: the student's own on the validation split."""
    stage, rows = run.result["stages"][-1], run.metrics
    if rows.empty:
        return {}
    rows = rows[(rows["stage"] == stage["name"]) & (rows["name"] == "val/miou_paper")]
    values = rows[rows["epoch"] == stage["best"]["epoch"]]["value"]
    return {} if values.empty else {"val_miou_paper": float(values.iloc[-1])}
