"""Runs a plan, stage by stage, from wherever it was left."""

import gc
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from stagewise_kd.cache.feeds import FeatureCache, Feeds, store_of, uncached
from stagewise_kd.data.loaders import Owner, train_loader, val_loader
from stagewise_kd.methods.plan import Plan, Stage
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.system.console import console
from stagewise_kd.system.files import read_json, write_json
from stagewise_kd.system.processes import barrier, rank
from stagewise_kd.system.run_folder import RunFolder
from stagewise_kd.training.graft import graft_score, pieces
from stagewise_kd.training.recorder import BEST, LAST, Recorder
from stagewise_kd.training.score import AGREEMENT
from stagewise_kd.training.setup import Setup
from stagewise_kd.training.stage_module import StageModule, put_back
from stagewise_kd.training.trainer import ignore_chatter, make_trainer


def run_plan(
    plan: Plan, adapters: dict[str, nn.ModuleDict], setup: Setup, run: RunFolder
) -> list[dict[str, Any]]:
    """Train all stages that are not done yet; each starts from the best epoch of the one before.

    Args:
        plan: the stages.
        adapters: of each stage, from `check_plan`.
        setup: networks, task, data; the student is trained in place.
        run: where weights and figures are kept.

    Returns:
        One record a stage: name, epochs, best, seconds, images_seen, cache, graft, and timing:
        seconds of the parts, which stage.json alone keeps.
    """
    records: list[dict[str, Any]] = []
    grafted: dict[str, tuple[str, nn.Module]] = {}
    cache: FeatureCache | None = None
    metric = setup.task.monitor.name if setup.data.labelled else AGREEMENT
    for index, stage in enumerate(plan):
        folder = run.stage(index, stage.name)
        record = read_json(folder / "stage.json")
        if record is None:
            cache = cache or _cache(setup, run)
            record = _train_stage(
                stage,
                adapters[stage.name],
                cache.feeds(stage) if cache else uncached(stage, setup.data),
                setup,
                run,
                folder,
                len(plan),
            )
            # The trainer and its loops hold each other, and the stage's tables, which no name here
            # may hold either.
            gc.collect()
        put_back(load_file(folder / BEST), setup.student, adapters[stage.name])
        if stage.graftable and setup.teacher is not None:
            grafted |= pieces(stage, adapters[stage.name].to(setup.device))
            if setup.fitting.graft and "graft" not in record:
                record["graft"] = graft_score(grafted, setup)
        label = f"stage {index + 1}/{len(plan)} {stage.name}"
        _finish_stage(record, run, folder, label, metric)
        records.append(record)
    if setup.fitting.cache and rank() == 0:
        store_of(setup.fitting.cache, run.path).keep(set())
    return records


def _cache(setup: Setup, run: RunFolder) -> FeatureCache | None:
    fitting = setup.fitting
    if fitting.cache is None:
        return None
    nets: dict[Owner, BlockNet] = {"student": setup.student}
    if setup.teacher is not None:
        nets["teacher"] = setup.teacher.requires_grad_(False)
    loading = (4 * fitting.batch_size, fitting.workers)
    return FeatureCache(
        fitting.cache, nets, setup.data, setup.device, fitting.precision, loading, run.path
    )


def _train_stage(
    stage: Stage,
    adapters: nn.ModuleDict,
    feeds: Feeds,
    setup: Setup,
    run: RunFolder,
    folder: Path,
    count: int,
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
    )
    recorder = Recorder(run, folder, fitting.tracker)
    number = int(folder.name.split("-")[0]) + 1
    trainer = make_trainer(stage, fitting, recorder, f"stage {number}/{count} {stage.name}")
    last = folder / LAST
    run.drop_metrics(stage.name, _next_epoch(last))
    loaders = (
        train_loader(feeds.train, fitting.batch_size, fitting.seed, fitting.workers, feeds.views),
        val_loader(feeds.val, 4 * fitting.batch_size, fitting.workers),
    )
    with warnings.catch_warnings():
        ignore_chatter()
        try:
            trainer.fit(module, *loaders, ckpt_path=str(last) if last.exists() else None)
        except SystemExit:  # what Lightning makes of Ctrl-C
            raise KeyboardInterrupt from None
    if rank() == 0:
        recorder.write_best(module)
    barrier()
    return {
        "name": stage.name,
        "epochs": stage.epochs,
        "best": recorder.best,
        "seconds": round(feeds.seconds + recorder.seconds, 2),
        "images_seen": recorder.images_seen,
        "cache": {"views": feeds.views, "bytes": feeds.size},
        "timing": {
            "filling_cache": round(feeds.seconds, 2),
            "waiting_for_loader": round(recorder.waited, 2),
        },
    }


def _next_epoch(last: Path) -> int:
    """The epoch that a run resumed from this checkpoint starts with."""
    if not last.exists():
        return 0
    return int(torch.load(last, map_location="cpu", weights_only=True)["epoch"]) + 1


def _finish_stage(
    record: dict[str, Any], run: RunFolder, folder: Path, label: str, metric: str
) -> None:
    """Write the stage's record, drop what only a running stage needs, and say how it went."""
    if rank() == 0 and (folder / LAST).exists():
        write_json(folder / "stage.json", record)
        (folder / LAST).unlink()
        run.set_stage(record["name"], "done")
        best = record["best"]
        graft = f"  graft {metric} {record['graft'][metric]:.4f}" if "graft" in record else ""
        console.print(
            f"{label}: val {best['monitor']} "
            f"{best['value']:.4f} (epoch {best['epoch'] + 1}/{record['epochs']}){graft}  "
            f"{record['seconds']:.0f} s",
            soft_wrap=True,
        )
    barrier()
