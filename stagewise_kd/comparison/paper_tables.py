"""The published tables, with our figures in them."""

from collections.abc import Sequence

import pandas as pd

from stagewise_kd.comparison.table import markdown

NOTE = (
    "In percent; columns that are not ours are published. Ours: mean ± standard deviation over "
    "seeds, their number in parentheses. † marks the paper protocol, by which the published "
    "figures were chosen too: the best epoch on the split that is reported. Ours without it were "
    "chosen on held-out images. ‡ marks features that were learned all at once "
    "(schedule=concurrent), not one after the other. Only students of a ResNet34 that were trained "
    "as published otherwise count, with any number of epochs; those of all images saw the rest of "
    "them without labels. An empty cell was not measured or not published."
)
MEAN_IOUS = {  # columns by metric
    "val_miou_paper": "val miou_paper",
    "test_miou_paper": "test miou_paper",
    "test_miou": "test miou",
}


def tables(beside: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Headings and tables as text.

    Args:
        beside: from `paper.beside`.
    """
    found = {}
    for (dataset, fraction), rows in beside.groupby(["dataset", "data_fraction"], sort=False):
        heading = f"{dataset}, {100 * fraction:g}% of the data"
        if "accuracy" in set(rows["metric"]):
            found[f"{heading}: accuracy{_teacher(rows)}"] = _accuracy(rows)
        else:
            found[f"{heading}: mean IoU"] = _mean_iou(rows)
    for dataset, rows in beside[beside["data_fraction"].isna()].groupby("dataset"):
        found[f"{dataset}: cost of one image, published at 224×224"] = _cost(rows)
    return found


def markdown_of(beside: pd.DataFrame) -> str:
    """All tables in Markdown."""
    parts = ["# Beside the published figures", NOTE]
    for heading, text in tables(beside).items():
        parts += [f"## {heading}", markdown(text).rstrip()]
    return "\n\n".join(parts) + "\n"


def _accuracy(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a student; accuracy of each method, and how far stagewise is from its teacher."""
    rows = rows[rows["method"] != "teacher"]
    gaps = rows[rows["metric"] == "minus_teacher"]
    rows = pd.concat(
        [
            rows[rows["metric"] == "accuracy"].assign(column=lambda found: found["method"]),
            gaps.assign(column="stagewise − teacher"),
        ]
    )
    theirs = rows.assign(text=rows["published"].map(_percent))
    ours = rows.assign(text=_scores(rows), column=rows["column"] + ", ours")
    columns = [f"{name}{own}" for name in rows["column"].unique() for own in ("", ", ours")]
    return _wide(pd.concat([theirs, ours]), ["student"], columns)


def _mean_iou(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a student, method and decoder of ours, with the published figures of the former two."""
    rows = rows.assign(decoder=rows["decoder"].fillna(""), column=rows["metric"].map(MEAN_IOUS))
    rows["decoder"] += rows["all_images"].map(lambda more: ", all images" if more is True else "")
    theirs = rows.assign(text=rows["published"].map(_percent))
    ours = rows.assign(text=_scores(rows), column=rows["column"] + ", ours")
    names = list(MEAN_IOUS.values())
    wide = _wide(theirs, ["student", "method"], names).merge(
        _wide(ours, ["student", "method", "decoder"], [f"{name}, ours" for name in names]), "outer"
    )
    order = [f"{name}{own}" for name in names for own in ("", ", ours")]
    wide = _filled(wide, ["student", "method", "decoder", *order])
    return wide.loc[:, (wide != "").any()]


def _cost(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a network: multiply-adds and parameters in millions, and their share of the teacher."""
    parts, columns = [], []
    for metric, title in (("macs", "MACs"), ("params", "params")):
        own = rows[rows["metric"] == metric]
        sizes = list(own["settings"].dropna().unique())
        parts.append(_shares(own.drop_duplicates(["student"]), "published", title))
        columns.append(title)
        for size in sizes:
            name = f"{title}, ours, {size}"
            parts.append(_shares(own[own["settings"] == size], "ours", name))
            columns.append(name)
    return _wide(pd.concat(parts), ["student"], columns)


def _shares(rows: pd.DataFrame, source: str, column: str) -> pd.DataFrame:
    teacher = rows[rows["student"] == "resnet34"][source].mean()
    share = rows[source].map(
        lambda cost: (
            f"{cost / 1e6:.4g} M" + (f" ({cost / teacher:.1%})" if pd.notna(teacher) else "")
        )
    )
    return rows.assign(text=share, column=column)


def _teacher(rows: pd.DataFrame) -> str:
    teacher = rows[(rows["method"] == "teacher") & (rows["metric"] == "accuracy")]
    published = _percent(teacher["published"].iloc[0])
    ours = " or ".join(_percent(score) for score in teacher["ours"].dropna().unique())
    return f"; teacher {published} published, {ours} ours" if ours else f"; teacher {published}"


def _scores(rows: pd.DataFrame) -> "pd.Series[str]":
    """Our score of each row, with its settings where several share a cell; empty where none."""
    cells = ["student", "method", "metric", "decoder", "all_images"]
    shared = rows.groupby(cells, dropna=False)["ours"].transform("size") > 1
    return rows.assign(shared=shared).apply(_score, axis=1)


def _score(row: "pd.Series[float]") -> str:
    if pd.isna(row["ours"]):
        return ""
    text = _percent(row["ours"])
    text += f" ± {100 * row['ours_std']:.2f}" if pd.notna(row["ours_std"]) else ""
    text += f" ({row['seeds']:g})" if pd.notna(row["seeds"]) else ""
    text += "†" if row["protocol"] == "paper" else ""
    text += "‡" if row["schedule"] == "concurrent" else ""
    told = row["shared"] and pd.notna(row["settings"]) and row["settings"]
    return f"{text}, {row['settings']}" if told else text


def _percent(score: float) -> str:
    return "" if pd.isna(score) else f"{100 * score:.2f}"


def _wide(rows: pd.DataFrame, index: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    """Texts by row and column; several texts of one cell one after the other."""
    rows = rows[rows["text"] != ""].drop_duplicates([*index, "column", "text"])
    wide = rows.pivot_table("text", list(index), "column", aggfunc="; ".join)
    return _filled(wide, columns).reset_index().rename_axis(columns=None)


def _filled(texts: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    return texts.reindex(columns=list(columns)).astype(object).fillna("")
