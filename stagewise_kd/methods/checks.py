"""Whether a plan can run on two networks, and the adapters that it needs there."""

from torch import nn

from stagewise_kd.methods.plan import Plan, Stage, Term
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
    try:
        made = adapter(ours, theirs, shapes[IMAGE], term.resize)
    except ValueError as error:
        faults.append(f"{found}; {error}")
        return None
    if made and term.adapter == "none":
        faults.append(f"{found}; set adapter=conv1x1, or pick a student of the teacher's widths")
    return made if term.adapter == "conv1x1" else None


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
