"""Trackers: Weights & Biases and TensorBoard beside metrics.csv."""

__all__ = ["trackers", "wandb_run"]
