"""One run from its config to its result, many of them as a study, and what is left of them."""

__all__ = ["config", "evaluate", "experiment", "launchers", "run", "status", "student", "study"]
