"""A network whose modules run one after the other, in pieces, without tracing."""

from collections.abc import Iterator, Sequence

from torch import nn


def chain_pieces(model: nn.Module, names: Sequence[str]) -> dict[str, nn.Module]:
    """Pieces of a chain by the names of the modules that end them; the rest, if any, as "".

    Empty where a name is no link of the chain.

    Args:
        model: taken for a chain of its children, and of theirs where a name lies inside.
        names: of modules, in any order.
    """
    pieces: dict[str, nn.Module] = {}
    links: list[nn.Module] = []
    for name, module in _links(model, names, ""):
        links.append(module)
        if name in names:
            pieces[name], links = nn.Sequential(*links), []
    rest = {"": nn.Sequential(*links)} if links else {}
    return pieces | rest if pieces and {*names} == {*pieces} else {}


def _links(module: nn.Module, names: Sequence[str], path: str) -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        link = path + name
        inside = any(other.startswith(f"{link}.") for other in names)
        if inside or isinstance(child, nn.ModuleList):
            yield from _links(child, names, f"{link}.")
        else:
            yield link, child
