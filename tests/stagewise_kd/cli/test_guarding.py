import signal
import time
import warnings

import pytest

from stagewise_kd.cli.guarding import INTERRUPTED, guarded
from stagewise_kd.system.errors import IncompleteError, UserError


def interrupted_import() -> None:
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise RecursionError("half of a module") from None


def interrupted_callback() -> None:
    class Freed:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    Freed()
    time.sleep(10)
    pytest.fail("the interrupt was dropped")


def raise_it(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("work", "status", "said"),
    [
        (lambda: None, 0, ""),
        (lambda: raise_it(UserError("bad")), 2, "error: bad\n"),
        (lambda: raise_it(IncompleteError("one of two")), 1, "error: one of two\n"),
        (interrupted_import, 1, f"{INTERRUPTED}\n"),
        (interrupted_callback, 1, f"{INTERRUPTED}\n"),
    ],
)
def test_status_and_one_line(capsys, work, status, said):
    before = signal.getsignal(signal.SIGINT)
    assert guarded(work) == status
    assert capsys.readouterr().err == said
    assert signal.getsignal(signal.SIGINT) is before


def test_a_fault_of_ours_keeps_its_traceback():
    with pytest.raises(RecursionError):
        guarded(lambda: raise_it(RecursionError()))


def test_warnings_of_libraries_have_no_source_lines(capsys):
    def work() -> None:
        warnings.simplefilter("default")
        warnings.warn("too large\nby far", RuntimeWarning, stacklevel=1)

    assert guarded(work) == 0
    assert capsys.readouterr().err == "warning: too large\n"
