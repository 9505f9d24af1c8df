import argparse
import collections
import pathlib
import pickle

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from stagewise_kd.system.checkpoints import read_weights
from stagewise_kd.system.errors import UserError
from stagewise_kd.system.weights import write_tensors

WEIGHTS = nn.Linear(2, 3).state_dict()
SETTINGS = {"lr": 0.1, "names": ["a", {"b": None}], "rate": "${lr}", "root": pathlib.Path("x")}


@pytest.mark.parametrize(
    "beside",
    [
        argparse.Namespace(lr=0.1),
        pathlib.Path("runs/first"),
        pathlib.PureWindowsPath("c:/runs"),
        np.float64(0.5),
        np.array([1.5, 2.0]),
        OmegaConf.create(SETTINGS),
        collections.defaultdict(list, {"lr": [1]}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_training_scripts_keep_beside_the_weights(tmp_path, beside):
    torch.save({"state_dict": WEIGHTS, "beside": {"it": beside}, "epoch": 3}, tmp_path / "w.ckpt")
    found = read_weights(tmp_path / "w.ckpt")
    assert [*found] == ["state_dict.weight", "state_dict.bias"]
    assert found["state_dict.weight"].equal(WEIGHTS["weight"])


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("the pickle was run",))


class Settings:
    pass


def test_another_class_is_named_with_the_line_that_saves_the_weights(tmp_path):
    torch.save({"state_dict": WEIGHTS, "settings": Settings()}, tmp_path / "w.ckpt")
    with pytest.raises(UserError) as caught:
        read_weights(tmp_path / "w.ckpt")
    assert f"holds objects of {__name__}.Settings beside tensors" in str(caught.value)
    line = 'torch.save(torch.load("w.ckpt", weights_only=False)["state_dict"], "weights.pt")'
    assert str(caught.value).endswith(line)


def test_a_whole_network_is_refused_with_the_line_that_saves_its_weights(tmp_path):
    torch.save(nn.Linear(2, 3), tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"torch.nn.modules.linear.Linear .*\)\.state_dict\(\), "):
        read_weights(tmp_path / "w.pt")


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError, match="not a checkpoint that can be read safely"):
        read_weights(tmp_path / "plain.pt")
    torch.save({"state_dict": WEIGHTS, "bomb": Bomb()}, tmp_path / "zipped.pt")
    with pytest.raises(UserError, match="holds objects of _pytest"):
        read_weights(tmp_path / "zipped.pt")


def test_safetensors_round_trip(tmp_path):
    write_tensors(tmp_path / "w.safetensors", WEIGHTS)
    assert read_weights(tmp_path / "w.safetensors")["weight"].equal(WEIGHTS["weight"])


def test_damaged_safetensors(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0not json")
    with pytest.raises(UserError, match="not a readable safetensors file"):
        read_weights(tmp_path / "w.safetensors")


def test_missing_file_and_no_tensors(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_weights(tmp_path / "w.pt")
    torch.save({"epoch": 1}, tmp_path / "w.pt")
    with pytest.raises(UserError, match="holds no tensors"):
        read_weights(tmp_path / "w.pt")
