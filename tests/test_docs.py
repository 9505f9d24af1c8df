import json
import re
from pathlib import Path

import pytest
import torch

import cls_kd
from stagewise_kd.methods.method import method_names
from tests.conftest import Pictures, tiny_net

METHODS = (Path(__file__).resolve().parents[1] / "docs" / "methods.md").read_text()


@pytest.mark.parametrize("name", method_names())
def test_every_method_is_told_with_a_formula_and_a_command(name):
    part = METHODS.split(f"\n## {name}\n")[1].split("\n## ")[0]
    assert re.search(rf"^    (cls|seg)-kd run .*method={name}\b", part, re.MULTILINE)
    assert f"| `{name}` |" in METHODS


def test_the_method_of_ones_own_runs(tmp_path):
    first, second = re.findall(r"```python\n(.*?)```", METHODS, re.DOTALL)
    given = {
        "cls_kd": cls_kd,
        "student": tiny_net(),
        "teacher": tiny_net(6),
        "train": Pictures(32, 0),
    }
    torch.manual_seed(0)
    exec(first, given)
    assert len(first.split("def similarity")[1].splitlines()) <= 20
    exec(second.replace("gamma=", f"epochs=1, out={str(tmp_path / 'run')!r}, gamma="), given)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert [stage["name"] for stage in result["stages"]] == ["similar"]
    assert result["method"] == "similar"
