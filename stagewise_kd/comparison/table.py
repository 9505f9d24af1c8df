"""One row a group of runs, and their teachers: figures in full, and as a reader wants them."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from stagewise_kd.comparison.latency import least
from stagewise_kd.comparison.runs import Group, Run, main_metric

# columns of words, not figures
LEFT = {"dataset", "network", "student", "decoder", "method", "against", "device"} | {
    *("block", "modules", "learns from", "teacher's block", "teacher's modules"),
}
MIXED = "several"
COSTS = ("params", "macs", "latency_ms")
TIMES = ("latency_ms", "latency_ratio", "seconds")
BUDGET = ("epochs", "seconds", "images_seen")
FIRST = ["dataset", "data_fraction", "network", "method", "decoder", "settings", "protocol"]


def summary(groups: Sequence[Group]) -> pd.DataFrame:
    """Means over the seeds of every group, teachers first.

    Args:
        groups: from `told_apart`.

    Returns:
        Columns: dataset, data_fraction, network, method ("teacher" for a teacher), decoder,
        settings, protocol, seeds, the main metric and its standard deviation over seeds ("…_std",
        empty for one seed), share_of_teacher, params, macs, latency_ms (the least recorded of equal
        networks), latency_ratio (to the teacher's, measured in turns), epochs (over all stages),
        seconds, images_seen, device, name (of the group), every other test metric, and shipped_ms
        where a student was exported: the latency of that file. Latency
        and seconds are empty where the runs of a group were measured on different devices.
    """
    groups, metric = least(groups), main_metric(groups[0].runs[0].result)
    teachers = _teachers(groups, metric)
    rows = [*teachers, *(_student_row(group, metric, teachers) for group in groups)]
    measured = [metric, f"{metric}_std", "share_of_teacher", *COSTS, "latency_ratio", *BUDGET]
    table = pd.DataFrame(rows).convert_dtypes()
    table = table.reindex(columns=list(dict.fromkeys([*FIRST, "seeds", *measured, *table])))
    return table.sort_values("dataset", kind="stable", ignore_index=True)


def _teachers(groups: Sequence[Group], metric: str) -> list[dict[str, Any]]:
    """A row for each teacher: the same one scored on the same data is one row."""
    rows: dict[Any, dict[str, Any]] = {}
    for run in (run for group in groups for run in group.runs):
        result, scores = run.result, run.result["teacher_metrics"]
        if scores:
            key = (result["dataset"], result["teacher"], run.teacher_hash, round(scores[metric], 3))
            rows.setdefault(
                key,
                {
                    "dataset": result["dataset"],
                    "network": result["teacher"],
                    "method": "teacher",
                    "name": f"teacher {result['teacher']}",
                    **scores,
                    **_cost(run, "teacher"),
                },
            )
    return list(rows.values())


def _student_row(group: Group, metric: str, teachers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    frame = pd.DataFrame([_measured(run, metric, teachers) for run in group.runs])
    devices = frame.pop("device").unique()
    seeds = frame.astype(float).groupby("seed").mean()
    row = {
        "dataset": group["dataset"],
        "data_fraction": group["data_fraction"],
        "network": group["student"],
        "method": group["method"],
        "decoder": group["decoder"],
        "settings": ", ".join(f"{name}={value}" for name, value in group.settings.items()),
        "protocol": group["protocol"],
        "name": group.name,
        "seeds": len(seeds),
        f"{metric}_std": seeds[metric].std(),
        "device": devices[0] if len(devices) == 1 else MIXED,
        **seeds.mean(),
    }
    return row if len(devices) == 1 else row | dict.fromkeys(TIMES)


def _measured(run: Run, metric: str, teachers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figures of one run; without an own teacher it is held against the data set's only one."""
    result = run.result
    found = [row[metric] for row in teachers if row["dataset"] == result["dataset"]]
    own = (result["teacher_metrics"] or {}).get(metric, found[0] if len(found) == 1 else None)
    score = result["student_metrics"][metric]
    return {
        **result["student_metrics"],
        **_cost(run, "student"),
        "latency_ratio": result["cost"].get("latency_ratio"),
        "share_of_teacher": score / own if own else float("nan"),
        "epochs": sum(stage["epochs"] for stage in result["stages"]),
        "seconds": result["seconds"],
        "images_seen": result["images_seen"],
        "seed": result["seed"],
        **_shipped(result),
    }


def _shipped(result: dict[str, Any]) -> dict[str, float]:
    """The latency of the file that was exported last, where one was."""
    shipped = result["cost"].get("shipped")
    return {"shipped_ms": shipped["latency_ms"]} if shipped else {}


def _cost(run: Run, network: str) -> dict[str, Any]:
    cost = run.result["cost"]
    return {name: cost[network][name] for name in COSTS} | {"device": cost["device"]}


def shown(table: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """The table as text: rounded, with units, without columns that say nothing.

    Args:
        table: from `summary`.
        metrics: those to show, the main one first.
    """
    students = table[table["method"] != "teacher"]
    columns = {
        "dataset": table["dataset"] if table["dataset"].nunique() > 1 else None,
        "data": _text(table["data_fraction"], "{:.4g}%", 100)
        if (students["data_fraction"] != 1).any()
        else None,
        "network": table["network"],
        "decoder": table["decoder"].fillna("") if table["decoder"].notna().any() else None,
        "method": table.apply(_label, axis=1),
        **{f"test {metric}": _score(table, metric) for metric in metrics},
        "seeds": _text(table["seeds"], "{:.0f}"),
        "of teacher": _text(table["share_of_teacher"], "{:.1%}"),
        "params": _text(table["params"], "{:.2f} M", 1e-6),
        "MACs": _text(table["macs"], "{:.2f} G", 1e-9)
        if table["macs"].max() >= 1e9
        else _text(table["macs"], "{:.1f} M", 1e-6),
        "latency": _text(table["latency_ms"], "{:.2f} ms")
        + _text(table["latency_ratio"], " ({:.2f}×)"),
        "as shipped": _text(table["shipped_ms"], "{:.2f} ms") if "shipped_ms" in table else None,
        "epochs": _text(table["epochs"], "{:g}"),
        "seconds": _text(table["seconds"], "{:,.0f}"),
        "images seen": _text(table["images_seen"], "{:,.0f}"),
        "device": table["device"] if table["device"].nunique() > 1 else None,
    }
    return pd.DataFrame({name: column for name, column in columns.items() if column is not None})


def _score(table: pd.DataFrame, metric: str) -> "pd.Series[Any]":
    """A figure, with its deviation over seeds where there is one."""
    text = _text(table[metric], "{:.4f}")
    spread = f"{metric}_std"
    return text + _text(table[spread], " ± {:.4f}") if spread in table else text


def _text(column: "pd.Series[Any]", form: str, scale: float = 1) -> "pd.Series[Any]":
    return column.map(lambda v: "" if pd.isna(v) else form.format(v * scale))


def _label(row: "pd.Series[Any]") -> str:
    """Method, what tells it from the other rows, and a mark where the protocol is the paper's."""
    parts = [row["method"], *([row["settings"]] if pd.notna(row["settings"]) else [])]
    paper = pd.notna(row["protocol"]) and row["protocol"] == "paper"
    return ", ".join(part for part in parts if part) + (" (paper protocol)" if paper else "")


def markdown(text: pd.DataFrame) -> str:
    """A table of texts in Markdown, numbers to the right."""
    ruler = [":--" if name in LEFT else "--:" for name in text]
    rows = [list(text), ruler, *text.values.tolist()]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"
