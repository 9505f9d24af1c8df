"""How student and teacher are cut into blocks, and what learns from what; nothing is trained."""

from collections.abc import Sequence

import pandas as pd
from omegaconf import DictConfig
from torch import nn

from stagewise_kd.comparison.report import print_table
from stagewise_kd.methods.checks import Adapters, check_plan
from stagewise_kd.methods.outline import matches
from stagewise_kd.methods.plan import Plan, Stage, Term
from stagewise_kd.methods.terms import behind
from stagewise_kd.networks.adapters import Resize
from stagewise_kd.networks.blocks import BlockNet
from stagewise_kd.networks.cost import block_costs
from stagewise_kd.networks.matching import resolution
from stagewise_kd.runs.build import make_plan, make_student
from stagewise_kd.runs.config import resolved
from stagewise_kd.runs.front_end import FrontEnd, load_data
from stagewise_kd.runs.own_networks import measure
from stagewise_kd.system.errors import UserError, listed

MODULES = 3  # that a row names
COLUMNS = ("block", "modules", "shape", "params", "MACs")
Row = list[str]


def show_blocks(front_end: FrontEnd, cfg: DictConfig) -> None:
    """Print the blocks of a run's networks beside each other.

    Args:
        front_end: of the task.
        cfg: the composed config, its values checked.

    Raises:
        UserError: anything in the config or the data is wrong; where only the matching is, the
            blocks are printed first.
    """
    config = resolved(cfg)
    data, source = load_data(front_end, config)
    given = config["teacher"]
    make = front_end.load_teacher if given and given["checkpoint"] else front_end.untrained_teacher
    teacher = make(config, source) if given else None
    student = make_student(front_end, config, source, teacher, data).net
    nets = (student, teacher) if teacher else (student,)
    measure(nets, data.shape)
    try:
        task = front_end.make_task(config, source)
        plan = make_plan(front_end, config, task, student, teacher, data.shape)
        adapters = check_plan(plan, student, teacher, data.shape)
    except UserError:
        for net in nets:
            print_table(_table(COLUMNS, [[name, *told] for name, told in _told(net).items()]))
        raise
    print_table(blocks_table(plan, adapters, student, teacher))


def blocks_table(
    plan: Plan, adapters: Adapters, student: BlockNet, teacher: BlockNet | None
) -> pd.DataFrame:
    """The student's blocks, what each learns from, and the teacher's blocks beside it."""
    ours, theirs = _told(student), _told(teacher) if teacher else {}
    source = {term.pairs[place]: (stage, term, place) for stage, term, place in matches(plan)}
    partner = dict(source.keys())
    rows, left = [], list(theirs)
    for name, told in ours.items():
        if name not in partner:
            rows.append([name, *told, _why(plan, name, student, teacher), *[""] * len(COLUMNS)])
            continue
        other = partner[name]
        place = left.index(other) if other in left else 0
        rows += [_alone(each, theirs[each]) for each in left[:place]]
        left = left[place + 1 :] if other in left else left
        arrow = " ".join(["←", ", ".join(_adapter(adapters, *source[name, other]))]).strip()
        rows.append([name, *told, arrow, other, *theirs[other]])
    rows += [_alone(each, theirs[each]) for each in left]
    if not teacher:
        return _table((*COLUMNS, "learns"), [row[: len(COLUMNS) + 1] for row in rows])
    return _table((*COLUMNS, "learns from", *(f"teacher's {name}" for name in COLUMNS)), rows)


def _alone(name: str, told: Row) -> Row:
    return [*[""] * len(COLUMNS), "", name, *told]


def _adapter(adapters: Adapters, stage: Stage, term: Term, place: int) -> list[str]:
    """What stands between two features."""
    made, name = adapters[stage.name], behind(term, place)
    if callable(term.adapter):
        return [type(made[name]).__name__]
    parts = made[name].modules() if name in made else ()
    names = {nn.Conv2d: "1×1 convolution", nn.Linear: "linear", Resize: "resized"}
    return [names[type(part)] for part in parts if type(part) in names]


def _why(plan: Plan, name: str, student: BlockNet, teacher: BlockNet | None) -> str:
    """What trains a block that learns from no feature of its own."""
    stage = next((f"trains in stage {stage.name}" for stage in plan if name in stage.trains), None)
    places = resolution(student, name)
    lacks = teacher and places not in {resolution(teacher, each) for each in teacher.names}
    why = f"; the teacher has nothing of {'×'.join(map(str, places))}" if lacks and places else ""
    return f"{stage or 'kept as it is'}{why}"


def _told(net: BlockNet) -> dict[str, Row]:
    """What the table tells of each block."""
    costs = block_costs(net)
    macs = sum(cost["macs"] for cost in costs.values()) or 1
    return {
        name: [
            listed(_modules(net.model, block.module), MODULES),
            "×".join(map(str, net.shapes[name])),
            f"{costs[name]['params']:,}",
            f"{costs[name]['macs'] / macs:.1%}",
        ]
        for name, block in net.blocks.items()
    }


def _modules(model: nn.Module, block: nn.Module) -> list[str]:
    """The outermost modules of a model that a block is made of; without parameters none."""
    held = {id(parameter) for parameter in block.parameters()}

    def inside(prefix: str, module: nn.Module) -> list[str]:
        found = {id(parameter) for parameter in module.parameters()}
        if not found & held:
            return []
        if found <= held and prefix:
            return [prefix]
        return [
            path
            for name, child in module.named_children()
            for path in inside(f"{prefix}.{name}".lstrip("."), child)
        ]

    return inside("", model)


def _table(columns: Sequence[str], rows: Sequence[Row]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=[*columns])
