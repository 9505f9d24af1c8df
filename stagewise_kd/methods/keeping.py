"""A student that keeps its teacher's head, and sees no label."""

from stagewise_kd.networks.blocks import BlockNet, copy_block
from stagewise_kd.system.errors import UserError


def copy_rest(
    teacher: BlockNet,
    student: BlockNet,
    rest: tuple[str, ...],
    taught: set[str],
    asked: str,
    instead: str = "",
) -> None:
    """Copy what no stage trains from the blocks of these names, else from those left in order.

    Args:
        teacher: the network whose blocks are copied.
        student: the network that gets them.
        rest: the student's blocks that no stage trains.
        taught: the teacher's features that are learned.
        asked: the setting by which the teacher's are kept.
        instead: another setting that would do, as the start of what an error advises.

    Raises:
        UserError: they do not fit.
    """
    others = tuple(name for name in teacher.names if name not in taught)
    source = rest if set(rest) <= set(teacher.names) else others
    if len(source) != len(rest):
        raise UserError(
            f"{asked}: the student keeps {', '.join(rest)}, the teacher has {', '.join(source)}; "
            f"{instead}pick a student of the teacher's shape"
        )
    for theirs, ours in zip(source, rest, strict=True):
        try:
            copy_block(teacher, student, theirs, ours)
        except RuntimeError as error:
            raise UserError(
                f"{asked}: the teacher's {theirs!r} does not fit the student "
                f"({str(error).splitlines()[-1].strip()}); {instead}pick a student of the "
                "teacher's shape, such as student.head=linear for a linear head"
            ) from None
