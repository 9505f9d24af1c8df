"""The Lightning module that trains one stage."""

from collections.abc import Iterable
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from stagewise_kd.data.batches import ready
from stagewise_kd.data.loaders import Batch
from stagewise_kd.methods.checks import into
from stagewise_kd.methods.plan import Stage
from stagewise_kd.methods.task import Task
from stagewise_kd.methods.terms import loss_of
from stagewise_kd.networks.blocks import LOGITS, BlockNet
from stagewise_kd.training.optimizing import Optimizer, Scheduler, scheduled


class StageModule(lightning.LightningModule):
    """Trains the blocks of one stage; everything else stays as it is, bit for bit.

    Args:
        stage: what trains, and against what.
        student: the whole student.
        teacher: the trained network, or None.
        adapters: 1×1 convolutions by the name of their term.
        task: label loss and metrics.
        optimizer: makes the optimizer from the parameters that train.
        scheduler: makes the schedule from the optimizer, stepped with every batch; see `scheduled`.
        seed: of everything random but the views, which the loader draws.
        steps: of the optimizer; None: those that Lightning expects.
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
        steps: int | None = None,
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
        self._steps = steps
        # In a tuple, so that the teacher is no submodule: never trained, wrapped or saved with us.
        self._teacher = (teacher,) if teacher is not None else ()
        self._inputs = stage.inputs(student)
        self._wanted = stage.taken(student, teacher) if teacher is not None else set()
        self._cut = stage.features if stage.cut else ()
        self._sums: dict[str, Any] = {"train": 0, "val": 0}
        self._trained_names = names_of(student.model, self.trained)
        self.strict_loading = False  # a checkpoint holds what the stage trains, no more
        student.requires_grad_(False)
        for module in self.trained:
            module.requires_grad_(True)
        self.train()

    @staticmethod
    def _scores_labels(stage: Stage) -> bool:
        return stage.sees_labels and LOGITS in stage.features

    def train(self, mode: bool = True) -> "StageModule":
        """Set train mode on the blocks that train only: frozen BatchNorm must not drift."""
        super().train(mode)
        self.student.eval()
        for module in self.trained:
            module.train(mode)
        if self.stage.norm == "frozen":
            for part in (part for module in self.trained for part in module.modules()):
                if isinstance(part, _BatchNorm):
                    part.eval()
        return self

    def on_validation_model_train(self) -> None:
        """Set the modes after validation, those of the blocks too, which Lightning cannot see."""
        self.train()

    def on_fit_start(self) -> None:
        """Bring the teacher to the student's device."""
        for teacher in self._teacher:
            teacher.to(self.device).eval().requires_grad_(False)

    def on_train_epoch_start(self) -> None:
        """Give each epoch its own seed, so that a resumed run draws what a straight one draws."""
        torch.manual_seed(self._seed + self.current_epoch)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        """Give both networks the image and, in the precision of the run, the cached features."""
        return ready(batch, "mixed" in str(self.trainer.precision))

    def losses(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Weighted terms by name, and the student's features that they are made of."""
        targets: dict[str, Tensor] = {}
        for teacher in self._teacher:
            with torch.no_grad():
                targets = teacher.features(batch.teacher, self._wanted)
        features = self._features(batch.student, targets)
        given = (features, targets, batch.labels, self.adapters, *(self._teacher or (None,)))
        return {
            term.name: term.weight * loss_of(term, *given) for term in self.stage.terms
        }, features

    def _features(self, given: dict[str, Tensor], theirs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The student's features that the terms are made of, from its own or the teacher's."""
        if self.stage.fed == "student":
            return self.student.features(given, self.stage.features, self._cut)
        stand = {n: self._adapt(into(n), theirs[source]) for n, source in self._inputs.items()}
        found: dict[str, Tensor] = {}
        for name in self.stage.features:
            others = {key: value for key, value in (given | stand).items() if key != name}
            found |= self.student.features(others, {name})
        return found

    def _adapt(self, name: str, feature: Tensor) -> Tensor:
        """A feature behind the adapter of this name, where there is one."""
        return self.adapters[name](feature) if name in self.adapters else feature

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Sum of the terms."""
        return self._add("train", self.losses(batch)[0], batch)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count the terms, and score the logits where the stage makes any."""
        terms, features = self.losses(batch)
        self._add("val", terms, batch)
        if self.metrics is not None:
            self.metrics.update(features[LOGITS].float(), batch.labels)

    def on_train_epoch_end(self) -> None:
        """Log the means of the epoch."""
        self._log_means("train")

    def on_validation_epoch_end(self) -> None:
        """Log the means and the task's metrics of the whole split."""
        self._log_means("val")
        if self.metrics is not None:
            self.log_dict({f"val/{name}": value for name, value in self.metrics.compute().items()})
            self.metrics.reset()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the stage trains; the rest lies in the best epoch of the stage before."""
        kept = {f"student.model.{name}" for name in self._trained_names}
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {
            key: value for key, value in state.items() if key in kept or key.startswith("adapters.")
        }

    def trained_tensors(self) -> dict[str, Tensor]:
        """Copies of what the stage trains, under "model." and "adapters."."""
        model = self.student.model.state_dict()
        found = {f"model.{name}": model[name] for name in self._trained_names}
        found |= {f"adapters.{name}": value for name, value in self.adapters.state_dict().items()}
        return {name: value.detach().to("cpu", copy=True) for name, value in found.items()}

    def configure_optimizers(self) -> Any:
        """Optimizer and schedule over what the stage trains, adapters included."""
        optimizer = self._optimizer([p for p in self.parameters() if p.requires_grad])
        if self._scheduler is None:
            return optimizer
        steps = self._steps or int(self.trainer.estimated_stepping_batches)
        schedule = scheduled(optimizer, self._scheduler, steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _add(self, split: str, terms: dict[str, Tensor], batch: Batch) -> Tensor:
        """Add a batch to the sums of its split, on the device; gives the sum of the terms."""
        # in bfloat16, which a loss of one's own may be, a sum of an epoch ends at some hundreds
        values = torch.stack([value.float() for value in terms.values()])
        figures = torch.cat((values.detach(), values.new_ones(1)))
        self._sums[split] = self._sums[split] + figures * len(batch.labels)
        return values.sum()

    def _log_means(self, split: str) -> None:
        sums, self._sums[split] = self._sums[split], 0
        *totals, count = self.trainer.strategy.reduce(sums, reduce_op="sum")
        means = {
            term.name: total / count for term, total in zip(self.stage.terms, totals, strict=True)
        }
        means["loss"] = sum(means.values())
        self.log_dict({f"{split}/{name}": value for name, value in means.items()})


def put_back(
    tensors: dict[str, Tensor], student: BlockNet, adapters: nn.ModuleDict, strict: bool = True
) -> None:
    """Load what lies under "model." into the student and under "adapters." into the adapters.

    Raises:
        RuntimeError: tensors are missing, unless not `strict`, or do not fit.
    """
    for module, prefix in ((student.model, "model."), (adapters, "adapters.")):
        part = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        module.load_state_dict(part, strict=strict)


def names_of(model: nn.Module, parts: Iterable[nn.Module]) -> list[str]:
    """Names in a model's state dict of what its submodules hold."""
    held = {id(t) for part in parts for t in (*part.parameters(), *part.buffers())}
    kept = model.state_dict(keep_vars=True)  # without buffers that are not persistent
    return [name for name, tensor in kept.items() if id(tensor) in held]
