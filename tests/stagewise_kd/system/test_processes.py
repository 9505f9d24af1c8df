"""Several processes on one run."""

import subprocess
import sys

WATCHED = """
import subprocess, sys, threading, time
from stagewise_kd.system.processes import _watch

child = subprocess.Popen([sys.executable, "-c", "raise SystemExit({status})"])
ended = threading.Event()
threading.Thread(target=_watch, args=([child], ended, 0.1), daemon=True).start()
time.sleep({seconds})
ended.set()
"""


def watched(**values: int) -> subprocess.CompletedProcess[str]:
    code = WATCHED.format(**values)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=90)


def test_a_process_that_would_wait_for_a_failed_one_ends():
    found = watched(status=3, seconds=80)
    assert found.returncode == 1
    assert found.stderr == "another process of this run has failed; see its message\n"


def test_one_that_has_ended_well_ends_nothing():
    assert watched(status=0, seconds=3).returncode == 0
