"""Whether a plan can run on two networks, and the adapters that it needs there."""

import torch
from torch import nn

from stagewise_kd.methods.plan import Plan, Stage, Term
from stagewise_kd.networks.blocks import IMAGE, LOGITS, BlockNet
from stagewise_kd.system.errors import raise_faults

Shapes = dict[str, tuple[int, ...]]


def check_plan(
    plan: Plan, student: BlockNet, teacher: BlockNet | None, shape: tuple[int, ...]
) -> dict[str, nn.ModuleDict]:
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
    adapters: dict[str, nn.ModuleDict] = {}
    if not faults:
        for stage in plan:
            if stage.name in adapters:
                faults.append(f"stage {stage.name!r} stands twice in the plan")
            faults += _stage_faults(stage, student)
            made = {
                behind(t.name): _behind(stage.name, t, shapes, targets, faults) for t in stage.terms
            }
            made |= _in_front(stage, student, shapes, targets, faults)
            adapters[stage.name] = nn.ModuleDict({k: m for k, m in made.items() if m is not None})
    raise_faults("the plan cannot run", faults)
    return adapters


def behind(term: str) -> str:
    """Name of the adapter from the student's feature to the teacher's; modules have no dots."""
    return term.replace(".", "/")


def into(feature: str) -> str:
    """Name of the adapter from the teacher's feature to the student's that it stands for."""
    return behind(f"into {feature}")


def _shapes(net: BlockNet, shape: tuple[int, ...], who: str, faults: list[str]) -> Shapes:
    """Shape of every feature for two images, by one forward pass in eval mode."""
    image = torch.zeros(2, *shape, device=net.mean.device)
    try:
        with torch.inference_mode():
            found = net.eval().features({IMAGE: image}, {*net.names, LOGITS})
    except Exception as error:  # of the user's own network any
        faults.append(f"the {who} cannot take images of {shape} (channels, height, width): {error}")
        return {}
    return {name: tuple(feature.shape) for name, feature in found.items()}


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
    until = {term.student for term in stage.terms if term.student in known | {LOGITS}}
    if idle := set(stage.trains) - set(unknown) - set(student.needed({IMAGE}, until)):
        faults.append(f"stage {stage.name!r}: no term depends on {', '.join(sorted(idle))}")
    return faults


def _behind(
    stage: str, term: Term, shapes: Shapes, targets: Shapes, faults: list[str]
) -> nn.Module | None:
    """The adapter of a term from the student's width to the teacher's, where they differ."""
    where = f"stage {stage!r}"
    if term.student not in shapes:
        faults.append(f"{where}: the student has no feature {term.student!r}")
        return None
    if term.teacher is None:
        return None
    if term.teacher not in targets:
        missing = f"has no feature {term.teacher!r}" if targets else "is missing"
        faults.append(f"{where}: the teacher {missing}, term {term.name!r} needs it")
        return None
    ours, theirs = shapes[term.student], targets[term.teacher]
    found = f"{where}: the student gives {ours}, the teacher {theirs}"
    if ours == theirs:
        return None
    if not _alike(ours, theirs):
        faults.append(f"{found}; only widths may differ: pick a student of the same strides")
        return None
    if term.adapter == "none":
        faults.append(f"{found}; set adapter=conv1x1, or pick a student of the teacher's widths")
    return _adapter(ours, theirs) if term.adapter == "conv1x1" else None


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
        elif not _alike(shapes[ours], targets[theirs]):
            faults.append(
                f"{where}: reads {ours!r}, {shapes[ours]}, which the teacher's {theirs!r}, "
                f"{targets[theirs]}, cannot stand for; set method.fed=student"
            )
        elif shapes[ours] != targets[theirs]:
            made[into(ours)] = _adapter(targets[theirs], shapes[ours])
    return made


def _alike(ours: tuple[int, ...], theirs: tuple[int, ...]) -> bool:
    """Whether two shapes, of maps (B, C, H, W) or of tokens (B, N, C), differ in width alone."""
    width = _width(ours)
    return len(ours) == len(theirs) and all(
        n == m for place, (n, m) in enumerate(zip(ours, theirs, strict=True)) if place != width
    )


def _width(shape: tuple[int, ...]) -> int:
    """The place of the width in a shape: channels of a map, the last dimension of tokens."""
    return 1 if len(shape) == 4 else len(shape) - 1


def _adapter(given: tuple[int, ...], wanted: tuple[int, ...]) -> nn.Module:
    """A map from one width to another at every place."""
    inputs, outputs = given[_width(given)], wanted[_width(wanted)]
    return nn.Conv2d(inputs, outputs, 1) if len(given) == 4 else nn.Linear(inputs, outputs)
