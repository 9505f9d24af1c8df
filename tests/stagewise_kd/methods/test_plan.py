import math

import pytest
import torch
from torch import nn

from stagewise_kd.data.samples import UNKNOWN
from stagewise_kd.methods.checks import check_plan
from stagewise_kd.methods.hinton import hinton
from stagewise_kd.methods.losses import mse
from stagewise_kd.methods.no_teacher import no_teacher
from stagewise_kd.methods.plan import LOSS, Stage, Term
from stagewise_kd.methods.simultaneous import simultaneous
from stagewise_kd.methods.stagewise import stagewise
from stagewise_kd.methods.usual import usual_options
from stagewise_kd.networks.blocks import Block, BlockNet, copy_block
from stagewise_kd.system.errors import UserError
from tests.conftest import conv, tiny_net

SHAPE = (3, 8, 8)


def match(name: str, adapter: str = "conv1x1", teacher: str | None = None) -> Stage:
    return Stage(name, (name,), (Term(name, mse, name, teacher or name, adapter=adapter),), 1, LOSS)


def test_features_at_once_say_what_their_epochs_come_of(task):
    at_once, one_by_one = (
        stagewise(task, tiny_net(), tiny_net(), epochs=10, schedule=schedule)
        for schedule in ("concurrent", "sequential")
    )
    assert [stage.epochs for stage in at_once] == [20, 10]
    titles = [stage.title for stage in at_once]
    assert titles == ["features (2 × 10 epochs)", "head"]
    assert [stage.title for stage in one_by_one] == ["a", "b", "head"]


def test_equal_widths_need_no_adapter():
    adapters = check_plan((match("a"),), tiny_net(), tiny_net(), SHAPE)
    assert len(adapters["a"]) == 0


def test_wider_teacher_gets_a_1x1_convolution():
    adapters = check_plan((match("b"),), tiny_net(4), tiny_net(6), SHAPE)
    adapter = adapters["b"]["b"]
    assert isinstance(adapter, nn.Conv2d)
    assert (adapter.in_channels, adapter.out_channels, adapter.kernel_size) == (8, 12, (1, 1))


def test_all_faults_are_listed_together():
    plan = (
        match("a", adapter="none"),
        match("b", teacher="nowhere"),
        Stage("c", ("c", "head"), (Term("a", mse, "a", "a"),) * 2, 0, LOSS),
    )
    with pytest.raises(UserError) as caught:
        check_plan(plan, tiny_net(4), tiny_net(6), SHAPE)
    message = str(caught.value)
    for fault in (
        "stage 'a': the student gives (4, 4, 4), the teacher (6, 4, 4); set adapter=conv1x1",
        "stage 'b': the teacher has no feature 'nowhere'",
        "stage 'c': 0 epochs",
        "stage 'c': terms a, a; give each once",
        "stage 'c' trains c; the student has a, b, head",
        "stage 'c': no term depends on head",
    ):
        assert fault in message


def test_other_strides_are_refused():
    with pytest.raises(UserError, match="only widths may differ"):
        check_plan((match("a"),), tiny_net(), tiny_net(stride=1), SHAPE)


def test_missing_teacher_is_named():
    with pytest.raises(UserError, match="the teacher is missing, term 'a' needs it"):
        check_plan((match("a"),), tiny_net(), None, SHAPE)


def test_network_that_cannot_take_the_image_is_named():
    model = nn.ModuleDict({"a": conv(1, 4)})
    grey = BlockNet(model, [Block("a", model["a"], ("image",))], [0.5], [0.5])
    with pytest.raises(UserError, match=r"the student cannot take images of \(3, 8, 8\)"):
        check_plan((), grey, None, SHAPE)


def test_stagewise_plan(task):
    plan = stagewise(task, tiny_net(), tiny_net(), epochs=2, finetune_epochs=3)
    assert [(s.name, s.trains, s.epochs) for s in plan] == [
        ("a", ("a",), 2),
        ("b", ("b",), 2),
        ("head", ("head",), 2),
        ("finetune", ("a", "b", "head"), 3),
    ]
    assert [stage.graftable for stage in plan] == [True, True, False, False]


@pytest.mark.parametrize(
    ("options", "terms", "monitor", "epochs"),
    [
        ({"finetune": "logits"}, ["logits"], "loss", 2),
        ({"finetune": "labels"}, ["labels"], "accuracy", 2),
        ({"finetune": "both", "finetune_epochs": 5}, ["labels", "logits"], "accuracy", 5),
    ],
)
def test_finetuning_on_labels_logits_or_both(task, options, terms, monitor, epochs):
    *_, last = stagewise(task, tiny_net(), tiny_net(), epochs=2, **options)
    assert [term.name for term in last.terms] == terms
    assert (last.monitor.name, last.epochs) == (monitor, epochs)
    assert last.sees_labels == ("labels" in terms)


def test_finetuning_on_what_there_is_not(task):
    with pytest.raises(UserError, match="finetune=soft: give logits, both, labels or null"):
        stagewise(task, tiny_net(), tiny_net(), epochs=1, finetune="soft")


@pytest.mark.parametrize(
    ("options", "needs"),
    [
        ({}, [False, True]),
        ({"head_kd": "hinton"}, [False, False]),
        ({"head_kd": "dkd"}, [False, True]),
    ],
)
def test_what_compares_with_the_teacher_learns_from_images_without_labels(task, options, needs):
    options = {"schedule": "concurrent"} | options
    plan = stagewise(task, tiny_net(), tiny_net(), epochs=1, **options)
    assert [stage.needs_labels for stage in plan] == needs
    assert [stage.sees_labels for stage in plan] == [False, True]


def test_images_without_labels_count_in_no_label_loss(task):
    logits = torch.tensor([[0.0, math.log(3), 0.0], [5.0, 0.0, 0.0]], requires_grad=True)
    loss = task.label_loss(logits, torch.tensor([1, UNKNOWN]))
    assert loss.item() == pytest.approx(-math.log(3 / 5))
    loss.backward()
    assert logits.grad[0].tolist() == pytest.approx([0.2, -0.4, 0.2])
    assert not logits.grad[1].any()
    assert task.label_loss(logits, torch.tensor([UNKNOWN, UNKNOWN])).item() == 0


def test_without_labels_options_that_are_open_ask_for_none():
    assert usual_options({"finetune_epochs": 3, "head": None}, labelled=False) == {
        "head": "teacher",
        "label_weight": 0.0,
        "labels": False,
        "finetune": "logits",
    }
    given = {"head": "labels", "label_weight": 0.5, "labels": True}
    assert usual_options(given, labelled=False) == {}


def test_images_without_labels_are_learned_from_by_logits(task):
    assert usual_options({}, labelled=True, more=True)["head_kd"] == "hinton"
    for given in ({"head": "teacher"}, {"head_kd": "none"}):
        assert "head_kd" not in usual_options(given, labelled=True, more=True)
    *_, last = stagewise(task, tiny_net(), tiny_net(), epochs=1, head_kd="none")
    assert [term.name for term in last.terms] == ["labels"]


def test_unmatched_features_train_with_the_head(task):
    plan = stagewise(task, tiny_net(), tiny_net(), epochs=1, n_features=1)
    assert [(stage.name, stage.trains) for stage in plan] == [
        ("a", ("a",)),
        ("head", ("b", "head")),
    ]


def test_head_of_the_teacher_is_copied_and_sees_no_label(task):
    student, teacher = tiny_net(seed=1), tiny_net(seed=2)
    plan = stagewise(task, student, teacher, epochs=1, head="teacher")
    assert [stage.name for stage in plan] == ["a", "b"]
    weights = [net.blocks["head"].module[2].weight for net in (student, teacher)]
    assert weights[0].equal(weights[1])


def test_head_of_a_wider_teacher_does_not_fit(task):
    with pytest.raises(UserError, match="the teacher's 'head' does not fit the student"):
        stagewise(task, tiny_net(4), tiny_net(6), epochs=1, head="teacher")


@pytest.mark.parametrize("count", [0, 3])
def test_n_features_out_of_range(task, count):
    with pytest.raises(UserError, match=f"n_features={count}: give 1 to 2"):
        stagewise(task, tiny_net(), tiny_net(), epochs=1, n_features=count)


def test_baselines_are_one_stage_that_trains_everything(task):
    student, teacher = tiny_net(), tiny_net()
    (labels,) = no_teacher(task, student, None, epochs=1)
    (together,) = simultaneous(task, student, teacher, epochs=1)
    (soft,) = hinton(task, student, teacher, epochs=1)
    assert labels.trains == together.trains == soft.trains == ("a", "b", "head")
    assert [term.weight for term in together.terms] == pytest.approx([1 / 3] * 3)
    assert [term.weight for term in soft.terms] == pytest.approx([0.1, 0.9])


def test_labels_alone_may_train_the_head_alone(task):
    (labels,) = no_teacher(task, tiny_net(), None, epochs=1, trains="head")
    assert labels.trains == ("head",)
    with pytest.raises(UserError, match=r"method.trains=some: give all or head"):
        no_teacher(task, tiny_net(), None, epochs=1, trains="some")
    whole = BlockNet(
        nn.Identity(), [Block("model", nn.Identity(), ("image",), "head")], [0.0], [1.0]
    )
    with pytest.raises(UserError, match="the student is one block; say where to cut it"):
        no_teacher(task, whole, None, epochs=1, trains="head")


@pytest.mark.parametrize(("schedule", "epochs"), [("sequential", 2), ("concurrent", 4)])
def test_what_is_inherited_whole_is_not_trained(task, schedule, epochs):
    student, teacher = tiny_net(seed=1), tiny_net(seed=2)
    for net in (student, teacher):
        net.measure(SHAPE)
    copy_block(teacher, student, "a")
    plan = stagewise(task, student, teacher, epochs=2, schedule=schedule)
    assert [stage.trains for stage in plan] == [("b",), ("head",)]
    assert plan[0].epochs == epochs  # all that both features would have had at once


def test_a_student_that_is_the_teacher_still_has_a_stage(task):
    student, teacher = tiny_net(seed=1), tiny_net(seed=1)
    for net in (student, teacher):
        net.measure(SHAPE)
    plan = stagewise(task, student, teacher, epochs=1, head="teacher")
    assert [stage.trains for stage in plan] == [("b",)]
