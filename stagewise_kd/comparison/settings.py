"""The settings of a run as names and values, and which of them tell several runs apart."""

import json
from collections.abc import Sequence
from typing import Any

# the same student with any; a method says its own schedule, a shrunk student its target
ANYHOW = {"seed", "out", "workers", "graft", "compile", "tracker", "wandb", "schedule", "target"}
PLACES = {"root", "checkpoint", "prefix", "store", "accelerator", "dir", "in_memory"}
TRAINING = {
    "teacher.epochs",
    "teacher.seed",
    "teacher.pretrained",
    "teacher.check",
}  # of no use to a trained one
AS_DESCRIBED = {  # stagewise distillation as the paper describes it
    "method.schedule": "sequential",
    "method.head": "labels",
    "method.head_kd": None,
    "method.n_features": None,
    "method.distill_decoder": False,
    "method.finetune_epochs": 0,
    "method.norm": None,  # from random weights the batches' statistics
    "decoder.train": True,
}
FACTS = {
    "data.name",
    "data.fraction",
    "data.images",
    "method",
    "student.name",
    "decoder.name",
    "eval.protocol",
}

INIT = {True: "teacher", False: "random"}  # how a student starts by default, with a teacher or not

Settings = dict[str, Any]


def chosen(config: dict[str, Any], has_teacher: bool = True, budgeted: bool = False) -> Settings:
    """The settings that a student depends on, flat, without seed and places.

    Args:
        config: the resolved config of a run.
        has_teacher: without one, the settings of the teacher do not matter.
        budgeted: of a method that is not, the reference itself, the budget does not matter.

    Returns:
        Such as {"epochs": 5, "method": "stagewise", "method.head": "labels", "optimizer": "Adam"}.
    """
    left_out = ANYHOW if has_teacher else ANYHOW | {"teacher"}
    settings = _flat(config)
    if "student.init" in settings:
        settings["student.init"] = settings["student.init"] or INIT[has_teacher]
    if settings.get("method.head_kd") == "none":
        settings["method.head_kd"] = None
    if not budgeted:
        left_out = left_out | {"budget"}
    trained = (config.get("teacher") or {}).get("checkpoint")
    return {
        name: value
        for name, value in settings.items()
        if name.split(".")[0] not in left_out
        and name.rsplit(".", 1)[-1] not in PLACES
        and not (trained and name in TRAINING)
    }


def agree(settings: Settings, wanted: Settings) -> bool:
    """Whether the settings that there are have the values wanted."""
    return all(settings.get(name, value) == value for name, value in wanted.items())


def _flat(node: Any, name: str = "") -> Settings:
    if not isinstance(node, dict):
        return {name: node}
    found: Settings = {}
    inner = {key: value for key, value in node.items() if not key.startswith("_")}
    if target := node.get("_target_"):
        if target.startswith("hydra.utils.get_"):  # looks the function up
            target = inner.pop("path")
        found[name] = target.rsplit(".", 1)[-1]
    for key, value in inner.items():
        found |= _flat(value, f"{name}.{key}".removeprefix("."))
    return found


def differences(configurations: Sequence[Settings]) -> list[dict[str, str]]:
    """What tells configurations apart, beside the facts that a table shows anyway.

    The options of a method are compared with those of the same method only, and so on. A setting
    that only repeats another one (optimizer.lr that of lr) is left out.

    Args:
        configurations: each from `chosen`.

    Returns:
        For each one its own part, short names and readable values.
    """
    names = {name for settings in configurations for name in settings} - FACTS
    told: list[dict[str, str]] = [{} for _ in configurations]
    columns: list[list[str | None]] = []
    for name in sorted(names, key=lambda name: (name.count("."), name)):
        column = [_text(settings, name) for settings in configurations]
        scopes = [_scope(settings, name) for settings in configurations]
        pairs = {pair for pair in zip(scopes, column, strict=True) if pair[1] is not None}
        varied = {scope for scope, _ in pairs if sum(scope == other for other, _ in pairs) > 1}
        if not varied or any(_repeats(column, earlier) for earlier in columns):
            continue
        columns.append(column)
        for settings, scope, found in zip(configurations, scopes, told, strict=True):
            if name in settings and scope in varied:
                found[_short(name, settings)] = _shown(settings[name])
    return told


def _text(settings: Settings, name: str) -> str | None:
    return json.dumps(settings[name]) if name in settings else None


def _scope(settings: Settings, name: str) -> str | None:
    """The name of what a setting belongs to: of method.head the method."""
    node = name.split(".")[0]
    return (
        None if name in (node, f"{node}.name") else settings.get(f"{node}.name", settings.get(node))
    )


def _repeats(column: list[str | None], earlier: list[str | None]) -> bool:
    return all(new in (old, None) for new, old in zip(column, earlier, strict=True))


def _short(name: str, settings: Settings) -> str:
    bare = name.removeprefix("method.").removeprefix("data.")
    return name if bare in {*settings, "seed"} else bare


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ",".join(map(_shown, value)) + "]"
    return "none" if value is None else str(value)
