"""The page of a comparison: one HTML file that needs nothing else."""

import base64
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from stagewise_kd.comparison import paired, paper_tables
from stagewise_kd.comparison.runs import Run
from stagewise_kd.comparison.table import LEFT

Picture = NDArray[np.uint8]
CAPTIONS = {
    "curves": "What each stage is judged by on the validation split; a dot marks the epoch kept. A "
    "wide line has an equal one on top.",
    "graft": "The student's finished blocks inside the teacher, after each stage, before any stage "
    "learns from labels; on the validation split.",
    "fractions": "Test score against how much of the train split was used, mean and standard "
    "deviation over seeds; the teacher dashed.",
    "labels": "Test score against how many of the images brought their labels, mean and standard "
    "deviation over seeds; the teacher dashed.",
    "pareto": "Test score against cost, mean and standard deviation over seeds. No network costs "
    "less and scores more than one on the front, which leaves out the paper's protocol.",
    "seconds": "Test score against the seconds that the student's training took, on one device.",
    "classes": "Intersection over union of every class on the test split, percent.",
}


@dataclass(frozen=True)
class Exhibit:
    """One row of a gallery: the same image as several networks see it.

    Args:
        title: such as the file name and the mIoU.
        pictures: captions and pictures uint8 (H, W, 3), side by side.
        masks: for a tracker that shows masks over an image: names and classes (H, W).
        class_labels: names of the classes in the masks.
        image: what the masks lie over, uint8 (H, W, 3).
    """

    title: str
    pictures: Sequence[tuple[str, Picture]]
    masks: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    class_labels: Mapping[int, str] = field(default_factory=dict)
    image: Picture | None = None


def page(
    title: str,
    text: pd.DataFrame,
    figures: Mapping[str, str],
    gallery: Sequence[Exhibit],
    runs: Sequence[Run],
    bold: Collection[int],
    differences: pd.DataFrame | None,
    published: Mapping[str, pd.DataFrame],
    latencies: Sequence[str],
    no_gain: Sequence[str],
) -> str:
    """The text of the page.

    Args:
        title: its heading.
        text: the table, from `shown`.
        figures: names (such as "pareto", or "pareto-camvid") and SVG texts.
        gallery: in this order.
        runs: all that the table is made of.
        bold: numbers of the table's rows to stand out.
        differences: as text, from `paired.shown`; None: there are none.
        published: headings and tables, from `paper_tables.tables`.
        latencies: networks that were recorded with far other ones, from `latency.differing`.
        no_gain: where students are better from scratch, from `scratch.ahead`.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    exhibits = [
        (item.title, [(name, _picture_url(picture)) for name, picture in item.pictures])
        for item in gallery
    ]
    return environment.get_template("page.html.j2").render(
        title=title,
        table=text,
        left=LEFT,
        figures=[(*_caption(name), _url("svg+xml", svg.encode())) for name, svg in figures.items()],
        gallery=exhibits,
        runs=[{"path": run.path, **run.result} for run in runs],
        several_seeds=any(" ± " in cell for cell in text.to_numpy().flat),
        bold=bold,
        differences=differences,
        differences_note=paired.NOTE,
        published=published,
        latencies=latencies,
        no_gain=no_gain,
        ratios=any("×" in cell for cell in text["latency"]),
        published_note=paper_tables.NOTE,
        seen=any(run.result.get("val_may_be_seen") for run in runs),
        agreement="agreement" in {run.result["metric"] for run in runs},
        paper=any(run.result["protocol"] == "paper" for run in runs),
    )


def _caption(name: str) -> tuple[str, str]:
    """Data set that a figure is of, if it says one, and what the figure shows."""
    kind, _, dataset = name.partition("-")
    return dataset, CAPTIONS[kind]


def _picture_url(picture: Picture) -> str:
    """A picture of few colours, such as a mask, as PNG; a photograph as JPEG."""
    image = Image.fromarray(picture)
    form = "PNG" if image.getcolors(256) else "JPEG"
    file = BytesIO()
    image.save(file, form, quality=88)
    return _url(form.lower(), file.getvalue())


def _url(form: str, content: bytes) -> str:
    return f"data:image/{form};base64,{base64.b64encode(content).decode()}"
