"""Whether a plan can run on two networks, and the adapters that it needs there."""

import torch
from torch import nn

from stagewise_kd.methods.plan import Plan, Stage, Term
from stagewise_kd.networks.blocks import IMAGE, LOGITS, BlockNet
from stagewise_kd.system.errors import raise_faults


def check_plan(
    plan: Plan, student: BlockNet, teacher: BlockNet | None, shape: tuple[int, int, int]
) -> dict[str, nn.ModuleDict]:
    """Check a plan by one dry run on a tiny batch, and make the adapters it needs.

    Args:
        plan: the stages.
        student: the network to train.
        teacher: the trained network; None where no term needs one.
        shape: channels, height and width of an input image.

    Returns:
        The adapters of each stage by the name of their term.

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
            made = (_adapter(stage.name, term, shapes, targets, faults) for term in stage.terms)
            pairs = zip(stage.terms, made, strict=True)
            adapters[stage.name] = nn.ModuleDict({t.name: m for t, m in pairs if m is not None})
    raise_faults("the plan cannot run", faults)
    return adapters


def _shapes(
    net: BlockNet, shape: tuple[int, int, int], who: str, faults: list[str]
) -> dict[str, tuple[int, ...]]:
    """Shape of every feature for two images, by one forward pass in eval mode."""
    image = torch.zeros(2, *shape, device=net.mean.device)
    try:
        with torch.inference_mode():
            found = net.eval().features({IMAGE: image}, {*net.names, LOGITS})
    except RuntimeError as error:
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
    names = [term.name for term in stage.terms]
    if len(names) > len({*names}):
        faults.append(f"stage {stage.name!r}: terms {', '.join(names)}; give each once")
    until = {term.student for term in stage.terms if term.student in known | {LOGITS}}
    if idle := set(stage.trains) - set(unknown) - set(student.needed({IMAGE}, until)):
        faults.append(f"stage {stage.name!r}: no term depends on {', '.join(sorted(idle))}")
    return faults


def _adapter(
    stage: str,
    term: Term,
    shapes: dict[str, tuple[int, ...]],
    targets: dict[str, tuple[int, ...]],
    faults: list[str],
) -> nn.Module | None:
    """A 1×1 convolution from the student's width to the teacher's, where they differ."""
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
    if ours == theirs:
        return None
    found = f"{where}: the student gives {ours}, the teacher {theirs}"
    if len(ours) != 4 or len(theirs) != 4 or ours[2:] != theirs[2:]:
        faults.append(f"{found}; only widths may differ: pick a student of the same strides")
        return None
    if term.adapter == "none":
        faults.append(f"{found}; set adapter=conv1x1, or pick a student of the teacher's widths")
        return None
    return nn.Conv2d(ours[1], theirs[1], kernel_size=1)
