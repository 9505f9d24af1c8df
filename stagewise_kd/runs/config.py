"""The resolved config of a run: plain values, checked."""

from os.path import normpath
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from stagewise_kd.methods.usual import usual_options
from stagewise_kd.networks.names import name_fault
from stagewise_kd.runs.overrides import ABSOLUTE, WORDS, absolute
from stagewise_kd.sizing.target import target_of
from stagewise_kd.system.errors import UserError, raise_faults
from stagewise_kd.system.names import SHRUNK, Config

DTYPES = ("bfloat16", "float16", "float32")


def resolved(cfg: DictConfig) -> Config:
    """The config as plain values, with absolute paths and without `out`: what config.yaml holds."""
    cfg = cfg.copy()
    for path in ABSOLUTE:
        if value := OmegaConf.select(cfg, path):
            OmegaConf.update(cfg, path, absolute(path, str(value)))
    config: Config = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    config.pop("out", None)
    data = config["data"]
    data["name"] = data["name"] or folder_name(data["root"])
    config["method"] = _filled(config)
    return config


def _filled(config: Config) -> dict[str, Any]:
    """The method with the options that are left open as they are meant."""
    method: dict[str, Any] = config["method"]
    if "finetune_epochs" in method and method["finetune_epochs"] is None:
        length = config["steps"] or config["epochs"]
        method |= {"finetune_epochs": length if method["finetune"] else 0}
    data, kept = config["data"], config.get("decoder", {}).get("train") is False
    more = not kept and (data.get("label_fraction", 1) != 1 or bool(data.get("unlabelled")))
    usual = usual_options(method, data.get("labelled", True), more)
    return method | {name: value for name, value in usual.items() if name in method}


def folder_name(root: str | None) -> str:
    """What a data set of the user's own is called: its folder's name."""
    return Path(normpath(root or "")).name or "folder"


def check_values(config: Config) -> None:
    """Check the numbers that every run has.

    Raises:
        UserError: lists all that are of the wrong kind or out of range.
    """
    whole = {"epochs": 1, "batch_size": 1, "workers": 0, "seed": 0}
    faults = [
        f"{name}={config[name]}: give a whole number from {least} up"
        for name, least in whole.items()
        if not isinstance(config[name], int) or config[name] < least
    ]
    if (steps := config["steps"]) is not None and (not isinstance(steps, int) or steps < 1):
        faults.append(f"steps={steps}: give a whole number from 1 up, or null")
    fraction, size = config["data"]["fraction"], config["data"]["size"]
    if not isinstance(fraction, int | float) or not 0 < fraction <= 1:
        faults.append(f"data.fraction={fraction}: give a number above 0 and up to 1")
    images = config["data"].get("images")
    if images is not None and (not isinstance(images, int) or images < 2):
        faults.append(f"data.images={images}: give a whole number from 2 up, or null")
    sides = [size] * 2 if isinstance(size, int) else size
    if size is not None and not (
        isinstance(sides, list) and [isinstance(n, int) and n > 0 for n in sides] == [True] * 2
    ):
        faults.append(f"data.size={size}: give one side in pixels, or [height,width]")
    val = config["data"]["val"]
    if val is not None and (not isinstance(val, int) or val < 0):
        faults.append(f"data.val={val}: give a number of images, or null")
    budget = config.get("budget", "paper")
    if budget not in ("matched", "paper"):
        faults.append(f"budget={budget}: give matched or paper")
    if not isinstance(config["graft"], bool):
        faults.append(f"graft={config['graft']}: give true or false")
    if not isinstance(config.get("reuse", False), bool):
        faults.append(f"reuse={config['reuse']}: give true or false")
    if config.get("cache"):  # a teacher's own run has none
        faults += _cache_faults(config["cache"])
    faults += _teacher_faults(config.get("teacher") or {})
    faults += _target_faults(config)
    faults += _network_faults(config)
    if not isinstance(config["lr"], int | float) or not config["lr"] > 0:
        faults.append(f"lr={config['lr']}: give a number above 0")
    raise_faults("bad settings", faults)


def _teacher_faults(teacher: dict[str, Any]) -> list[str]:
    prefix, path, check = (teacher.get(key) for key in ("prefix", "checkpoint", "check"))
    faults = []
    if prefix is not None and (not path or Path(path).is_dir()):
        faults.append(f"teacher.prefix={prefix}: is for a teacher.checkpoint that is a file")
    if check not in (None, True, False):
        faults.append(f"teacher.check={check}: give true or false")
    return faults


def _target_faults(config: Config) -> list[str]:
    target, steps = config.get("target") or {}, (config.get("shrink") or {}).get("score_steps", 0)
    faults = []
    if not isinstance(steps, int) or steps < 0:
        faults.append(f"shrink.score_steps={steps}: give a whole number from 0 up")
    if config["student"]["name"] != SHRUNK:
        given = [f"target.{k}={v}" for k, v in target.items() if v is not None]
        return faults + [f"{', '.join(given)}: is for student=shrunk"] * bool(given)
    if (init := config["student"].get("init")) not in (None, *WORDS["student.init"]):
        faults.append(f"student.init={init}: student=shrunk starts with its teacher's weights")
    if any(value is not None for value in target.values()):
        try:
            target_of(target, "target.")
        except UserError as error:
            faults.append(str(error))
    return faults


def _network_faults(config: Config) -> list[str]:
    faults = []
    for who in ("student", "teacher"):
        settings = config.get(who) or {}
        if fault := name_fault(settings["name"]) if settings else None:
            faults.append(f"{who}={settings['name']}: {fault}")
        at, arguments = settings.get("at"), settings.get("arguments") or {}
        if at is not None and not (isinstance(at, list) and all(isinstance(n, str) for n in at)):
            faults.append(f"{who}.at={at}: give a list of names of modules, such as [stem,layer1]")
        if not isinstance(arguments, dict):
            faults.append(f"{who}.arguments={arguments}: give {who}.arguments.NAME=VALUE")
    return faults


def _cache_faults(cache: dict[str, Any]) -> list[str]:
    views, budget, dtype = (cache[key] for key in ("views", "budget_gb", "dtype"))
    checks = {
        f"cache.views={views}: give a whole number from 1 up": isinstance(views, int) and views > 0,
        f"cache.budget_gb={budget}: give gigabytes, 0 for no cache": budget is None
        or (isinstance(budget, int | float) and budget >= 0),
        f"cache.dtype={dtype}: give {' or '.join(DTYPES)}": dtype in DTYPES,
    }
    return [fault for fault, good in checks.items() if not good]


def to_yaml(config: Config) -> str:
    """The config as the text of config.yaml."""
    return OmegaConf.to_yaml(OmegaConf.create(config))


def untracked(config: Config) -> Config:
    """A config without what makes no other run of it: where figures go and stages come from."""
    return {k: v for k, v in config.items() if k not in ("tracker", "wandb", "reuse")}
