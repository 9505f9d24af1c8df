"""The exceptions that end a command with a message instead of a traceback."""

from collections.abc import Sequence


class UserError(Exception):
    """Bad input: the message names the thing, what arrived, what was expected and what to do."""


class IncompleteError(Exception):
    """Some of several things, such as the jobs of a study, were not done: says which, and why."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its kind where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def listed(values: Sequence[object], most: int = 10) -> str:
    """The first values, and how many more there are."""
    rest = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(map(str, values[:most])) + rest


def raise_faults(
    subject: str, faults: list[str], kind: type[UserError | IncompleteError] = UserError
) -> None:
    """Raise one error that lists every fault; do nothing when there is none."""
    if faults:
        shown = faults[0] if len(faults) == 1 else "\n  - ".join(["", *faults])
        raise kind(f"{subject}: {shown}")
