"""Help and messages about settings, which need not wait for torch."""

import re
import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from stagewise_kd.cli.help import run_help
from stagewise_kd.cli.hydra_app import _paths
from stagewise_kd.methods.method import method_names
from stagewise_kd.runs.composing import composing

SAY = """
import sys
from {front_end}_kd.cli import main
try:
    main(sys.argv[1:])
finally:
    assert not {{"torch", "lightning", "pandas"}} & {{*sys.modules}}
"""


@pytest.mark.parametrize("front_end", ["cls", "seg"])
def test_help_tells_every_setting_and_its_default(front_end):
    text = run_help(front_end)
    with composing(front_end) as compose:
        cfg = compose()
    inner = ("source", "optimizer", "scheduler", "augment", "tracker", "out", "name", "match")
    for path in _paths(OmegaConf.to_container(cfg, resolve=False)):
        value = OmegaConf.select(cfg, path)
        raw = path.split(".")
        if OmegaConf.is_config(value) or {*inner} & {*raw} or "_" in (raw[-1][0], raw[-1][-1]):
            continue
        if path in ("method.schedule", "method.resize"):  # those of the whole run
            continue
        assert f"  {path}=" in text, path
    assert "  epochs=10                          for each feature and the head; five at" in text
    choices = re.search(r"  method=((?:\S+\|\n? *)*\S+)\n", text)[1]
    assert re.split(r"\|\n? *", choices) == sorted(method_names(), key="stagewise".__ne__)
    assert max(map(len, text.splitlines())) <= 100


INTERRUPTED = """
import sys

class CtrlC:
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            raise KeyboardInterrupt

sys.meta_path.insert(0, CtrlC())
from {front_end}_kd.cli import main
main(["run"])
"""


@pytest.mark.parametrize("front_end", ["cls", "seg"])
@pytest.mark.parametrize("module", ["argparse", "hydra", "torch"])
def test_an_interrupted_import_ends_in_one_line(front_end, module, tmp_path):
    program = INTERRUPTED.format(module=module, front_end=front_end)
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (found.returncode, found.stdout) == (1, "")
    assert re.fullmatch("interrupted(; the same command goes on .*)?\n", found.stderr)
    assert not [*tmp_path.iterdir()]


def test_a_reader_that_has_seen_enough_gets_no_traceback(tmp_path):
    command = [sys.executable, "-m", "cls_kd", "run", "--help"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=tmp_path, text=True, **pipes) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


@pytest.mark.parametrize("front_end", ["cls", "seg"])
@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--help"], 0, "one experiment into one run folder; run --help tells the settings"),
        (["run", "--help"], 0, "Hydra's own: --cfg job shows the settings"),
        (["run", "data.fracton=1"], 2, "error: no setting is called 'data.fracton'; did you mean"),
        (["run", "student=resnet11"], 2, "error: Could not find 'student/resnet11'; there are "),
        (["run", "optimizer=sdg"], 2, "Could not find 'optimizer/sdg'; there are adam, adamw, sgd"),
        (["run", "student=null"], 2, "error: a choice cannot be null: give data=, student="),
        (["run", "epochs=0"], 2, "error: bad settings: epochs=0: give a whole number from 1 up"),
        (["run", "-m", "seed=0,1", "lr=fast"], 2, "error: study: bad settings: lr=fast"),
        (["shrink", "--out=x"], 2, "error: --out=x: settings are given without dashes, as out=x"),
        (["compare"], 2, "the following arguments are required: RUN"),
        (["squeeze"], 2, "invalid choice: 'squeeze'"),
    ],
)
def test_no_message_about_usage_imports_torch(front_end, arguments, status, words, tmp_path):
    command = [sys.executable, "-c", SAY.format(front_end=front_end), *arguments]
    found = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert found.returncode == status, found.stderr
    assert words in " ".join((found.stdout + found.stderr).split())
    assert not [*tmp_path.iterdir()]
