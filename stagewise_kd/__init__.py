"""Stagewise knowledge distillation: a smaller network out of your own, block by block.

    import stagewise_kd as skd

    run = skd.distill(student, teacher, images, task=…)   # cls_kd.distill, seg_kd.distill
    model = skd.load("runs/first")
    skd.export("runs/first", "student.onnx")              # a file that opens elsewhere
    skd.shrink(teacher, images, macs=0.5)                 # a smaller network, its weights inherited
    skd.find_method("hinton")                             # a function that makes a plan

Names are imported where they are first used, so that a command line that only prints its help need
not wait for torch.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stagewise_kd.methods.method import describes, find_method
    from stagewise_kd.methods.plan import Monitor, Plan, Stage, Term
    from stagewise_kd.methods.task import Task
    from stagewise_kd.networks.blocks import Block, BlockNet
    from stagewise_kd.networks.cutting import cut
    from stagewise_kd.runs.distill import Run, distill
    from stagewise_kd.runs.export import export
    from stagewise_kd.runs.shrink import shrink
    from stagewise_kd.runs.student import load
    from stagewise_kd.system.errors import UserError

__version__ = "0.1.0"
__all__ = [
    "Block",
    "BlockNet",
    "Monitor",
    "Plan",
    "Run",
    "Stage",
    "Task",
    "Term",
    "UserError",
    "cut",
    "describes",
    "distill",
    "export",
    "find_method",
    "load",
    "shrink",
]
_HOME = {
    "methods.method": ("describes", "find_method"),
    "methods.plan": ("Monitor", "Plan", "Stage", "Term"),
    "methods.task": ("Task",),
    "networks.blocks": ("Block", "BlockNet"),
    "networks.cutting": ("cut",),
    "runs.distill": ("Run", "distill"),
    "runs.shrink": ("shrink",),
    "runs.student": ("load",),
    "system.errors": ("UserError",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


class _Package(ModuleType):
    """This package: its `export` is the function, though importing the wing would set that name."""

    @property
    def export(self) -> Any:
        return import_module(f"{__name__}.runs.export").export

    @export.setter
    def export(self, wing: ModuleType) -> None:
        pass


sys.modules[__name__].__class__ = _Package
