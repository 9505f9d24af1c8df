"""Stagewise knowledge distillation: the engine that both front ends share."""

from stagewise_kd.methods.plan import Plan, Stage, Term
from stagewise_kd.networks.blocks import Block, BlockNet
from stagewise_kd.system.errors import UserError

__all__ = ["Block", "BlockNet", "Plan", "Stage", "Term", "UserError"]
__version__ = "0.1.0"
