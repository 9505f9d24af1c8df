"""Overrides as they are typed, and as Hydra takes them: a path is text, whatever its name is."""

import os
import re

from stagewise_kd.system.errors import UserError
from stagewise_kd.system.files import path_of

ABSOLUTE = (  # in config.yaml
    *("data.root", "data.test", "data.splits", "data.unlabelled", "data.classes"),
    *("teacher.checkpoint", "student.init", "cache.dir"),
)
WORDS = {"student.init": ("teacher", "random")}  # that such a setting takes beside paths
# Lightning, optimizers and the builders of networks have more options than the config names.
OPEN = (
    *("trainer.", "optimizer.", "scheduler."),
    *("student.arguments.", "teacher.arguments.", "model.arguments."),
)
PATHS = (*ABSOLUTE, "teacher.store", "out")


def setting(item: str) -> str:
    """The name of the setting that an override gives."""
    return item.partition("=")[0].lstrip("+")


def quoted(text: str) -> str:
    """A text that Hydra reads as it is."""
    # Only before a quote does Hydra take a backslash for more than itself.
    return "'" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text) + "'"


def absolute(name: str, text: str) -> str:
    """A path as config.yaml has it; a word that a setting takes beside paths stays."""
    return text if text in WORDS.get(name, ()) else str(path_of(text).absolute())


def as_typed(item: str, study: bool = False) -> str:
    """An override as Hydra takes it.

    A path is in quotes, but for `null`; match= are its pairs; `++` sets names that are new.

    Args:
        item: as it was typed.
        study: commas part the values of a sweep, where they belong to no name that exists.

    Raises:
        UserError: several paths without a study.
    """
    if item.startswith(OPEN):
        return f"++{item}"
    name, text = setting(item), item.partition("=")[2]
    if name == "match":
        return f"match.pairs={text}"
    if name not in PATHS or text in ("", "null"):
        return item
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > 1 and name != "out" and all(parts) and not _exists(text):
        if study:
            return f"{name}={','.join(map(quoted, parts))}"
        if all(part in WORDS.get(name, ()) or _exists(part) for part in parts):
            raise UserError(f"{item}: names {len(parts)} paths; add -m to run with each of them")
    return f"{name}={quoted(text)}"


def _exists(text: str) -> bool:
    return os.path.exists(path_of(text))  # noqa: PTH110 - False for a name that is too long, too
