"""Compiled blocks, where the machine can compile."""

from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from stagewise_kd.system.console import console
from stagewise_kd.system.processes import rank
from stagewise_kd.training.stage_module import StageModule, put_back

VARIANTS = 64  # of one block's code: which block, batch size, train or eval


class CompiledBlocks(Callback):
    """Compiles the blocks that a stage trains, on a GPU into CUDA graphs, until the stage ends.

    A pass forward and backward and one of validation on the first batch, whose effects are undone,
    tell whether that works. Where it does not, one line says so and the blocks stay as they are.
    """

    def __init__(self) -> None:
        self._tried = False

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Compile before the first step."""
        if not self._tried:
            self._tried = True
            gpu = [pl_module.device] if pl_module.device.type == "cuda" else []
            # a resumed run tries again, and then draws what a straight one draws
            with torch.random.fork_rng(gpu):
                self._compile(trainer, pl_module, batch)
        _next_step(pl_module)

    def on_validation_batch_start(
        self,
        trainer: lightning.Trainer,
        pl_module: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Let the graphs of the step before go."""
        _next_step(pl_module)

    def _compile(self, trainer: lightning.Trainer, pl_module: Any, batch: Any) -> None:
        before = pl_module.trained_tensors()
        torch._dynamo.config.recompile_limit = VARIANTS
        # A graph's next replay overwrites its gradients: they cannot be added up over steps.
        graphs = pl_module.device.type == "cuda" and trainer.accumulate_grad_batches == 1
        for block in pl_module.trained:
            block.compile(mode="reduce-overhead" if graphs else "default")
        try:
            _next_step(pl_module)
            with trainer.precision_plugin.forward_context():
                terms, _ = pl_module.losses(batch)
            sum(terms.values()).backward()
            with trainer.precision_plugin.forward_context(), torch.no_grad():
                pl_module.eval().losses(batch)
        except Exception as error:  # compilers and the tools they call raise many kinds
            _plain(pl_module)
            if rank() == 0:
                console.print(
                    f"{pl_module.stage.name}: compile=true does not work here "
                    f"({type(error).__name__}); going on without",
                    soft_wrap=True,
                )
        finally:
            pl_module.train()
            put_back(before, pl_module.student, pl_module.adapters, strict=False)
            pl_module.zero_grad()

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Leave the network as it was."""
        pl_module.zero_grad()  # gradients of a graph do not outlive it
        _plain(pl_module)
        torch._dynamo.reset()  # the next stage has variants of its own


def _next_step(module: StageModule) -> None:
    """Tell CUDA graphs that what the steps before gave is no longer read."""
    if module.device.type == "cuda":
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]


def _plain(module: StageModule) -> None:
    for block in module.trained:
        block._compiled_call_impl = None
