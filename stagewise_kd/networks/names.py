"""Names of networks: `timm/NAME`, `torchvision/NAME`, `module:function`, and our own."""

from collections.abc import Sequence
from difflib import get_close_matches

LIBRARIES = ("timm", "torchvision")


def is_function(name: str) -> bool:
    """Whether a name is that of a function of the user's own."""
    return ":" in name


def library(name: str) -> str | None:
    """The library that a name is of; None where it is of none."""
    first, slash, _ = name.partition("/")
    return first if slash and not is_function(name) else None


def name_fault(name: str) -> str | None:
    """What is wrong with the name of a network of a library, with the closest ones there are."""
    found, (_, _, own) = library(name), name.partition("/")
    if found not in LIBRARIES:
        return None
    known = _known(found)
    if own in known or (found == "timm" and own.partition(".")[0] in known):
        return None
    close = get_close_matches(own, known, n=3)
    hint = f"did you mean {' or '.join(f'{found}/{other}' for other in close)}?"
    return f"{found} has no network {own!r}; {hint if close else _listing(found)}"


def _known(library: str) -> Sequence[str]:
    # slow to load, and needed only where such a network is asked for
    if library == "timm":
        import timm

        return timm.list_models()
    import torchvision.models

    return torchvision.models.list_models(module=torchvision.models)


def _listing(library: str) -> str:
    return f"{library}.{'' if library == 'timm' else 'models.'}list_models() tells those there are"
