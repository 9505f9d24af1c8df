"""Which feature of a student learns from which feature of its teacher."""

from collections.abc import Iterable, Sequence

from stagewise_kd.networks.blocks import IMAGE, BlockNet, Role
from stagewise_kd.networks.layout import Shape, layout
from stagewise_kd.system.errors import UserError, raise_faults

Match = tuple[str, str]  # the student's feature, the teacher's


def matched(
    student: BlockNet,
    teacher: BlockNet,
    pairs: Iterable[Sequence[str]] | None = None,
    roles: Sequence[Role] = ("encoder",),
    resize: bool = False,
) -> tuple[Match, ...]:
    """The pairs of features that are matched, in the student's running order.

    Args:
        student: the network that learns.
        teacher: the network that it learns from.
        pairs: as the user names them; None: the blocks of `roles` where resolutions agree, several
            of one resolution by name where the teacher has all of the student's names and ends
            with the same one, else last to last. Of networks whose features have not been
            measured: by name where the teacher has all of the student's names, else in order.
        roles: of the blocks that are matched by default.
        resize: whether features whose resolutions never meet are paired last to last.

    Raises:
        UserError: a pair names no feature, no resolutions agree, or the networks have different
            numbers of blocks.
    """
    if pairs is not None:
        return _as_named(student, teacher, pairs)
    found = _found(student, teacher, roles, resize)
    return tuple(sorted(found, key=lambda pair: student.names.index(pair[0])))


def matched_maps(
    student: BlockNet, teacher: BlockNet, pairs: Iterable[Sequence[str]] | None = None
) -> tuple[Match, ...]:
    """As `matched`, for losses that compare places of maps (C, H, W).

    Raises:
        UserError: likewise, or a feature is no map.
    """
    found = matched(student, teacher, pairs)
    for place, (net, who) in enumerate(((student, "student"), (teacher, "teacher"))):
        for name in (pair[place] for pair in found if net.shapes):
            if (kind := layout(net.shapes[name], net.shapes[IMAGE]).kind) != "map":
                raise UserError(
                    f"the {who}'s feature {name!r}, {net.shapes[name]}, is no map (channels, "
                    f"height, width) but {kind}; pick convolutional networks, or another method"
                )
    return found


def _as_named(
    student: BlockNet, teacher: BlockNet, pairs: Iterable[Sequence[str]]
) -> tuple[Match, ...]:
    found = [tuple(pair) for pair in pairs]
    faults = [_fault(pair, student, teacher) for pair in found]
    raise_faults("match", [fault for fault in faults if fault])
    if len({ours for ours, _ in found}) < len(found):
        raise UserError(f"match={list(map(list, found))}: names a feature of the student twice")
    return tuple(sorted(((s, t) for s, t in found), key=lambda pair: student.names.index(pair[0])))


def _fault(pair: tuple[str, ...], student: BlockNet, teacher: BlockNet) -> str | None:
    if len(pair) != 2:
        return f"{list(pair)}: give a feature of the student and one of the teacher"
    for name, net, who in zip(pair, (student, teacher), ("student", "teacher"), strict=True):
        if name not in net.names:
            return f"the {who} has no feature {name!r}; it has {', '.join(net.names)}"
    return None


def _found(
    student: BlockNet, teacher: BlockNet, roles: Sequence[Role], resize: bool
) -> tuple[Match, ...]:
    ours, theirs = student.of_role(*roles), teacher.of_role(*roles)
    if not (student.shapes and teacher.shapes):
        return _in_order(ours, theirs)
    found = [pair for role in roles for pair in _by_resolution(student, teacher, role)]
    if not found and resize:
        return _last_to_last(ours, theirs)
    if not found and ours and theirs:
        raise UserError(
            f"the student's features ({_listed(student, ours)}) and the teacher's "
            f"({_listed(teacher, theirs)}) have no resolution in common; set match.resize=true, "
            "which pairs them last to last and scales the student's to the teacher's, or pick a "
            "student of the teacher's strides"
        )
    return tuple(found)


def _in_order(ours: Sequence[str], theirs: Sequence[str]) -> tuple[Match, ...]:
    if set(ours) <= set(theirs):
        return tuple(zip(ours, ours, strict=True))
    if len(ours) != len(theirs):
        raise UserError(
            f"the student has {len(ours)} blocks to match ({', '.join(ours)}), the teacher "
            f"{len(theirs)} ({', '.join(theirs)}); name the pairs: match=[[student,teacher],…]"
        )
    return tuple(zip(ours, theirs, strict=True))


def _by_resolution(student: BlockNet, teacher: BlockNet, role: Role) -> list[Match]:
    ours, theirs = _resolutions(student, role), _resolutions(teacher, role)
    return [
        pair
        for places, names in ours.items()
        for pair in _of_one_resolution(names, theirs.get(places, ()))
    ]


def _resolutions(net: BlockNet, role: Role) -> dict[Shape, list[str]]:
    """Names of the features of each resolution, in running order."""
    found: dict[Shape, list[str]] = {}
    for name in net.of_role(role):
        found.setdefault(resolution(net, name), []).append(name)
    return found


def resolution(net: BlockNet, name: str) -> Shape:
    """Height and width of a map, or the number of tokens, of a feature that has been measured."""
    return layout(net.shapes[name], net.shapes[IMAGE]).places


def _of_one_resolution(ours: Sequence[str], theirs: Sequence[str]) -> tuple[Match, ...]:
    """By name where both end with the same one, as of a shrunk network, else last to last."""
    is_part = ours[-1:] == theirs[-1:] and {*ours} <= {*theirs}
    return tuple((n, n) for n in ours) if is_part else _last_to_last(ours, theirs)


def _last_to_last(ours: Sequence[str], theirs: Sequence[str]) -> tuple[Match, ...]:
    count = min(len(ours), len(theirs))
    return tuple(zip(ours[len(ours) - count :], theirs[len(theirs) - count :], strict=True))


def _listed(net: BlockNet, names: Sequence[str]) -> str:
    return ", ".join(f"{name} {'×'.join(map(str, resolution(net, name)))}" for name in names)
