"""A W&B run whose files all lie in one folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stagewise_kd.system.errors import UserError
from stagewise_kd.system.packages import missing

if TYPE_CHECKING:
    import wandb

Mode = Literal["offline", "online"]


def check_installed(package: Literal["wandb", "tensorboard"]) -> None:
    """Raise a `UserError` that says how to install a package, if it is missing."""
    if missing(package):
        raise UserError(
            f"{package} is not installed; run pip install 'stagewise-kd[{package}]', "
            "or track with tracker=csv"
        )


def check_mode(mode: str) -> None:
    """Raise a `UserError` where a mode is unknown."""
    if mode not in ("offline", "online"):
        raise UserError(f"wandb.mode={mode}: give offline or online")


def check_account(mode: Mode) -> None:
    """Raise a `UserError` where a run is to be sent and W&B knows nobody to send it for."""
    if mode == "offline":
        return
    import wandb

    # Older ones know no such argument, and ask on a terminal alone.
    quiet: dict[str, Any] = {"prompt": False}
    try:
        known = wandb.login(**(quiet if "prompt" in signature(wandb.login).parameters else {}))
        reason = "no API key is set"
    except wandb.Error as error:
        known, reason = False, str(error)
    if not known:
        raise UserError(f"wandb.mode=online: {reason}; run wandb login, or set wandb.mode=offline")


def start(folder: Path, mode: Mode, **options: Any) -> "wandb.Run":
    """Start a W&B run that keeps its files in `folder`/wandb; offline it needs no account.

    Args:
        folder: an existing one.
        mode: offline or online.
        options: of `wandb.init`: project, group, name, config, …

    Raises:
        UserError: wandb is missing, the mode is unknown, or W&B refuses the run.
    """
    check_installed("wandb")
    check_mode(mode)
    import wandb

    settings = wandb.Settings(
        console="off", silent=mode == "offline", disable_git=True, save_code=False
    )
    with files_in(folder):
        try:
            return wandb.init(
                dir=folder, mode=mode, reinit="finish_previous", settings=settings, **options
            )
        except wandb.Error as error:
            raise UserError(
                f"wandb: {error}; see wandb login, or choose wandb.mode=offline"
            ) from None


def stop(run: "wandb.Run") -> None:
    """Finish a W&B run, and its background process with it: the next run has its own folder."""
    import wandb

    run.finish()
    wandb.teardown()


@contextmanager
def files_in(folder: Path) -> Iterator[None]:
    """Keep what W&B would put into the home folder in `folder`, unless the user says where."""
    places = {
        "WANDB_CACHE_DIR": folder / "wandb" / "cache",
        "WANDB_DATA_DIR": folder / "wandb" / "data",
    }
    ours = {name: str(path.absolute()) for name, path in places.items() if name not in os.environ}
    os.environ |= ours
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]
