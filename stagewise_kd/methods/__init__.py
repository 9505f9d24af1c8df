"""Plans: what a run trains, stage by stage; one module a distillation method."""

__all__ = [
    "checks",
    "hinton",
    "losses",
    "method",
    "no_teacher",
    "plan",
    "simultaneous",
    "stagewise",
    "task",
]
