"""Plans of the methods that stagewise distillation is compared with."""

import pytest

from stagewise_kd.methods.attention_transfer import attention_transfer
from stagewise_kd.methods.cwd import cwd
from stagewise_kd.methods.dkd import dkd
from stagewise_kd.methods.fitnets import fitnets
from stagewise_kd.methods.fsp import fsp
from stagewise_kd.methods.netgraft import netgraft
from stagewise_kd.methods.simkd import simkd
from stagewise_kd.methods.stagewise import stagewise
from stagewise_kd.runs.method import within_budget
from stagewise_kd.system.errors import UserError
from tests.conftest import tiny_net
from tests.stagewise_kd.methods.test_checks import tokens


def measured(*nets, shape=(3, 16, 16)):
    for net in nets:
        net.measure(shape)
    return nets


def config(method: str, budget: str = "matched") -> dict:
    target = f"stagewise_kd.methods.{method}.{method}"
    return {"method": {"_target_": target}, "budget": budget, "epochs": 5, "steps": None}


def test_a_hint_then_what_is_left(task):
    hint, last = fitnets(task, tiny_net(), tiny_net(6), epochs=1, match=[("a", "a")], frozen=True)
    assert (hint.trains, last.trains) == (("a",), ("b", "head"))
    assert [term.weight for term in last.terms] == pytest.approx([0.2, 0.8])
    _, whole = fitnets(task, tiny_net(), tiny_net(), epochs=1, label_weight=1)
    assert whole.trains == ("a", "b", "head")
    assert [term.name for term in whole.terms] == ["labels"]


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("hinton", ["labels", "logits"]),
        ("dkd", ["labels", "logits"]),
        ("dist", ["labels", "logits"]),
        (None, ["labels"]),
    ],
)
def test_the_head_learns_logits_beside_labels(task, name, terms):
    *features, head = stagewise(task, tiny_net(), tiny_net(), epochs=1, head_kd=name)
    assert [stage.name for stage in features] == ["a", "b"]
    assert (head.name, head.trains) == ("head", ("head",))
    assert [term.name for term in head.terms] == terms


def test_finetuning_on_logits_of_a_method_needs_no_label(task):
    options = {"head": "teacher", "finetune": "logits", "head_kd": "dkd"}
    plan = stagewise(task, tiny_net(), tiny_net(), epochs=1, **options)
    assert [stage.name for stage in plan] == ["a", "b", "finetune"]
    assert not any(stage.sees_labels for stage in plan)
    assert plan[-1].terms[0].loss.func.__name__ == "decoupled"
    both = stagewise(task, tiny_net(), tiny_net(), epochs=1, finetune="both", head_kd="dkd")
    assert [term.labels for term in both[-1].terms] == [False, True]


def test_what_the_head_cannot_learn(task):
    with pytest.raises(UserError, match="head_kd=fsp: learns from features"):
        stagewise(task, tiny_net(), tiny_net(), epochs=1, head_kd="fsp")
    with pytest.raises(UserError, match="nothing learns from logits; set method"):
        stagewise(task, tiny_net(), tiny_net(), epochs=1, head_kd="dkd", head="teacher")
    with pytest.raises(UserError, match="method='dk': there are"):
        stagewise(task, tiny_net(), tiny_net(), epochs=1, head_kd="dk")


def test_stages_of_a_method_share_the_budget(task):
    """Five epochs a stage, three stages of stagewise: fifteen epochs of all."""
    nets = tiny_net(), tiny_net()
    plans = {
        "netgraft": netgraft(task, *nets, epochs=5),
        "fsp": fsp(task, *nets, epochs=5),
        "dkd": dkd(task, *nets, epochs=5),
        "stagewise": stagewise(task, *nets, epochs=5, finetune_epochs=2),
    }
    found = {
        name: [stage.epochs for stage in within_budget(plan, config(name), 3)]
        for name, plan in plans.items()
    }
    assert found == {
        "netgraft": [5, 5, 5],
        "fsp": [8, 7],
        "dkd": [15],
        "stagewise": [5, 5, 5, 2],
    }
    assert within_budget(plans["fsp"], config("fsp", "paper"), 3) == plans["fsp"]


def test_a_stage_has_an_epoch_at_least(task):
    plan = netgraft(task, tiny_net(), tiny_net(), epochs=1)
    few = config("netgraft") | {"epochs": 1}
    assert [stage.epochs for stage in within_budget(plan, few, 1)] == [1, 1, 1]


@pytest.mark.parametrize("method", [attention_transfer, fsp, cwd])
def test_tokens_are_no_maps(task, method):
    nets = measured(tokens(4), tokens(4), shape=(3, 5, 5))
    with pytest.raises(UserError, match=r"'tokens.0', \(25, 4\), is no map .* but tokens"):
        method(task, *nets, epochs=1, match=[("tokens.0", "tokens.0")])


def test_what_the_methods_say_they_lack(task):
    with pytest.raises(UserError, match="one alone is matched"):
        fsp(task, tiny_net(), tiny_net(), epochs=1, match=[("a", "a")])
    small = measured(tiny_net(), tiny_net(), shape=(3, 2, 2))
    with pytest.raises(UserError, match="all matched features are of one place"):
        cwd(task, *small, epochs=1)
    for method in (simkd, netgraft):
        words = f"method={method.__name__} keeps the teacher's head: the teacher's 'head' does not"
        with pytest.raises(UserError, match=words):
            method(task, tiny_net(), tiny_net(6), epochs=1)
