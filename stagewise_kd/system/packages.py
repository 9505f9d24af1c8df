"""Packages that only some commands need."""

from importlib.util import find_spec


def missing(*packages: str) -> list[str]:
    """Those of the packages that are not installed; nothing is imported."""
    # no origin: a folder of that name, such as wandb/
    specs = {package: find_spec(package) for package in packages}
    return [package for package, spec in specs.items() if spec is None or spec.origin is None]
