"""The command lines: Hydra for `run`, argparse for the rest."""

__all__ = ["commands", "help", "hydra_app"]
