"""The Lightning module that trains one stage."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from inspect import signature
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from stagewise_kd.blocks import IMAGE, LOGITS, BlockNet
from stagewise_kd.plan import Stage
from stagewise_kd.task import Task

Optimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
Scheduler = Callable[..., torch.optim.lr_scheduler.LRScheduler]
Batch = tuple[dict[str, Tensor], Tensor]


def unit_images(images: Tensor) -> Tensor:
    """Images uint8 (B, C, H, W) as float in [0, 1], channels last."""
    return images.to(dtype=torch.float32, memory_format=torch.channels_last).div_(255)


class StageModule(lightning.LightningModule):
    """Trains the blocks of one stage; everything else stays as it is, bit for bit.

    Args:
        stage: what trains, and against what.
        student: the whole student.
        teacher: the trained network, or None.
        adapters: 1×1 convolutions by the name of their term.
        task: label loss and metrics.
        optimizer: makes the optimizer from the parameters that train.
        scheduler: makes the schedule from the optimizer, stepped with every batch; it is given
            `total_steps`, `T_max` or `total_iters` where it has such a parameter.
        seed: of everything random but the views, which the loader draws.
    """

    def __init__(
        self,
        stage: Stage,
        student: BlockNet,
        teacher: BlockNet | None,
        adapters: nn.ModuleDict,
        task: Task,
        optimizer: Optimizer,
        scheduler: Scheduler | None,
        seed: int,
    ) -> None:
        super().__init__()
        self.stage = stage
        self.student = student
        self.adapters = adapters
        self.trained = student.modules_of(stage.trains)
        self.metrics = task.metrics() if self._scores_labels(stage) else None
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._seed = seed
        # In a tuple, so that the teacher is no submodule: never trained, wrapped or saved with us.
        self._teacher = (teacher,) if teacher is not None else ()
        self._until = {term.student for term in stage.terms}
        self._targets = {term.teacher for term in stage.terms if term.teacher is not None}
        student.requires_grad_(False)
        for module in self.trained:
            module.requires_grad_(True)
        self.train()

    @staticmethod
    def _scores_labels(stage: Stage) -> bool:
        return any(term.student == LOGITS for term in stage.terms)

    def train(self, mode: bool = True) -> "StageModule":
        """Set train mode on the blocks that train only: frozen BatchNorm must not drift."""
        super().train(mode)
        self.student.eval()
        for module in self.trained:
            module.train(mode)
        return self

    def on_fit_start(self) -> None:
        """Bring the teacher to the student's device."""
        for teacher in self._teacher:
            teacher.to(self.device).eval().requires_grad_(False)

    def on_train_epoch_start(self) -> None:
        """Give each epoch its own seed, so that a resumed run draws what a straight one draws."""
        torch.manual_seed(self._seed + self.current_epoch)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        """Turn uint8 images into what a step starts from."""
        images, labels = batch
        return {IMAGE: unit_images(images)}, labels

    def losses(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Weighted terms by name, and the student's features that they are made of."""
        given, labels = batch
        targets: dict[str, Tensor] = {}
        for teacher in self._teacher:
            with torch.no_grad():
                targets = teacher.features(given, self._targets)
        features = self.student.features(given, self._until, self.stage.cut)
        return {
            term.name: term.weight
            * term.loss(
                self.adapt(term.name, features[term.student]),
                labels if term.teacher is None else targets[term.teacher],
            )
            for term in self.stage.terms
        }, features

    def adapt(self, term: str, feature: Tensor) -> Tensor:
        """The feature in the teacher's width."""
        return self.adapters[term](feature) if term in self.adapters else feature

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Sum of the terms."""
        terms, _ = self.losses(batch)
        loss = torch.stack(list(terms.values())).sum()
        self._log("train", {**terms, "loss": loss}, batch)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the terms, and score the logits where the stage makes any."""
        terms, features = self.losses(batch)
        self._log("val", {**terms, "loss": torch.stack(list(terms.values())).sum()}, batch)
        if self.metrics is not None:
            self.metrics.update(features[LOGITS].float(), batch[1])

    def on_validation_epoch_end(self) -> None:
        """Log the task's metrics of the whole split."""
        if self.metrics is not None:
            self.log_dict({f"val/{name}": value for name, value in self.metrics.compute().items()})
            self.metrics.reset()

    def configure_optimizers(self) -> Any:
        """Optimizer and schedule over what the stage trains, adapters included."""
        optimizer = self._optimizer([p for p in self.parameters() if p.requires_grad])
        if self._scheduler is None:
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        takes = signature(getattr(self._scheduler, "func", self._scheduler)).parameters
        length = {key: steps for key in ("total_steps", "T_max", "total_iters") if key in takes}
        scheduler = self._scheduler(optimizer, **length)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def _log(self, split: str, values: dict[str, Tensor], batch: Batch) -> None:
        self.log_dict(
            {f"{split}/{name}": value for name, value in values.items()},
            on_step=False,
            on_epoch=True,
            sync_dist=True,
            batch_size=len(batch[1]),
        )


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """The autocast of a Lightning precision ("bf16-mixed", …), for forward passes of our own."""
    kinds = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
    if precision not in kinds:
        return nullcontext()
    return torch.autocast(device.type, dtype=kinds[precision])


def fastest_precision(device: torch.device) -> str:
    """Lightning's name of the fastest precision of a device that costs no accuracy.

    Convolutions in bfloat16 take about 0.6 of the time on CPUs and GPUs that have it, and several
    times as long on those that emulate it.
    """
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        cpu: Any = torch.cpu
        fast = device.type == "cpu" and (
            cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported()
        )
    return "bf16-mixed" if fast else "32-true"
