import argparse
import pickle

import pytest
import torch
from torch import nn

from stagewise_kd.system.errors import UserError
from stagewise_kd.system.files import write_whole, writing_into
from stagewise_kd.system.weights import load_weights, read_weights, write_tensors


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")

    def fail(temporary):
        temporary.write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_whole(path, fail)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("x.txt", "old")]


@pytest.mark.parametrize("prefix", ["", "model.", "module.", "student.model."])
@pytest.mark.parametrize("nested", [False, True])
def test_prefixes_and_nesting(tmp_path, prefix, nested):
    source, target = nn.Sequential(nn.Linear(2, 3)), nn.Sequential(nn.Linear(2, 3))
    weights = {f"{prefix}{key}": value for key, value in source.state_dict().items()}
    torch.save({"state_dict": weights, "epoch": 3} if nested else weights, tmp_path / "w.pt")
    load_weights(target, read_weights(tmp_path / "w.pt"), "w.pt")
    assert target[0].weight.equal(source[0].weight)


def test_arguments_of_the_training_script_beside_the_weights(tmp_path):
    weights = nn.Linear(2, 3).state_dict()
    torch.save({"model": weights, "args": argparse.Namespace(lr=0.1)}, tmp_path / "w.pt")
    assert read_weights(tmp_path / "w.pt")["weight"].equal(weights["weight"])


def test_batchnorm_without_step_counters():
    source, target = (nn.Sequential(nn.BatchNorm2d(2)) for _ in range(2))
    source[0].running_mean += 1
    weights = source.state_dict()
    del weights["0.num_batches_tracked"]
    load_weights(target, weights, "w.pt")
    assert target[0].running_mean.equal(source[0].running_mean)
    del weights["0.running_var"]
    with pytest.raises(UserError, match=r"missing 0.running_var;"):
        load_weights(target, weights, "w.pt")


def test_safetensors_round_trip(tmp_path):
    weights = nn.Linear(2, 3).state_dict()
    write_tensors(tmp_path / "w.safetensors", weights)
    assert read_weights(tmp_path / "w.safetensors")["weight"].equal(weights["weight"])


def test_mismatch_names_the_first_keys_and_loads_nothing():
    target = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    before = target[0].weight.clone()
    weights = {
        "0.weight": torch.zeros(3, 2),
        "0.bias": torch.zeros(4),
        "1.weight": torch.zeros(1, 3),
        "2.bias": torch.zeros(1),
    }
    with pytest.raises(UserError) as caught:
        load_weights(target, weights, "w.pt")
    message = str(caught.value)
    assert "missing 1.bias" in message
    assert "unexpected 2.bias" in message
    assert "0.bias is (4,), expected (3,)" in message
    assert target[0].weight.equal(before)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("the pickle was run",))


def test_a_pickle_that_is_no_checkpoint_is_not_run(tmp_path):
    (tmp_path / "w.pt").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError, match="not a checkpoint that can be read safely"):
        read_weights(tmp_path / "w.pt")


def test_damaged_safetensors(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0not json")
    with pytest.raises(UserError, match="not a readable safetensors file"):
        read_weights(tmp_path / "w.safetensors")


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_folder_that_cannot_be_written(tmp_path, name):
    (tmp_path / "file").write_text("")
    said = f"{name}: cannot be written .*; give an --out that can"
    with pytest.raises(UserError, match=said), writing_into(tmp_path / name):
        pytest.fail("the folder is not there")


def test_missing_file_and_no_tensors(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_weights(tmp_path / "w.pt")
    torch.save({"epoch": 1}, tmp_path / "w.pt")
    with pytest.raises(UserError, match="holds no tensors"):
        read_weights(tmp_path / "w.pt")
