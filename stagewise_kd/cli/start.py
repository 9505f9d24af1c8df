"""The first moments of a command, before what it needs is imported."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

P = ParamSpec("P")


def interruptible(main: Callable[P, None]) -> Callable[P, None]:
    """Let Ctrl-C end an entry point, imports and all, in one line and with status 1."""

    @wraps(main)
    def ready(*args: P.args, **options: P.kwargs) -> None:
        try:
            main(*args, **options)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(1)

    return ready
