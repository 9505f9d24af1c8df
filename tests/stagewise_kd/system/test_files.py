import pytest
import torch
from torch import nn

from stagewise_kd.system.errors import UserError
from stagewise_kd.system.files import write_whole, writing_into
from stagewise_kd.system.weights import load_weights


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")

    def fail(temporary):
        temporary.write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_whole(path, fail)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("x.txt", "old")]


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


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_folder_that_cannot_be_written(tmp_path, name):
    (tmp_path / "file").write_text("")
    said = f"{name}: cannot be written .*; give an --out that can"
    with pytest.raises(UserError, match=said), writing_into(tmp_path / name):
        pytest.fail("the folder is not there")
