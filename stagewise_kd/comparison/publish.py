"""Sends a comparison to Weights & Biases."""

from typing import Any

import pandas as pd

from stagewise_kd.comparison.compare import Comparison
from stagewise_kd.comparison.page import Exhibit
from stagewise_kd.tracking.wandb_run import Mode, files_in, start, stop


def publish(
    comparison: Comparison, project: str, group: str | None = None, mode: Mode = "offline"
) -> None:
    """Add one W&B run with the tables, the figures, and the gallery's masks over its images.

    Args:
        comparison: from `compare`; W&B keeps its files in the same folder, below wandb/.
        project: of W&B.
        group: of W&B; None: the name of the folder.
        mode: offline or online.

    Raises:
        UserError: wandb is not installed, or W&B refuses the run.
    """
    folder = comparison.page.parent.absolute()
    run = start(
        folder,
        mode,
        project=project,
        group=group or folder.name,
        name=f"comparison {folder.name}",
        job_type="comparison",
        config={"runs": [str(run.path) for run in comparison.runs]},
    )
    import wandb

    with files_in(folder):
        tables = {
            "comparison": comparison.table,
            "differences": comparison.differences,
            "published": comparison.published,
        }
        logged: dict[str, Any] = {
            **{name: _table(table) for name, table in tables.items() if len(table)},
            **{
                f"figures/{name}": wandb.Image(str(file))
                for name, file in comparison.figures.items()
            },
            **{
                f"gallery/{number:02d}": _images(exhibit)
                for number, exhibit in enumerate(comparison.gallery)
                if exhibit.masks and exhibit.image is not None
            },
        }
        run.log(logged)
    stop(run)


def _table(table: pd.DataFrame) -> Any:
    import wandb

    cells = table.astype(object)
    rows = cells.where(cells.notna(), None).to_numpy().tolist()
    return wandb.Table(list(table), rows, allow_mixed_types=True)


def _images(exhibit: Exhibit) -> list[Any]:
    """The image of an exhibit once for each of its masks."""
    import wandb

    return [
        wandb.Image(
            exhibit.image,
            caption=f"{exhibit.title}: {name}",
            masks={"classes": {"mask_data": mask, "class_labels": dict(exhibit.class_labels)}},
        )
        for name, mask in exhibit.masks.items()
    ]
