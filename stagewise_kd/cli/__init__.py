"""The command lines: Hydra for `run`, argparse for the rest."""

__all__ = ["commands", "export", "guarding", "help", "hydra_app", "start"]
