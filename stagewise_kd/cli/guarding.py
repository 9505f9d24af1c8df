"""How every command ends: well, with one line, or with a traceback that is ours to mend."""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from stagewise_kd.system.errors import IncompleteError, UserError

INTERRUPTED = "interrupted; the same command goes on where it was last saved"


def guarded(work: Callable[[], object]) -> int:
    """Run a command: 0 when it ends well, 2 with one clear message for bad input.

    Anything else keeps its traceback and ends with status 1.
    """
    with _interrupts() as interrupts, _warnings_in_one_line():
        try:
            work()
            sys.stdout.flush()
        except UserError as error:
            return _say(f"error: {error}", 2)
        except IncompleteError as error:
            return _say(f"error: {error}", 1)
        except (Exception, KeyboardInterrupt) as error:
            # An import that is interrupted may fail with nearly anything.
            if interrupts or isinstance(error, KeyboardInterrupt):
                return _say(INTERRUPTED, 1)
            if message := _from_hydra(error):
                return _say(f"error: {message}", 2)
            if isinstance(error, BrokenPipeError) and _unread():
                return 1
            raise
    return 0


def _unread() -> bool:
    """Whether what reads our output, such as `head`, has seen enough and is gone."""
    try:
        print(flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # of what is left in it
        return True
    return False


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Notes Ctrl-C, which is raised as ever, and again where Python would drop it."""
    found: list[int] = []

    def note(number: int, frame: Any) -> None:
        found.append(number)
        signal.default_int_handler(number, frame)

    def again(dropped: Any) -> None:
        # What is raised in a callback goes no further, and every import has some.
        if dropped.exc_type is KeyboardInterrupt:
            threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT)).start()
        else:
            hook(dropped)

    before, hook = signal.signal(signal.SIGINT, note), sys.unraisablehook
    sys.unraisablehook = again
    try:
        yield found
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGINT, before)


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Shows warnings of libraries without the lines of code that they come from."""

    def show(message: Warning | str, *place: Any, **more: Any) -> None:
        print(f"warning: {str(message).strip().splitlines()[0]}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        for of_no_use in ("Glyph .* missing from", "Palette images with Transparency"):
            warnings.filterwarnings("ignore", of_no_use)
        yield


def _say(message: str, status: int) -> int:
    if int(os.environ.get("RANK", 0)) == 0:
        print(message, file=sys.stderr)
    return status


def _from_hydra(error: BaseException) -> str | None:
    """What Hydra or OmegaConf has to say of a config, in one line."""
    if not {type(error).__module__.split(".")[0]} & {"hydra", "omegaconf"}:
        return None
    if isinstance(error.__cause__, UserError):
        return str(error.__cause__)
    text = str(error).split("Config search path")[0]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(line for line in lines if not line.startswith(("full_key", "object_type")))
