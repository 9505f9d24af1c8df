"""Stagewise knowledge distillation: the engine that both front ends share."""

from stagewise_kd.blocks import Block, BlockNet
from stagewise_kd.errors import UserError
from stagewise_kd.plan import Plan, Stage, Term

__all__ = ["Block", "BlockNet", "Plan", "Stage", "Term", "UserError"]
__version__ = "0.1.0"
