"""Class names and colours of masks, and the file that a user writes them in."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import yaml
from omegaconf import OmegaConf

from stagewise_kd.data.samples import Colour
from stagewise_kd.system.errors import UserError, raise_faults

MOST = 255  # classes; index 255 is void
NO_CLASS = ("void", "unlabelled", "unlabeled", "ignore", "ignored")  # names for what 0 stands for

# Okabe and Ito's colours, which colour-blind people can tell apart.
OKABE_ITO: tuple[Colour, ...] = (
    (0, 0, 0),
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)


@dataclass(frozen=True)
class Legend:
    """What the values in mask files mean.

    Args:
        classes: class names, by index.
        colours: one a class, as in RGB masks; empty where masks hold indices.
        void_colours: of pixels without a label.
        void_indices: likewise; with 0 among them, masks count the classes from 1.
    """

    classes: tuple[str, ...]
    colours: tuple[Colour, ...] = ()
    void_colours: tuple[Colour, ...] = ()
    void_indices: tuple[int, ...] = ()

    @property
    def first(self) -> int:
        """The index of the first class in masks."""
        return int(0 in self.void_indices)

    @property
    def palette(self) -> list[Colour]:
        """One colour a class to show it in."""
        return list(self.colours) or generated_palette(len(self.classes))


def generated_palette(count: int) -> list[Colour]:
    """Distinct colours for any eyes: Okabe and Ito's, then lighter ones, else a colour map."""
    lighter = [((r + 255) // 2, (g + 255) // 2, (b + 255) // 2) for r, g, b in OKABE_ITO]
    if count <= 2 * len(OKABE_ITO):
        return [*OKABE_ITO, *lighter][:count]
    found = matplotlib.colormaps["viridis"].resampled(count)(range(count), bytes=True)
    return [(r, g, b) for r, g, b, _ in found.tolist()]


def read_legend(path: Path) -> Legend:
    """Read a classes.yaml.

    `classes` is a list of names, or names with the colours of RGB masks; the first is index 0, or 1
    where 0 is void. `void`, which may be left out, tells the pixels without a label: a colour
    [r, g, b], an index, or a list of those.

    Raises:
        UserError: the file is missing, or lists everything that is wrong in it.
    """
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; write the class names into it, such as\n"
            "classes:\n  background: [0, 0, 0]\n  road: [128, 64, 128]\n"
            "or, where masks hold class indices, classes: [background, road]; data.classes=FILE "
            "names another file"
        )
    try:
        content: Any = OmegaConf.to_container(OmegaConf.load(path))
    except (yaml.YAMLError, OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as YAML ({error})") from None
    faults: list[str] = []
    if not isinstance(content, dict) or not isinstance(content.get("classes"), dict | list):
        raise UserError(f"{path}: expected `classes:` and below it names, or names with colours")
    if extra := set(content) - {"classes", "void"}:
        faults.append(f"unknown {', '.join(map(str, extra))}; expected classes and void")
    named = content["classes"]
    coloured = isinstance(named, dict)
    colours = _colours(named, faults) if coloured else ()
    void_colours, void_indices = _void(content.get("void"), faults)
    legend = Legend(tuple(map(str, named)), colours, void_colours, void_indices)
    raise_faults(str(path), [*faults, *_clashes(legend)])
    return legend


def _colours(named: dict[Any, Any], faults: list[str]) -> tuple[Colour, ...]:
    wrong = [f"class {name}: {c!r} is no colour [r, g, b]" for name, c in named.items()
             if not _is_colour(c)]  # fmt: skip
    faults += wrong
    return () if wrong else tuple(tuple(colour) for colour in named.values())


def _void(given: Any, faults: list[str]) -> tuple[tuple[Colour, ...], tuple[int, ...]]:
    """Colours and indices; three numbers in a row are a colour."""
    if given is None:
        return (), ()
    items = given if isinstance(given, list) and not _is_colour(given) else [given]
    faults += [
        f"void: {item!r} is neither a colour [r, g, b] nor an index"
        for item in items
        if not (_is_colour(item) or _is_level(item))
    ]
    colours = tuple(tuple(item) for item in items if _is_colour(item))
    return colours, tuple(item for item in items if _is_level(item))


def _is_colour(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(_is_level, value))


def _is_level(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255


def _clashes(legend: Legend) -> list[str]:
    """What cannot be told apart."""
    count, faults = len(legend.classes), []
    if not 2 <= count <= MOST:
        faults.append(f"number of classes: {count}, expected 2 to {MOST}")
    if len(set(legend.classes)) < count:
        faults.append("a class is named twice")
    colours = [*legend.colours, *legend.void_colours]
    twice = sorted({colour for colour in colours if colours.count(colour) > 1})
    faults += [f"the colour {list(colour)} is given twice" for colour in twice]
    faults += [
        f"void: index {index} is class {legend.classes[index - legend.first]}; masks count classes "
        f"from {legend.first}{', as 0 is void' if legend.first else ', or from 1 with `void: 0`'}"
        for index in legend.void_indices
        if legend.first <= index < legend.first + count
    ]
    if legend.first and legend.classes[:1] and legend.classes[0].lower() in NO_CLASS:
        faults.append(
            f"void: 0, and a first class called {legend.classes[0]}: leave it out of the classes, "
            "which count from 1 then"
        )
    return faults
