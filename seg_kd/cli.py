"""seg-kd run | blocks | shrink | status | compare | evaluate | predict | export."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stagewise_kd.cli.start import interruptible

if TYPE_CHECKING:
    from argparse import Namespace

    from stagewise_kd.comparison.page import Exhibit


@interruptible
def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of `seg-kd`."""
    from stagewise_kd.cli.commands import CommandLine

    CommandLine(
        "seg",
        "Shrink a trained U-Net, block by block.",
        _run,
        _blocks,
        _shrink,
        _evaluate,
        _predict,
        _export,
        {
            "--tile": (1024, "side in pixels of the tiles that a larger image is cut into"),
            "--overlap": (128, "pixels that a tile sees of its neighbours"),
        },
        _gallery,
    ).main(argv)


def _run(cfg: object) -> None:
    from seg_kd import front_end
    from stagewise_kd.runs.run import run

    run(front_end, cfg)  # type: ignore[arg-type]


def _blocks(cfg: object) -> None:
    from seg_kd import front_end
    from stagewise_kd.runs.blocks import show_blocks

    show_blocks(front_end, cfg)  # type: ignore[arg-type]


def _shrink(cfg: object) -> None:
    from seg_kd import front_end
    from stagewise_kd.runs.sizes import show_sizes

    show_sizes(front_end, cfg)  # type: ignore[arg-type]


def _evaluate(args: "Namespace") -> None:
    from seg_kd import front_end
    from stagewise_kd.runs.evaluate import evaluate

    evaluate(front_end, args.run, args.overrides, args.factory)


def _export(args: "Namespace") -> None:
    from seg_kd import front_end
    from stagewise_kd.cli.export import export_run

    export_run(front_end, args)  # type: ignore[arg-type]


def _predict(args: "Namespace") -> None:
    from seg_kd.predict import predict

    predict(args.run, args.paths, args.out, args.tile, args.overlap, args.factory)


def _gallery(runs: Sequence[Path]) -> "Sequence[Exhibit]":
    from seg_kd.gallery import gallery

    return gallery(runs)
