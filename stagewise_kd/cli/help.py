"""The help of `run`: its settings, their defaults and meanings, as the config files tell them."""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import yaml

from stagewise_kd.runs.composing import config_folder

LINE = re.compile(r"^( *)(\w+):(?: +([^#\s][^#]*?))?(?: +# ?(.*))?$")
LEFT_OUT = {"defaults", "hydra", "name", "source", "out", "path"}
WIDTH = 100
ABOUT = {
    "run": """\
One experiment, into one run folder. The same command goes on with an unfinished run.

  out=DIR                            the run folder; by default named after the experiment
""",
    "blocks": """\
How the networks of `run` with the same settings are cut into blocks, and what learns from what.
It trains nothing and writes nothing.
""",
    "shrink": """\
The sizes of a trained teacher with blocks left out or narrower: what each loses, as predicted and
measured before any training. With target.macs, .params or .latency also which blocks change.

  out=DIR                            keeps table, figure, and what a target chooses
""",
}
CHOICES = "Choices; the first one is the default:\n"
END = """\
Hydra's own: --cfg job shows the settings of a command and runs nothing, -m runs a study (values
a,b,c of a setting are jobs, experiment=NAME is a file of them), --hydra-help lists the rest.
trainer.* takes options of lightning.Trainer that the run does not set itself.
"""


def run_help(front_end: str, command: str = "run") -> str:
    """The text of `--help` of a command that takes overrides, of a front end: cls or seg."""
    own, shared = Path(config_folder(front_end)), Path(config_folder("shared"))
    chosen = default_choices(own / "config.yaml")
    choices = [_choice(group, _names(group, name, own, shared)) for group, name in chosen]
    usage = f"usage: {front_end}-kd {command} [name=value …]\n"
    parts = [usage, ABOUT[command], CHOICES + "".join(choices)]
    recipe = _file("recipe", dict(chosen)["recipe"], own, shared)
    files = (recipe, own / "config.yaml", shared / "base.yaml")
    general = [row for file in files for row in _settings(file)]
    parts.append("Settings:\n" + _table(general))
    for group, name in chosen:
        rows = _settings(_file(group, name, own, shared), f"{group}.")
        if rows and group != "recipe":
            parts.append(f"Of {group}={name}:\n" + _table(rows))
    return "\n".join([*parts, END])


def default_choices(config: Path) -> list[tuple[str, str]]:
    """Groups and the choice that each has by default."""
    defaults = yaml.safe_load(config.read_text(encoding="utf-8"))["defaults"]
    named = [
        (key, value) for item in defaults if isinstance(item, dict) for key, value in item.items()
    ]
    return [(key, value) for key, value in named if value and " " not in key]


def _choice(group: str, names: list[str]) -> str:
    """A group and its choices, in lines that end between two of them."""
    text = f"  {group}=" + "| ".join(names)
    return textwrap.fill(text, WIDTH, subsequent_indent=" " * 6).replace("| ", "|") + "\n"


def _names(group: str, first: str, *folders: Path) -> list[str]:
    found = {file.stem for folder in folders for file in (folder / group).glob("*.yaml")}
    return [first, *sorted(found - {first, "base"})]


def _file(group: str, name: str, *folders: Path) -> Path:
    """The file that has the settings of a choice; those that differ in the name alone share one."""
    places = [folder / group / f"{stem}.yaml" for folder in folders for stem in ("base", name)]
    return next(place for place in places if place.is_file())


def _settings(file: Path, prefix: str = "") -> list[tuple[str, str]]:
    """Names with defaults, and meanings, in the order of the file."""
    return [
        (f"{prefix}{name}={default}" if default else f"{prefix}{name}.*", meaning)
        for name, default, meaning in _read(file)
        if not LEFT_OUT & {*name.split(".")} and not default.startswith("${")
        if default or meaning  # else a heading that says nothing
    ]


def _read(file: Path) -> Iterator[tuple[str, str, str]]:
    path: list[str] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if found := LINE.match(line):
            indent, key, value, comment = found.groups("")
            path = [*path[: len(indent) // 2], key]
            if not any(part.startswith("_") for part in path):
                yield ".".join(path), value, comment


def _table(rows: list[tuple[str, str]]) -> str:
    """Two columns, the second one wrapped."""
    indent = " " * 37
    return "".join(
        textwrap.fill(f"  {left:<34} {meaning}".rstrip(), WIDTH, subsequent_indent=indent) + "\n"
        for left, meaning in rows
    )
