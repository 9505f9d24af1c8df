"""Grafts: a student's finished blocks inside the teacher."""

from torch import Tensor, nn

from stagewise_kd.methods.plan import Stage
from stagewise_kd.methods.terms import behind
from stagewise_kd.networks.blocks import IMAGE, LOGITS
from stagewise_kd.training.score import TEACHER, Predict, scores
from stagewise_kd.training.setup import Setup


def graft_score(grafted: dict[str, tuple[str, nn.Module]], setup: Setup) -> dict[str, float]:
    """Figures on the validation split of the student's blocks so far inside the teacher.

    Without labels that is the agreement with the teacher itself.

    Args:
        grafted: for each of the teacher's features the student's that stands for it, and the
            adapter between them.
        setup: networks, task, data.
    """
    assert setup.teacher is not None
    student, teacher = setup.student.to(setup.device).eval(), setup.teacher.to(setup.device)
    rest = teacher.needed(grafted, {LOGITS})
    read = {name for block in rest for name in teacher.blocks[block].reads}
    used = {name: piece for name, piece in grafted.items() if name in read}

    def predict(images: Tensor) -> Tensor:
        features = student.features({IMAGE: images}, {name for name, _ in used.values()})
        given = {name: adapter(features[ours]) for name, (ours, adapter) in used.items()}
        return teacher.features({IMAGE: images} | given, {LOGITS})[LOGITS]

    nets: dict[str, Predict] = {"graft": predict}
    if not setup.data.labelled:
        nets[TEACHER] = teacher
    return scores(nets, setup.data.val, setup)["graft"]


def pieces(stage: Stage, adapters: nn.ModuleDict) -> dict[str, tuple[str, nn.Module]]:
    """What a finished feature stage adds to a graft: see `graft_score`."""
    return {
        theirs: (
            ours,
            adapters[name].eval() if (name := behind(term, place)) in adapters else nn.Identity(),
        )
        for term in stage.terms
        for place, (ours, theirs) in enumerate(term.pairs)
    }
