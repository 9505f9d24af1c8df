"""Runs a plan, stage by stage, from wherever it was left."""

import gc
import logging
import warnings
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from safetensors.torch import load_file
from torch import nn

from stagewise_kd.bench import Bench, Fitting, graft_score, pieces
from stagewise_kd.blocks import BlockNet
from stagewise_kd.cache import FeatureCache, Feeds, store_of, uncached
from stagewise_kd.compiling import CompiledBlocks
from stagewise_kd.distributed import barrier, rank
from stagewise_kd.errors import UserError
from stagewise_kd.files import write_json
from stagewise_kd.loaders import Owner, train_loader, val_loader
from stagewise_kd.plan import Plan, Stage
from stagewise_kd.progress import StageProgress, console
from stagewise_kd.recorder import BEST, LAST, Recorder
from stagewise_kd.run_folder import RunFolder, read_json
from stagewise_kd.training import StageModule, put_back

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # it praises other products

OWN: dict[str, Any] = {
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,
}


PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed", "32")


def run_plan(
    plan: Plan, adapters: dict[str, nn.ModuleDict], bench: Bench, run: RunFolder
) -> list[dict[str, Any]]:
    """Train all stages that are not done yet; each starts from the best epoch of the one before.

    Args:
        plan: the stages.
        adapters: of each stage, from `check_plan`.
        bench: networks, task, data; the student is trained in place.
        run: where weights and figures are kept.

    Returns:
        One record a stage: name, epochs, best, seconds, images_seen, cache, graft, and timing:
        seconds of the parts, which stage.json alone keeps.
    """
    records: list[dict[str, Any]] = []
    grafted: dict[str, tuple[str, nn.Module]] = {}
    cache: FeatureCache | None = None
    for index, stage in enumerate(plan):
        folder = run.stage(index, stage.name)
        record = read_json(folder / "stage.json")
        if record is None:
            cache = cache or _cache(bench, run)
            record = _train_stage(
                stage,
                adapters[stage.name],
                cache.feeds(stage) if cache else uncached(stage, bench.data),
                bench,
                run,
                folder,
                len(plan),
            )
            # The trainer and its loops hold each other, and the stage's tables, which no name here
            # may hold either.
            gc.collect()
        put_back(load_file(folder / BEST), bench.student, adapters[stage.name])
        if stage.graftable and bench.teacher is not None:
            grafted |= pieces(stage, adapters[stage.name].to(bench.device))
            if bench.fitting.graft and "graft" not in record:
                record["graft"] = graft_score(grafted, bench)
        label = f"stage {index + 1}/{len(plan)} {stage.name}"
        _finish_stage(record, run, folder, label, bench.task.monitor.name)
        records.append(record)
    if bench.fitting.cache and rank() == 0:
        store_of(bench.fitting.cache, run.path).keep(set())
    return records


def _cache(bench: Bench, run: RunFolder) -> FeatureCache | None:
    fitting = bench.fitting
    if fitting.cache is None:
        return None
    nets: dict[Owner, BlockNet] = {"student": bench.student}
    if bench.teacher is not None:
        nets["teacher"] = bench.teacher.requires_grad_(False)
    loading = (4 * fitting.batch_size, fitting.workers)
    return FeatureCache(
        fitting.cache, nets, bench.data, bench.device, fitting.precision, loading, run.path
    )


def _train_stage(
    stage: Stage,
    adapters: nn.ModuleDict,
    feeds: Feeds,
    bench: Bench,
    run: RunFolder,
    folder: Path,
    count: int,
) -> dict[str, Any]:
    fitting = bench.fitting
    if rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
    run.set_stage(stage.name, "running")
    barrier()
    module = StageModule(
        stage,
        bench.student,
        bench.teacher,
        adapters,
        bench.task,
        fitting.optimizer,
        fitting.scheduler,
        fitting.seed,
    )
    recorder = Recorder(run, folder, fitting.tracker)
    number = int(folder.name.split("-")[0]) + 1
    trainer = _trainer(stage, fitting, recorder, f"stage {number}/{count} {stage.name}")
    last = folder / LAST
    run.drop_metrics(stage.name, _next_epoch(last))
    loaders = (
        train_loader(feeds.train, fitting.batch_size, fitting.seed, fitting.workers, feeds.views),
        val_loader(feeds.val, 4 * fitting.batch_size, fitting.workers),
    )
    with warnings.catch_warnings():
        _ignore_chatter()
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


def _trainer(stage: Stage, fitting: Fitting, recorder: Recorder, label: str) -> lightning.Trainer:
    compiled = [CompiledBlocks()] if fitting.compile else []
    callbacks = [recorder, StageProgress(label), *compiled]
    own = {**OWN, "max_epochs": stage.epochs, "callbacks": callbacks}
    return lightning.Trainer(
        **_environment() | fitting.trainer | own | {"precision": fitting.precision}
    )


def _environment() -> dict[str, Any]:
    """The processes are ours, or torchrun's: Lightning must not count the tasks of a SLURM job."""
    return {} if TorchElasticEnvironment.detect() else {"plugins": [LightningEnvironment()]}


def check_trainer(options: dict[str, Any]) -> None:
    """Check the options of the trainer before anything is written.

    Raises:
        UserError: Lightning does not take them, or they are the engine's own.
    """
    if taken := sorted({*OWN, "max_epochs", "callbacks"} & options.keys()):
        raise UserError(f"trainer.{taken[0]}: the run sets it itself; for the length, set epochs=N")
    asked = options["precision"]
    if str(asked) not in PRECISIONS:
        raise UserError(f"trainer.precision={asked}: give {', '.join(PRECISIONS)}")
    if options.get("check_val_every_n_epoch", 1) != 1 or options.get("limit_val_batches", 1) == 0:
        raise UserError(
            "trainer: the best epoch is chosen by validating every one; leave out "
            "check_val_every_n_epoch and limit_val_batches=0"
        )
    precision = "32-true" if asked == "auto" else asked
    try:
        lightning.Trainer(**_environment() | OWN | options | {"precision": precision})
    except (ValueError, TypeError, RuntimeError, MisconfigurationException) as error:
        raise UserError(f"trainer: Lightning's Trainer does not take that: {error}") from None


def _ignore_chatter() -> None:
    for message in (".*many workers.*", ".*in eval mode at the start.*", ".*LeafSpec.*"):
        warnings.filterwarnings("ignore", message)


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
