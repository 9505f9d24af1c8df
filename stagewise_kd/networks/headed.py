"""A student under its teacher's head, where its own is of another kind."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from torch import Tensor, nn

from stagewise_kd.networks.adapters import adapter
from stagewise_kd.networks.blocks import Block, BlockNet
from stagewise_kd.networks.layout import Shape
from stagewise_kd.networks.origin import Origin, rebuild
from stagewise_kd.system.errors import UserError

ADAPTER = "adapter"


class Headed(nn.Module):
    """The body of one network, an adapter where one is needed, and the head of another."""

    def __init__(self, body: Sequence[nn.Module], adapter: nn.Module | None, head: nn.Module):
        super().__init__()
        self.body = nn.Sequential(*body)
        self.adapter = nn.Identity() if adapter is None else adapter
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Logits of normalized images (B, C, H, W)."""
        found: Tensor = self.head(self.adapter(self.body(x)))
        return found


def with_head(student: BlockNet, teacher: BlockNet, image: Shape) -> BlockNet:
    """The student, under a copy of the teacher's head where its own has other weights.

    A 1×1 convolution goes between where the widths of the last features differ: it is a block of
    the student, "adapter", that learns the teacher's last feature with the block before it.

    Args:
        student: the network that learns; its body becomes a part of what is returned.
        teacher: the network whose head is taken.
        image: channels, height and width.

    Raises:
        UserError: the last features differ in more than their width.
    """
    if _fits(student, teacher) or not (_is_chain(student) and _is_chain(teacher)):
        return student
    *bodies, _ = student.blocks.values()
    *_, last, head = teacher.blocks.values()
    for net in (student, teacher):
        net.measure(image)
    ours, theirs = student.shapes[bodies[-1].name], teacher.shapes[last.name]
    try:
        between = adapter(ours, theirs, image, False)
    except ValueError:
        raise UserError(
            f"method.head=teacher: the student's last feature {bodies[-1].name!r} is {ours}, the "
            f"teacher's {last.name!r} {theirs}; only their widths may differ: set "
            "method.head=labels, or pick a student of the teacher's strides"
        ) from None
    model = Headed([block.module for block in bodies], between, deepcopy(head.module))
    blocks = [*bodies]
    if between:
        blocks.append(Block(ADAPTER, model.adapter, (bodies[-1].name,)))
    blocks.append(Block(student.names[-1], model.head, (blocks[-1].name,), "head"))
    mean, std = student.mean.flatten().tolist(), student.std.flatten().tolist()
    return BlockNet(model, blocks, mean, std, _origin(student, teacher, image))


def _fits(student: BlockNet, teacher: BlockNet) -> bool:
    ours, theirs = (
        {key: value.shape for key, value in net.blocks[net.names[-1]].module.state_dict().items()}
        for net in (student, teacher)
    )
    return ours == theirs


def _is_chain(net: BlockNet) -> bool:
    """Whether every block reads the one before alone, and the last one is the only head."""
    names = ("image", *net.names)
    reads = [block.reads for block in net.blocks.values()]
    chained = reads == [(name,) for name in names[:-1]]
    return chained and len(names) > 2 and net.of_role("head") == names[-1:]


def _origin(student: BlockNet, teacher: BlockNet, image: Shape) -> Origin | None:
    if student.origin is None or teacher.origin is None:
        return None
    origins = {"student": student.origin, "teacher": teacher.origin}
    if any(origin.build is None for origin in origins.values()):
        return None
    arguments: dict[str, Any] = {
        name: {"build": origin.build, "arguments": origin.arguments}
        for name, origin in origins.items()
    }
    name = student.origin.arguments.get("name")
    return Origin(f"{__name__}.headed", {"name": name, **arguments, "image": [*image]})


def headed(
    name: str, student: dict[str, Any], teacher: dict[str, Any], image: Sequence[int]
) -> BlockNet:
    """What `with_head` has made, with random weights.

    Args:
        name: of the student.
        student: "build" and "arguments" of its origin.
        teacher: likewise.
        image: channels, height and width.
    """
    return with_head(rebuild(**student), rebuild(**teacher), tuple(image))
