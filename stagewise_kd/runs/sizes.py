"""The sizes of a trained teacher that targets allow; no student is trained."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from omegaconf import DictConfig

from stagewise_kd.comparison.drawing import save
from stagewise_kd.comparison.report import print_table
from stagewise_kd.comparison.sizes import draw_sizes
from stagewise_kd.runs.build import build
from stagewise_kd.runs.config import resolved
from stagewise_kd.runs.front_end import FrontEnd, load_data
from stagewise_kd.runs.shrunk import images_of, scored_space, space_of
from stagewise_kd.runs.teacher import needs_teacher, trained_teacher
from stagewise_kd.sizing.alternatives import on_device
from stagewise_kd.sizing.costs import costs_of
from stagewise_kd.sizing.frontier import Point, points
from stagewise_kd.sizing.search import keep, told, within
from stagewise_kd.sizing.target import Kind, shown, target_of
from stagewise_kd.system.console import console
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.files import path_of, write_text, writing_into
from stagewise_kd.system.names import Config, data_name, file_name
from stagewise_kd.system.processes import local_device

MEASURED = 100  # images


def show_sizes(front_end: FrontEnd, cfg: DictConfig) -> None:
    """Print what a teacher loses at each size, and what a target would change.

    Args:
        front_end: of the task.
        cfg: the composed config, its values checked.

    Raises:
        UserError: anything in the config or the data is wrong.
    """
    config = resolved(cfg)
    target = target_of(config["target"], "target.") if any(config["target"].values()) else None
    if not config["teacher"]:
        raise UserError("shrink: needs a teacher: teacher=NAME teacher.checkpoint=FILE")
    data, source = load_data(front_end, config)
    if needs_teacher(config):
        config = trained_teacher(partial(build, front_end), config, front_end, source)
    out = path_of(str(cfg.out or Path("runs") / _name(config)))
    teacher = front_end.load_teacher(config, source).eval()
    images = images_of(front_end, config, source, data, teacher)
    kind: Kind = target[0] if target else "macs"
    with torch.random.fork_rng(devices=[]):
        device = local_device(config["trainer"])
        net, space = on_device(*space_of(config, teacher, images), device)
        space, scores = scored_space(config, net, space, images)
        costs = costs_of(kind, net, space, images[:1])
        found = points(net, space, scores.kl, costs, images[:MEASURED])
        print_table(_table(kind, found))
        if target:
            smaller = within(net, space, scores.kl, target, images[:1], "target.")
            keep(smaller, scores, out)
            console.print("\n".join(told(smaller)), soft_wrap=True, highlight=False)
    with writing_into(out):
        frame = pd.DataFrame([asdict(point) for point in found])
        write_text(out / "sizes.csv", frame.to_csv(index=False))
        save(draw_sizes(frame, kind), out / "sizes")
    console.print(f"{out}: sizes.csv, sizes.png", soft_wrap=True)


def _name(config: Config) -> Path:
    data = config["data"]
    name = data_name(data["name"], data["fraction"], data.get("images"))
    return Path(name) / f"sizes-{file_name(config['teacher']['name'])}"


def _table(kind: Kind, found: Sequence[Point]) -> pd.DataFrame:
    """The points as text; before training, at the start of what a run distills."""
    names = ("cost", "of teacher", "blocks changed", "predicted loss", "measured", "agreement")
    rows = [
        (
            shown(kind, point.cost),
            f"{point.share:.1%}",
            str(point.changed),
            f"{point.predicted:.3g}",
            f"{point.measured:.3g}",
            f"{point.agreement:.4f}",
        )
        for point in found
    ]
    return pd.DataFrame(rows, columns=[*names])
