"""The model card of a student: README.md of its folder, as Hugging Face reads it."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2

from stagewise_kd.data.image_files import sides
from stagewise_kd.data.preparing import MODES, STRIDE, covered
from stagewise_kd.export.opening import opening
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.files import read_json, write_text

MOST = 200  # classes that are listed
KINDS = {"classification": "image-classification", "segmentation": "image-segmentation"}
ORDERS = {"L": "grey", "RGB": "red, green, blue", "RGBA": "red, green, blue, alpha"}
COSTS = {"params": "parameters", "macs": "multiply-adds", "latency_ms": "latency, ms"}
Row = list[str]


def write_card(run: Path, result: dict[str, Any] | None = None) -> None:
    """Write student/README.md of a run folder from the files in it.

    Args:
        run: the run folder.
        result: the content of result.json, where that is not written yet.

    Raises:
        UserError: there is no finished student.
    """
    described = read_json(run / "student" / "network.json")
    result = read_json(run / "result.json") if result is None else result
    if described is None or result is None:
        raise UserError(f"{run}: holds no finished student; give the folder of a finished run")
    manifest = read_json(run / "manifest.json") or {}
    write_text(run / "student" / "README.md", card(described, result, manifest))


def card(described: dict[str, Any], result: dict[str, Any], manifest: dict[str, Any]) -> str:
    """The text of a card; what is not known is left out of it.

    Args:
        described: the content of network.json.
        result: of result.json.
        manifest: of manifest.json.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # Markdown, not HTML
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.ChainableUndefined,
    )
    environment.filters |= FILTERS
    given = _input(described) | _figures(result)
    text = environment.get_template("card.md.j2").render(
        described=described,
        result=result,
        opening=opening(described),
        kind=KINDS.get(described.get("task", "")),
        title=_title(described, result),
        taught=result.get("teacher") and result.get("needs_teacher", True),
        split="val" if result.get("protocol") == "val" else "test",
        version=manifest.get("versions", {}).get("stagewise-kd"),
        samples=manifest.get("samples"),
        most=MOST,
        **given,
    )
    return re.sub(r"\n{3,}", "\n\n", text)


def _title(described: dict[str, Any], result: dict[str, Any]) -> str:
    name = result.get("student") or described["network"].get("name") or "student"
    return f"{name} on {result['dataset']}" if result.get("dataset") else name


def _input(described: dict[str, Any]) -> dict[str, Any]:
    """What the network takes; "order" of the channels only where a picture's file tells all."""
    size, channels = described.get("size"), len(described["mean"])
    mode, dense = MODES.get(channels), described.get("task") == "segmentation"
    pictures = described.get("task") in KINDS and described.get("images") != "prepared"
    pictures &= bool(size) or dense
    return {
        "size": size and sides(size),
        "covered": size and covered(sides(size)),
        "channels": channels,
        # as they were before they became float32
        **{key: [float(f"{value:.7g}") for value in described[key]] for key in ("mean", "std")},
        "mode": mode,
        "order": ORDERS[mode] if mode and pictures else None,
        "dense": dense,
        "stride": STRIDE,
    }


def _figures(result: dict[str, Any]) -> dict[str, Any]:
    """The tables of a result: a row has a name, the student's figure and the teacher's."""
    cost = result.get("cost") or {}
    nets = ["student", "teacher"] if result.get("teacher_metrics") else ["student"]
    found = [result.get(f"{net}_metrics") or {} for net in nets]
    costs = [cost.get(net) or {} for net in nets]
    whole = [name for name in found[0] if "/" not in name]
    parts = [name.partition("/") for name in found[0] if "/" in name]
    by_class: dict[str, list[Row]] = {}
    for figure, slash, name in parts:
        row = _row(name, found, figure + slash + name, _score)
        by_class.setdefault(figure, []).append(row)
    return {
        "columns": nets,
        "measured": {name: found[0][name] for name in whole if _score(found[0][name])},
        "agreement": "agreement" in whole,
        "scores": [_row(name, found, name, _score) for name in whole],
        "by_class": by_class,
        "costs": [_row(COSTS[n], costs, n, _count) for n in COSTS if n in costs[0]],
        "smaller": _smaller(*costs) if all(costs[1:]) and len(costs) == 2 else None,
        "shipped": _shipped((cost.get("shipped") or {}).get("latency") or []),
    }


def _row(name: str, figures: list[dict[str, Any]], key: str, show: Callable[[Any], str]) -> Row:
    return [_cell(name), *(show(net.get(key)) for net in figures)]


def _smaller(student: dict[str, Any], teacher: dict[str, Any]) -> str:
    """What the student costs of its teacher."""
    known = [name for name in ("macs", "params") if teacher[name]]
    shares = {COSTS[name]: student[name] / teacher[name] for name in known}
    return " and ".join(f"{share:.1%} of the {name}" for name, share in shares.items())


def _shipped(rows: list[dict[str, Any]]) -> list[Row]:
    """Latencies as a table, its head first; the columns are whatever the rows have."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_value(row.get(name)) for name in names] for row in rows]
    return [[name.replace("_", " ") for name in names], *cells] if rows else []


def _score(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.4f}"


def _count(value: float | None) -> str:
    """A number of three digits, with its unit."""
    if value is None:
        return ""
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value:.3g}"


def _value(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else _cell(value)


def _cell(text: Any) -> str:
    """A text that stays in its cell and shows no markup."""
    return re.sub(r"([\\|*`<\[\]])", r"\\\1", str(text)).replace("\n", " ")


FILTERS: dict[str, Callable[[Any], str]] = {
    "cell": _cell,
    "file_name": lambda path: Path(path).name,
    "python": lambda value: json.dumps(value) if isinstance(value, str) else repr(value),
    "yaml": lambda value: json.dumps(value, ensure_ascii=False),
}
