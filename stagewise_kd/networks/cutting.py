"""Any model as blocks: cut where a single tensor carries everything onward."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torchvision.models.resnet import ResNet

from stagewise_kd.networks.blocks import IMAGE, Block, BlockNet
from stagewise_kd.networks.branching import branching_blocks
from stagewise_kd.networks.chain import chain_pieces
from stagewise_kd.networks.origin import Origin, rebuild
from stagewise_kd.networks.outputs import only_logits, output, taken
from stagewise_kd.networks.pieces import ByMode, count_of_inputs, traced_pieces
from stagewise_kd.networks.places import stage_ends
from stagewise_kd.networks.resnet import resnet_blocks
from stagewise_kd.networks.tracing import Trace, module_ends, traces
from stagewise_kd.system.errors import UserError

SHOWN = 12  # places that a message names
WITHOUT = "distill it by its logits, method=hinton, or give blocks of your own"


def cut(
    model: nn.Module,
    example: Tensor,
    at: Sequence[str] | None = None,
    *,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    origin: Origin | None = None,
    no_trace: Collection[str | type[nn.Module]] = (),
) -> BlockNet:
    """A model as blocks over its own submodules, so that what is trained and saved is the model.

    Args:
        model: any network that gives logits.
        example: images as the model takes them, (B, C, H, W).
        at: names of the modules at whose ends it is cut, as in `named_modules`; what comes after
            the last one is the head. None: behind the last stage of each resolution; where a
            network keeps its resolution, as a ViT does, in parts of as many blocks; where one of
            maps reads features again, as a U-Net does, as encoder, decoder and head.
        mean: per-channel mean of the input, for images in [0, 1]; by default they are taken as
            they are.
        std: per-channel standard deviation, likewise.
        origin: what builds the network again, if anything does.
        no_trace: names or classes of modules that torch.fx cannot trace and that stay whole; a
            network whose modules run one after the other is cut by `at` without tracing, too.

    Raises:
        UserError: the network cannot be traced, cannot take the example, or cannot be cut.
    """
    model = bare(model)
    if at is None and (known := known_cut(model)) is not None:
        net = known(model, mean, std)
        net.origin = origin or origin_of(net, example)
        return net
    if isinstance(at, str) or (at is not None and not at):
        raise UserError(f"at={at!r}: give a list of names of modules, such as ['layer1']")
    logits = taken(model, example)
    if not isinstance(logits, Tensor):
        raise UserError(f"{type(model).__name__} gives a {type(logits).__name__}; expected logits")
    try:
        judging, learning = (only_logits(trace) for trace in traces(model, no_trace, example))
    except UserError:
        if not (chain := chain_pieces(model, at or ())):
            raise
        net = BlockNet(model, _blocks(chain), mean, std, origin)
        if not _is_same(net, example):
            raise
        return net
    forks = at is None and logits.ndim == 4
    for blocks in _cuts(model, judging, learning, example, at, forks):
        net = BlockNet(model, blocks, mean, std, origin)
        if _is_same(net, example):
            net.origin = origin or (origin_of(net, example) if at is None else None)
            return net
    raise UserError(
        f"{type(model).__name__}: its blocks do not compute what it computes; give blocks of your "
        "own: BlockNet(model, [Block(…), …], mean, std)"
    )


def bare(model: nn.Module) -> nn.Module:
    """The network that torch.compile, DataParallel or DistributedDataParallel has wrapped."""
    while isinstance(model, DataParallel | DistributedDataParallel) or hasattr(model, "_orig_mod"):
        inside: Any = getattr(model, "_orig_mod", None) or model.module
        model = inside
    return model


def known_cut(model: nn.Module) -> Callable[..., BlockNet] | None:
    """How this project cuts a network that it knows; None where it does not."""
    stages = [getattr(model, f"layer{number}", None) for number in range(1, 5)]
    if type(model) is ResNet and all(isinstance(stage, nn.Sequential) for stage in stages):
        return resnet_blocks
    if type(model).__module__.startswith("segmentation_models_pytorch."):
        from stagewise_kd.networks.segmenters import as_blocks

        return as_blocks
    return None


def _cuts(
    model: nn.Module,
    judging: Trace,
    learning: Trace,
    example: Tensor,
    at: Sequence[str] | None,
    forks: bool,
) -> Iterator[list[Block]]:
    """Ways to see a network as blocks, those first that tell more of it."""
    if forks and (found := branching_blocks(model, judging, learning, example)):
        yield found
    ends = _ends(model, judging, learning, example, at)
    yield _blocks(_traced(model, judging, learning, ends))


def _ends(
    model: nn.Module, judging: Trace, learning: Trace, example: Tensor, at: Sequence[str] | None
) -> dict[str, str]:
    """The modules that end the blocks, by the blocks' names."""
    kind, ends = type(model).__name__, module_ends(judging, model)
    if at is not None:
        names = _in_order(kind, at, dict(model.named_modules()), ends)
        return dict(zip(names, names, strict=True))
    if not (found := stage_ends(model, judging, learning, example)):
        there = f"say where to cut it: at=[…] of {_listed([*ends])}" if ends else WITHOUT
        raise UserError(
            f"{kind} has no module at whose end a map or tokens carry everything onward; {there}"
        )
    return found


def _in_order(
    kind: str, at: Sequence[str], modules: dict[str, nn.Module], ends: dict[str, int]
) -> list[str]:
    """The names of `at` as they run."""
    if unknown := [name for name in at if name not in modules]:
        raise UserError(
            f"at: {kind} has no module {', '.join(unknown)}; it can be cut at {_listed([*ends])}"
        )
    if inside := [name for name in at if name not in ends]:
        raise UserError(
            f"at: behind {', '.join(inside)} more than one value is still in use; {kind} can be "
            f"cut at {_listed([*ends])}"
        )
    if len({ends[name] for name in at}) < len(at):
        raise UserError(f"at={list(at)}: name modules with an end of their own each")
    return sorted(at, key=ends.__getitem__)


def _listed(names: Sequence[str]) -> str:
    """Names, those of few dots first."""
    shown = sorted(names, key=lambda name: name.count("."))
    return (", ".join(shown[:SHOWN]) or "no module") + (", …" if len(shown) > SHOWN else "")


def _traced(
    model: nn.Module, judging: Trace, learning: Trace, ends: dict[str, str]
) -> dict[str, nn.Module]:
    """The pieces between the ends; one that computes the same in both modes is traced once."""
    found = [traced_pieces(model, trace, [*ends.values()]) for trace in (judging, learning)]
    pieces = [
        one if one.code == other.code else ByMode(one, other)
        for one, other in zip(*found, strict=True)
    ]
    return dict(zip([*ends, ""], pieces, strict=False))


def _blocks(pieces: Mapping[str, nn.Module]) -> list[Block]:
    """Pieces as blocks that read one another; the last one is the head."""
    rest = "head" if "head" not in pieces else "rest"
    names = [name or rest for name in pieces]
    *_, last = pieces.values()
    if not any(True for _ in last.parameters()):
        raise UserError(
            f"at: nothing behind {names[-2:][0]} has weights, so that no head could learn from "
            "labels; name modules before it"
        )
    return [
        Block(
            name,
            module,
            (before, IMAGE)[: count_of_inputs(module)],
            "head" if module is last else "encoder",
        )
        for name, module, before in zip(names, pieces.values(), [IMAGE, *names], strict=False)
    ]


def _is_same(net: BlockNet, example: Tensor) -> bool:
    """Whether the blocks compute what the model computes, bit for bit."""
    image = example * net.std + net.mean
    # the example, as it is rounded on the way through the normalization
    whole = taken(net.model, (image - net.mean) / net.std)
    try:
        return isinstance(whole, Tensor) and whole.equal(output(net, image))
    except Exception:  # of modules that are no chain any
        return False


def origin_of(net: BlockNet, example: Tensor) -> Origin | None:
    """What builds the network again, as far as it is known and gives one that computes the same."""
    carried = getattr(net.model, "origin", None)  # of one that was shrunk
    found = net.origin or (carried if isinstance(carried, Origin) else None)
    if found is None or found.build is None:
        return found
    with torch.random.fork_rng(devices=[]), suppress(UserError):
        again = rebuild(found.build, found.arguments).model
        return found if computes_the_same(again, net.model, example) else None
    return None


def computes_the_same(again: nn.Module, model: nn.Module, example: Tensor) -> bool:
    """Whether a network, given the weights of another, gives its logits, bit for bit.

    Args:
        again: is changed; afterwards it holds the tensors of the other.
        model: the other.
        example: images as it takes them, (B, C, H, W).

    Raises:
        UserError: it does not take the example.
    """
    try:
        # the same tensors: in another memory format, kernels would round differently
        again.load_state_dict(model.state_dict(), assign=True)
    except RuntimeError:
        return False
    expected = taken(model, example)
    return isinstance(expected, Tensor) and expected.equal(output(again, example))
