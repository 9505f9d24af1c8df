"""Whether a plan can run on two networks, and the adapters that it needs there."""

import torch
from torch import nn

from stagewise_kd.methods.plan import Plan, Stage, Term
from stagewise_kd.methods.terms import behind, loss_of, plain
from stagewise_kd.networks.adapters import adapter
from stagewise_kd.networks.blocks import IMAGE, LOGITS, BlockNet
from stagewise_kd.networks.layout import Shape
from stagewise_kd.system.errors import raise_faults

Shapes = dict[str, Shape]
Adapters = dict[str, nn.ModuleDict]  # by stage


def check_plan(
    plan: Plan, student: BlockNet, teacher: BlockNet | None, shape: tuple[int, ...]
) -> Adapters:
    """Check a plan by one dry run on a tiny batch, and make the adapters it needs.

    Args:
        plan: the stages.
        student: the network to train.
        teacher: the trained network; None where no term needs one.
        shape: of an input image: channels, height and width.

    Returns:
        The adapters of each stage: behind the student's feature by `behind` of the term's name, in
        front of a block that the teacher feeds by `into` of what it reads.

    Raises:
        UserError: lists every fault of the plan.
    """
    faults: list[str] = []
    shapes = _shapes(student, shape, "student", faults)
    targets = _shapes(teacher, shape, "teacher", faults) if teacher else {}
    adapters: Adapters = {}
    if not faults:
        for stage in plan:
            if stage.name in adapters:
                faults.append(f"stage {stage.name!r} stands twice in the plan")
            faults += _stage_faults(stage, student)
            made: dict[str, nn.Module | None] = {}
            for term in stage.terms:
                made |= _behind(stage.name, term, shapes, targets, faults)
            made |= _in_front(stage, student, shapes, targets, faults)
            adapters[stage.name] = nn.ModuleDict({k: m for k, m in made.items() if m is not None})
    if not faults:
        sizes = shapes, targets
        for stage in plan:
            for term in stage.terms:
                faults += _loss_faults(stage, term, sizes, adapters, teacher)
    raise_faults("the plan cannot run", faults)
    return adapters


def into(feature: str) -> str:
    """Name of the adapter from the teacher's feature to the student's that it stands for."""
    return plain(f"into {feature}")


def _shapes(net: BlockNet, shape: Shape, who: str, faults: list[str]) -> Shapes:
    """Shape of every feature of an image, and of the logits."""
    try:
        net.measure(shape)
    except Exception as error:  # of the user's own network any
        faults.append(f"the {who} cannot take images of {shape} (channels, height, width): {error}")
        return {}
    return net.shapes | {LOGITS: net.shapes[net.names[-1]]}


def _stage_faults(stage: Stage, student: BlockNet) -> list[str]:
    faults = []
    if stage.epochs < 1:
        faults.append(f"stage {stage.name!r}: {stage.epochs} epochs; give at least 1")
    known = set(student.names)
    if unknown := [name for name in stage.trains if name not in known]:
        faults.append(
            f"stage {stage.name!r} trains {', '.join(unknown)}; the student has "
            f"{', '.join(student.names)}"
        )
    if stage.monitor.mode not in ("min", "max"):
        faults.append(f"stage {stage.name!r}: monitor mode {stage.monitor.mode!r}; give min or max")
    names = [term.name for term in stage.terms]
    if len(names) > len({*names}):
        faults.append(f"stage {stage.name!r}: terms {', '.join(names)}; give each once")
    until = stage.features & (known | {LOGITS})
    if idle := set(stage.trains) - set(unknown) - set(student.needed({IMAGE}, until)):
        faults.append(f"stage {stage.name!r}: no term depends on {', '.join(sorted(idle))}")
    return faults


def _behind(
    stage: str, term: Term, shapes: Shapes, targets: Shapes, faults: list[str]
) -> dict[str, nn.Module | None]:
    """The adapters of a term from the student's widths to the teacher's, where they differ."""
    where = f"stage {stage!r}"
    absent = [f"{where}: the student has no feature {n!r}" for n in term.ours if n not in shapes]
    for name in dict.fromkeys((*(theirs for _, theirs in term.pairs), *term.theirs)):
        if name not in targets:
            missing = f"has no feature {name!r}" if targets else "is missing"
            absent.append(f"{where}: the teacher {missing}, term {term.name!r} needs it")
    faults += absent
    if absent or term.teacher is None:
        return {}
    if callable(term.adapter):
        sides = [shapes[name] for name in term.ours], [targets[name] for name in term.theirs]
        return {behind(term): term.adapter(*sides)}
    sizes = [(shapes[ours], targets[theirs]) for ours, theirs in term.pairs]
    return {
        behind(term, place): _adapter(where, term, *pair, shapes[IMAGE], faults)
        for place, pair in enumerate(sizes)
    }


def _adapter(
    where: str, term: Term, ours: Shape, theirs: Shape, image: Shape, faults: list[str]
) -> nn.Module | None:
    found = f"{where}: the student gives {ours}, the teacher {theirs}"
    try:
        made = adapter(ours, theirs, image, term.resize)
    except ValueError as error:
        faults.append(f"{found}; {error}")
        return None
    if made and term.adapter == "none":
        faults.append(f"{found}; set adapter=conv1x1, or pick a student of the teacher's widths")
    return made if term.adapter == "conv1x1" else None


def _loss_faults(
    stage: Stage,
    term: Term,
    sizes: tuple[Shapes, Shapes],
    adapters: Adapters,
    teacher: BlockNet | None,
) -> list[str]:
    """What the loss of a term has against the shapes of its features, as zeros of them tell."""
    if term.teacher is None or teacher is None:  # of labels the task takes any that data sets give
        return []
    ours, theirs = ({n: torch.zeros(2, *shape) for n, shape in side.items()} for side in sizes)
    labels = torch.zeros(2, *sizes[0][LOGITS][1:], dtype=torch.long)
    try:
        with torch.no_grad():
            loss_of(term, ours, theirs, labels, adapters[stage.name].eval(), teacher)
    except ValueError as error:
        return [f"stage {stage.name!r}: {error}"]
    finally:
        adapters[stage.name].train()
    return []


def _in_front(
    stage: Stage, student: BlockNet, shapes: Shapes, targets: Shapes, faults: list[str]
) -> dict[str, nn.Module | None]:
    """The adapters from the teacher's width to the student's, where the teacher feeds a block."""
    made: dict[str, nn.Module | None] = {}
    for ours, theirs in sorted(stage.inputs(student).items()):
        where = f"stage {stage.name!r}"
        if theirs not in targets:
            faults.append(
                f"{where}: the teacher has no feature {theirs!r}, which stands for {ours!r}"
            )
        else:
            try:
                made[into(ours)] = adapter(targets[theirs], shapes[ours], shapes[IMAGE], False)
            except ValueError:
                faults.append(
                    f"{where}: reads {ours!r}, {shapes[ours]}, which the teacher's {theirs!r}, "
                    f"{targets[theirs]}, cannot stand for; set method.fed=student"
                )
    return made
