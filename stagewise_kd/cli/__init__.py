"""The command lines: Hydra for `run`, argparse for the rest."""

__all__ = ["commands", "guarding", "help", "hydra_app", "start"]
