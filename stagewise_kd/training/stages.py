"""Runs a plan, stage by stage, from wherever it was left."""

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from stagewise_kd.cache.feeds import FeatureCache, Feeds, store_of, uncached
from stagewise_kd.data.loaders import Owner, train_loader, val_loader
from stagewise_kd.data.pace import Pace
from stagewise_kd.methods.plan import Plan, Stage
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.networks.cpu_convolutions import fast_convolutions
from stagewise_kd.system.console import console
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.files import read_json, write_json
from stagewise_kd.system.processes import barrier, rank
from stagewise_kd.system.run_folder import RunFolder
from stagewise_kd.training.graft import graft_score, pieces
from stagewise_kd.training.recorder import BEST, LAST, Recorder
from stagewise_kd.training.score import AGREEMENT
from stagewise_kd.training.setup import Fitting, Setup
from stagewise_kd.training.sharing import RECORD, SharedStages, take
from stagewise_kd.training.stage_module import StageModule, put_back
from stagewise_kd.training.trainer import Patience, ignore_chatter, make_trainer, pace_of


def run_plan(
    plan: Plan,
    adapters: dict[str, nn.ModuleDict],
    setup: Setup,
    run: RunFolder,
    shared: SharedStages | None = None,
) -> list[dict[str, Any]]:
    """Train all stages that are not done yet; each starts from the best epoch of the one before.

    Args:
        plan: the stages.
        adapters: of each stage, from `check_plan`.
        setup: networks, task, data; the student is trained in place.
        run: where weights and figures are kept.
        shared: stages that other runs have trained alike are taken from these; None: no other's.

    Returns:
        One record a stage: name, epochs, best, seconds, images_seen, cache, graft, and timing:
        seconds of the parts, which stage.json alone keeps; from: the run that has trained it.
    """
    shared = shared or SharedStages(None)
    nets = [net for net in (setup.student, setup.teacher) if net]
    records: list[dict[str, Any]] = []
    grafted: dict[str, tuple[str, nn.Module]] = {}
    cache: FeatureCache | None = None
    metric = setup.task.monitor.name if setup.data.labelled else AGREEMENT
    for index, stage in enumerate(plan):
        folder, own = run.stage(index, stage.name), adapters[stage.name]
        label = f"stage {index + 1}/{len(plan)} {stage.title}"
        alike = shared.other(stage, setup.student, own, folder)
        with alike as other, fast_convolutions(*nets, own):
            record = read_json(folder / RECORD)
            done = record is not None and not (folder / LAST).exists()
            if record is None and other is not None:
                record = _take_stage(other, stage, own, setup, run, folder)
            elif record is None:
                cache, pace = cache or _cache(setup, run), _pace(stage, setup)
                timed = replace(stage, epochs=pace.epochs)
                with _collected():
                    feeds = cache.feeds(timed) if cache else uncached(timed, setup.data)
                    record = _train_stage(timed, own, feeds, pace, setup, run, folder, label)
                    del feeds  # a name would hold its tables
            put_back(load_file(folder / BEST), setup.student, own)
            if stage.graftable and setup.teacher is not None:
                grafted |= pieces(stage, own.to(setup.device))
                if setup.fitting.graft and "graft" not in record:
                    record["graft"] = graft_score(grafted, setup)
            if not done:
                _finish_stage(record, run, folder, label, metric)
        records.append(record)
    if setup.fitting.cache and rank() == 0:
        store_of(setup.fitting.cache, run.path).keep(set())
    return records


@contextmanager
def _collected() -> Iterator[None]:
    """Let go of what is made within: a trainer and its loops hold each other, and the tables.

    What was there before is not looked at, which takes most of a second where many modules are.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.collect()
        gc.unfreeze()


def _cache(setup: Setup, run: RunFolder) -> FeatureCache | None:
    fitting = setup.fitting
    if fitting.cache is None:
        return None
    nets: dict[Owner, BlockNet] = {"student": setup.student}
    if setup.teacher is not None:
        nets["teacher"] = setup.teacher.requires_grad_(False)
    loading = (setup.at_once, fitting.workers)
    return FeatureCache(
        fitting.cache, nets, setup.data, setup.device, fitting.precision, loading, run.path
    )


def _pace(stage: Stage, setup: Setup) -> Pace:
    _, images = setup.data.for_stage(stage.needs_labels)
    return pace_of(stage, len(images), len(setup.data.val), setup.fitting)  # type: ignore[arg-type]


def _train_stage(
    stage: Stage,
    adapters: nn.ModuleDict,
    feeds: Feeds,
    pace: Pace,
    setup: Setup,
    run: RunFolder,
    folder: Path,
    label: str,
) -> dict[str, Any]:
    fitting = setup.fitting
    if rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
    run.set_stage(stage.name, "running")
    barrier()
    module = StageModule(
        stage,
        setup.student,
        setup.teacher,
        adapters,
        setup.task,
        fitting.optimizer,
        fitting.scheduler,
        fitting.seed,
        _optimizer_steps(pace, fitting),
    )
    recorder = Recorder(run, folder, pace, fitting.tracker)
    patience = Patience(stage.monitor, stage.patience) if stage.patience else None
    trainer = make_trainer(fitting, recorder, label, patience)
    last = folder / LAST
    start = _next_round(last)
    run.drop_metrics(stage.name, pace.span(start).start)
    # of a stage that only lacks its record the last round, as Lightning warns of an empty one
    first = min(start, pace.rounds - 1)
    drawing = (fitting.batch_size, fitting.seed, fitting.workers, feeds.views, pace, first)
    loaders = (
        train_loader(feeds.train, *drawing),
        val_loader(feeds.val, setup.at_once, fitting.workers),
    )
    with warnings.catch_warnings():
        ignore_chatter()
        try:
            trainer.fit(module, *loaders, ckpt_path=str(last) if last.exists() else None)
        except SystemExit:  # what Lightning makes of Ctrl-C
            raise KeyboardInterrupt from None
    if (ended := trainer.current_epoch) < pace.rounds and not (patience and patience.ended):
        raise UserError(
            f"stage {stage.name!r}: Lightning ended it after {pace.span(ended).start} of "
            f"{stage.epochs} epochs; leave out the trainer.* that makes it"
        )
    if rank() == 0:
        recorder.write_best(module)
    barrier()
    return {
        "name": stage.name,
        "epochs": pace.span(ended - 1)[-1] + 1,
        "steps": sum(map(pace.length, range(ended))),
        "best": recorder.best,
        "seconds": round(feeds.seconds + recorder.seconds, 2),
        "images_seen": recorder.images_seen,
        "cache": {"views": feeds.views, "bytes": feeds.size},
        "timing": {
            "filling_cache": round(feeds.seconds, 2),
            "waiting_for_loader": round(recorder.waited, 2),
        },
    }


def _take_stage(
    other: Path,
    stage: Stage,
    adapters: nn.ModuleDict,
    setup: Setup,
    run: RunFolder,
    folder: Path,
) -> dict[str, Any]:
    """Take a stage from another run, with its figures, as if it had been trained here."""
    record = take(other, stage, setup.student, adapters, folder)
    run.drop_metrics(stage.name, 0)
    for epoch, step, values in RunFolder(other.parents[1]).metrics(stage.name):
        run.add_metrics(stage.name, epoch, step, values)
        if setup.fitting.tracker and rank() == 0:
            setup.fitting.tracker.log(stage.name, epoch, step, values)
    barrier()
    return record


def _optimizer_steps(pace: Pace, fitting: Fitting) -> int:
    """Steps of the optimizer: batches, where gradients are not accumulated."""
    at_once = int(fitting.trainer.get("accumulate_grad_batches", 1))
    return sum(ceil(pace.length(number) / at_once) for number in range(pace.rounds))


def _next_round(last: Path) -> int:
    """The round that a run resumed from this checkpoint starts with."""
    if not last.exists():
        return 0
    return int(torch.load(last, map_location="cpu", weights_only=True)["epoch"]) + 1


def _finish_stage(
    record: dict[str, Any], run: RunFolder, folder: Path, label: str, metric: str
) -> None:
    """Write the stage's record, drop what only a running stage needs, and say how it went."""
    if rank() == 0:
        write_json(folder / RECORD, record)
        (folder / LAST).unlink(missing_ok=True)
        run.set_stage(record["name"], "done")
        best = record["best"]
        graft = f"  graft {metric} {record['graft'][metric]:.4f}" if "graft" in record else ""
        source = f", trained by {record['from']}" if "from" in record else ""
        console.print(
            f"{label}: val {best['monitor']} "
            f"{best['value']:.4f} (epoch {best['epoch'] + 1}/{record['epochs']}){graft}  "
            f"{record['seconds']:.0f} s{source}",
            soft_wrap=True,
        )
    barrier()
