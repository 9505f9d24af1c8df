"""Stagewise distillation: feature after feature by MSE, then the rest on labels."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import torch

from stagewise_kd.methods.joint import joint
from stagewise_kd.methods.keeping import copy_rest
from stagewise_kd.methods.losses import mse, relative_mse
from stagewise_kd.methods.method import describes, find_method, takes
from stagewise_kd.methods.plan import LOSS, Adapter, Fed, Norm, Plan, Stage, Term
from stagewise_kd.methods.task import Task
from stagewise_kd.methods.usual import usual_options
from stagewise_kd.networks.blocks import IMAGE, LOGITS, BlockNet, Role
from stagewise_kd.networks.matching import Match, matched
from stagewise_kd.system.errors import UserError

Schedule = Literal["sequential", "concurrent"]
Head = Literal["labels", "teacher"]
Finetune = Literal["logits", "labels", "both"]


@describes(reference=True)
def stagewise(
    task: Task,
    student: BlockNet,
    teacher: BlockNet,
    *,
    epochs: int,
    match: Sequence[Match] | None = None,
    resize: bool = False,
    n_features: int | None = None,
    distill_decoder: bool = False,
    head: Head = "labels",
    finetune: Finetune | None = None,
    finetune_epochs: int | None = None,
    head_kd: str | None = None,
    norm: Norm | None = None,
    patience: int | None = None,
    adapter: Adapter = "conv1x1",
    schedule: Schedule = "sequential",
    fed: Fed = "student",
) -> Plan:
    """Match one feature after the other by MSE, then train the rest on labels.

    Kulkarni et al., "Data Efficient Stagewise Knowledge Distillation", arXiv 1911.06786.

    Args:
        task: gives the label loss.
        student: the network to train.
        teacher: the trained network.
        epochs: epochs of each stage.
        match: pairs of features; None: the encoders' where resolutions agree. A stage trains all
            blocks between the pair before and its own.
        resize: scale the student's features to the teacher's where resolutions differ.
        n_features: match only the first so many; the other blocks train with the head.
        distill_decoder: match the decoder's features too; only the head learns from labels then.
        head: "teacher" copies what is not matched from the teacher and sees no label.
        finetune: what a last stage trains everything on: the teacher's softened logits, labels, or
            both; None for no such stage, or for both where `finetune_epochs` are given.
        finetune_epochs: of that stage; None for as many as each stage has, 0 for none.
        head_kd: a method that learns from logits, by its name: what the head's stage learns beside
            labels, and finetuning in place of Hinton's. None or "none": the head learns from
            labels alone.
        norm: "frozen" keeps the statistics of BatchNorm as the student starts with them, "train"
            learns them; None: frozen where a batch would move the teacher's features far.
        patience: end each stage after so many validations in a row that were no better; None:
            train all epochs.
        adapter: what to do where widths differ.
        schedule: "concurrent" matches all features at the same time, in one stage of as many
            epochs as the sequential stages have together; every block learns by itself.
        fed: what a block reads: the features that the student's blocks before it give, or the
            teacher's in their place, which no other block changes.

    Raises:
        UserError: the options do not fit the networks.
    """
    head_kd = None if head_kd == "none" else head_kd
    roles: tuple[Role, ...] = ("encoder", "decoder") if distill_decoder else ("encoder",)
    pairs = _first(matched(student, teacher, match, roles, resize), n_features)
    if not pairs:
        raise UserError("the networks have no features to match, only a head; cut them earlier")
    known = _known(student, teacher, pairs)
    new = pairs[len(known) :]
    trains = shares(student, [ours for ours, _ in pairs])
    term = partial(Term, adapter=adapter, resize=resize)
    plan = _matching(trains, new, epochs, term, schedule)
    if fed == "teacher":
        plan = [replace(stage, fed=fed, match=pairs) for stage in plan]
    elif fed != "student":
        raise UserError(f"method.fed={fed}: give student or teacher")
    learned = {name for stage in plan for name in stage.trains}
    learned |= {*student.needed({IMAGE}, {ours for ours, _ in known})}
    rest = tuple(name for name in student.names if name not in learned)
    if head == "teacher":
        taught = {theirs for _, theirs in pairs}
        instead = "use method.head=labels, without labels method=hinton, or "
        copy_rest(teacher, student, rest, taught, "method.head=teacher", instead)
    elif head == "labels":
        decodes = "decoder" in {student.blocks[name].role for name in rest}
        last = _on_logits(head_kd, task, student, teacher, epochs, bool(head_kd), labels=True)
        plan.append(replace(last, name="decoder" if decodes else "head", trains=rest))
    else:
        raise UserError(f"method.head={head}: give labels or teacher")
    if finetune_epochs != 0 and (finetune or finetune_epochs):
        asked = _asked(finetune or "both")
        length = epochs if finetune_epochs is None else finetune_epochs
        last = _on_logits(head_kd or "hinton", task, student, teacher, length, *asked)
        plan.append(replace(last, name="finetune"))
    elif head_kd and head == "teacher":
        raise UserError(
            f"method.head_kd={head_kd}: the teacher's head is kept, and nothing learns from "
            "logits; set method.finetune=logits too"
        )
    if norm not in (None, "train", "frozen"):
        raise UserError(f"method.norm={norm}: give train, frozen or null")
    if patience is not None and (not isinstance(patience, int) or patience < 1):
        raise UserError(f"method.patience={patience}: give a whole number from 1 up, or null")
    return tuple(replace(stage, norm=norm, patience=patience) for stage in plan)


def _asked(finetune: Finetune) -> tuple[bool, bool]:
    """Whether a last stage learns from logits, and whether from labels."""
    known = {"logits": (True, False), "both": (True, True), "labels": (False, True)}
    if finetune not in known:
        raise UserError(f"method.finetune={finetune}: give {', '.join(known)} or null")
    return known[finetune]


def _on_logits(
    name: str | None,
    task: Task,
    student: BlockNet,
    teacher: BlockNet,
    epochs: int,
    logits: bool,
    labels: bool,
) -> Stage:
    """The stage of a method that learns from logits; of labels alone where those are not asked."""
    if not logits or name is None:
        return joint("labels", task, student, (), epochs)
    method = find_method(name)
    usual = {key: value for key, value in usual_options({}, labels).items() if takes(method, key)}
    plan = method(task, student, teacher, epochs=epochs, **usual)
    if len(plan) > 1 or any(term.ours != (LOGITS,) for term in plan[0].terms):
        raise UserError(f"method.head_kd={name}: learns from features; give hinton, dkd or dist")
    return plan[0]


def _known(student: BlockNet, teacher: BlockNet, pairs: tuple[Match, ...]) -> tuple[Match, ...]:
    """The first pairs whose features agree bit for bit on noise: nothing is left to learn."""
    if not (student.shapes and teacher.shapes):
        return ()
    noise = torch.rand(2, *student.shapes[IMAGE], generator=torch.Generator().manual_seed(0))
    noise = noise.to(student.mean.device)
    with torch.no_grad():
        ours = student.eval().features({IMAGE: noise}, {name for name, _ in pairs})
        theirs = teacher.eval().features({IMAGE: noise}, {name for _, name in pairs})
    equal = [ours[one].equal(theirs[other]) for one, other in pairs]
    return pairs[: equal.index(False)] if False in equal else pairs[:-1]


def _matching(
    trains: dict[str, tuple[str, ...]],
    pairs: tuple[Match, ...],
    epochs: int,
    term: Callable[..., Term],
    schedule: Schedule,
) -> list[Stage]:
    if schedule == "sequential":
        terms = [term(ours, mse, ours, theirs) for ours, theirs in pairs]
        return [Stage(one.name, trains[one.name], (one,), epochs, LOSS) for one in terms]
    if schedule != "concurrent":
        raise UserError(f"schedule={schedule}: give sequential or concurrent")
    terms = [term(ours, relative_mse, ours, theirs) for ours, theirs in pairs]
    every = tuple(name for ours, _ in pairs for name in trains[ours])
    total = epochs * len(trains)  # those of what is known go to the others
    return [Stage("features", every, tuple(terms), total, LOSS, cut=True)]


def shares(student: BlockNet, features: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The blocks that each feature is learned by: its own and those since the feature before."""
    found: dict[str, tuple[str, ...]] = {}
    learned: set[str] = set()
    for feature in features:
        run = student.needed({IMAGE, *features} - {feature}, {feature})
        found[feature] = tuple(name for name in run if name not in learned)
        learned |= set(run)
    return found


def _first(pairs: tuple[Match, ...], count: int | None) -> tuple[Match, ...]:
    if count is None:
        return pairs
    if not 1 <= count <= len(pairs):
        raise UserError(f"method.n_features={count}: give 1 to {len(pairs)}")
    return pairs[:count]
