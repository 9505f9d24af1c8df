"""Which feature of a student learns from which feature of its teacher."""

from collections.abc import Iterable, Sequence

from stagewise_kd.networks.blocks import BlockNet, Role
from stagewise_kd.system.errors import UserError, raise_faults

Match = tuple[str, str]  # the student's feature, the teacher's


def matched(
    student: BlockNet,
    teacher: BlockNet,
    pairs: Iterable[Sequence[str]] | None = None,
    roles: Sequence[Role] = ("encoder",),
) -> tuple[Match, ...]:
    """The pairs of features that are matched, in the student's running order.

    Args:
        student: the network that learns.
        teacher: the network that it learns from.
        pairs: as the user names them; None: the blocks of `roles`, by name where the teacher has
            all of the student's names, else in order.
        roles: of the blocks that are matched by default.

    Raises:
        UserError: a pair names no feature, or the networks have different numbers of blocks.
    """
    if pairs is None:
        return _in_order(student, teacher, roles)
    found = [tuple(pair) for pair in pairs]
    faults = [_fault(pair, student, teacher) for pair in found]
    raise_faults("match", [fault for fault in faults if fault])
    if len({ours for ours, _ in found}) < len(found):
        raise UserError(f"match={list(map(list, found))}: names a feature of the student twice")
    return tuple(sorted(((s, t) for s, t in found), key=lambda pair: student.names.index(pair[0])))


def _in_order(student: BlockNet, teacher: BlockNet, roles: Sequence[Role]) -> tuple[Match, ...]:
    ours, theirs = student.of_role(*roles), teacher.of_role(*roles)
    if set(ours) <= set(theirs):
        return tuple(zip(ours, ours, strict=True))
    if len(ours) != len(theirs):
        raise UserError(
            f"the student has {len(ours)} blocks to match ({', '.join(ours)}), the teacher "
            f"{len(theirs)} ({', '.join(theirs)}); name the pairs: match=[[student,teacher],…]"
        )
    return tuple(zip(ours, theirs, strict=True))


def _fault(pair: tuple[str, ...], student: BlockNet, teacher: BlockNet) -> str | None:
    if len(pair) != 2:
        return f"{list(pair)}: give a feature of the student and one of the teacher"
    for name, net, who in zip(pair, (student, teacher), ("student", "teacher"), strict=True):
        if name not in net.names:
            return f"the {who} has no feature {name!r}; it has {', '.join(net.names)}"
    return None
