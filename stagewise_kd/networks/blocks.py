"""A network as an ordered list of named blocks."""

from collections.abc import Callable, Collection, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from stagewise_kd.networks.layout import Shape
from stagewise_kd.networks.origin import Origin
from stagewise_kd.networks.pieces import move_buffers
from stagewise_kd.system.errors import UserError

IMAGE = "image"
LOGITS = "logits"
Role = Literal["encoder", "decoder", "head"]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and std, by channel


@dataclass(frozen=True)
class Block:
    """One part of a network: `module(*features)` gives the feature called `name`.

    Args:
        name: of the block and of its feature.
        module: made of submodules of the original network, never of copies.
        reads: the features that it takes, "image" or those of blocks before it.
        role: what it is in the network; features of encoder and decoder can be matched.
    """

    name: str
    module: nn.Module
    reads: tuple[str, ...]
    role: Role = "encoder"


class BlockNet(nn.Module):
    """A network seen as blocks, in the order in which they run.

    Args:
        model: the original network; its weights are what is saved and exported.
        blocks: every block reads "image" or the features of blocks before it.
        mean: per-channel mean of the network's input, for images in [0, 1].
        std: per-channel standard deviation, likewise.
        origin: what builds the network again; None where only the user's own code can.

    Raises:
        UserError: two blocks have one name, or share a parameter: one could not learn alone.

    The feature "logits" is the last block's. `shapes` are those of one image and its features, by
    name, once `measure` has found them.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        blocks: Sequence[Block],
        mean: Sequence[float],
        std: Sequence[float],
        origin: Origin | None = None,
    ) -> None:
        super().__init__()
        _check_apart(blocks)
        self.model = model
        self.blocks = {block.name: block for block in blocks}
        self.origin = origin
        self.shapes: dict[str, Shape] = {}
        self._writes: dict[tuple[str, bool], bool] = {}
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> "BlockNet":
        """Set the mode of the model, and of the blocks, which are no submodules of their own."""
        super().train(mode)
        for block in self.blocks.values():
            block.module.train(mode)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "BlockNet":
        """Move the model, and what traced blocks hold beside its modules."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        moved = dict(self.model.named_buffers(remove_duplicate=False))
        for block in self.blocks.values():
            move_buffers(block.module, moved, fn)
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the blocks in running order."""
        return tuple(self.blocks)

    def of_role(self, *roles: Role) -> tuple[str, ...]:
        """Names of the blocks of these roles in running order."""
        return tuple(name for name, block in self.blocks.items() if block.role in roles)

    def modules_of(self, names: Iterable[str]) -> list[nn.Module]:
        """The modules of the named blocks."""
        return [self.blocks[name].module for name in names]

    def needed(self, given: Iterable[str], until: Iterable[str]) -> list[str]:
        """Names of the blocks that must run to get `until` from `given`, in running order."""
        have, wanted = set(given), {self.resolve(name) for name in until}
        needed: list[str] = []
        for name in reversed(self.names):
            if name in wanted and name not in have:
                needed.append(name)
                wanted |= set(self.blocks[name].reads)
        return needed[::-1]

    def frontier(self, until: Iterable[str], trained: Iterable[str]) -> set[str]:
        """What must be known to get `until`, of all that does not depend on `trained` blocks."""
        live: set[str] = set()
        for name in self.needed({IMAGE}, until):
            if name in trained or live & set(self.blocks[name].reads):
                live.add(name)
        read = {feature for name in live for feature in self.blocks[name].reads}
        return (read | {self.resolve(name) for name in until}) - live

    def features(
        self, given: dict[str, Tensor], until: set[str], cut: Collection[str] = ()
    ) -> dict[str, Tensor]:
        """Compute the features `until` from those `given`, running only the blocks between.

        Args:
            given: "image" (B, C, H, W) in [0, 1], or features of earlier blocks.
            until: names of the features to return; "logits" is the last block's.
            cut: features through which no gradient passes to the blocks that made them.

        Raises:
            KeyError: a feature is asked for that no block produces, or an input is missing.
        """
        have = dict(given)
        for name in self.needed(given, until):
            reads = {key: self._read(have, key) for key in self.blocks[name].reads}
            have[name] = self._run(name, [x.detach() if k in cut else x for k, x in reads.items()])
        return {name: have[self.resolve(name)] for name in until}

    @torch.no_grad()
    def measure(self, shape: Shape) -> None:
        """Find the shapes of all features of an image (C, H, W), by a dry run in eval mode."""
        image = torch.zeros(2, *shape, device=self.mean.device)
        found = self.eval().features({IMAGE: image}, {*self.names})
        self.shapes = {IMAGE: shape} | {name: tuple(x.shape[1:]) for name, x in found.items()}

    def forward(self, image: Tensor) -> Tensor:
        """Logits of images (B, C, H, W) in [0, 1]."""
        return self.features({IMAGE: image}, {LOGITS})[LOGITS]

    def _run(self, name: str, read: list[Tensor]) -> Tensor:
        """Run a block; one that writes into what it reads gets copies, for others hold that too."""
        module = self.blocks[name].module
        mode = (name, module.training)  # dropout writes in training only
        if mode not in self._writes:
            self._writes[mode] = _writes(module, read)
        return module(*([x.clone() for x in read] if self._writes[mode] else read))

    def _read(self, have: dict[str, Tensor], key: str) -> Tensor:
        return (have[key] - self.mean) / self.std if key == IMAGE else have[key]

    def resolve(self, name: str) -> str:
        """The name of the block that a feature's name stands for: of "logits" the last one.

        Raises:
            KeyError: there is no such block.
        """
        if name == LOGITS:
            return self.names[-1]
        if name != IMAGE and name not in self.blocks:
            raise KeyError(f"no block {name!r}; this network has {', '.join(self.names)}")
        return name


def usual_norm(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation where none are told: ImageNet's for three channels."""
    return IMAGENET if channels == 3 else ((0.5,) * channels, (0.25,) * channels)


def _check_apart(blocks: Sequence[Block]) -> None:
    owners: dict[int, str] = {}
    for block in blocks:
        if block.name in owners.values():
            raise UserError(f"two blocks are called {block.name!r}; give each a name of its own")
        held = {id(parameter) for parameter in block.module.parameters()}
        if shared := [owners[number] for number in held if number in owners]:
            raise UserError(
                f"blocks {shared[0]!r} and {block.name!r} share parameters, so that one cannot "
                "learn while the other is frozen; cut the network behind both"
            )
        owners |= dict.fromkeys(held or {id(block)}, block.name)


def _writes(module: nn.Module, read: Sequence[Tensor]) -> bool:
    """Whether a module writes into what it reads, as a copy of it tells, which leaves no trace."""
    places = [x.device for x in read if x.is_cuda]
    with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng(places):
        copies = [x.detach().clone() for x in read]  # inference tensors would not count writes
        before = [x._version for x in copies]
        deepcopy(module)(*copies)
    return before != [x._version for x in copies]


def copy_block(source: BlockNet, target: BlockNet, name: str, to: str | None = None) -> None:
    """Copy the weights of one block from `source` into a block of `target`.

    Args:
        source: the network that keeps its weights.
        target: the network that gets them.
        name: of the block in `source`.
        to: of the block in `target`; None for the same name.

    Raises:
        KeyError: there is no such block.
        RuntimeError: the shapes differ.
    """
    target.blocks[to or name].module.load_state_dict(source.blocks[name].module.state_dict())
