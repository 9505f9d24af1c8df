"""The command line: cls-kd run | compare | evaluate | predict."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from stagewise_kd.cli import guarded, hydra_run

COMMANDS = "run, compare, evaluate, predict"


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of `cls-kd`."""
    sys.exit(guarded(_command(list(sys.argv[1:] if argv is None else argv))))


def _command(argv: list[str]) -> Callable[[], object]:
    if argv[:1] == ["run"]:
        from cls_kd.run import run

        return lambda: hydra_run("cls", run, argv[1:])
    args = _parser().parse_args(argv)
    return lambda: args.do(args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cls-kd", description="Shrink a trained image classifier, block by block."
    )
    commands = parser.add_subparsers(required=True, metavar=f"{{{COMMANDS}}}")
    commands.add_parser("run", help="one experiment into one run folder; overrides as in Hydra")
    compare = commands.add_parser("compare", help="one table of finished runs")
    compare.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    compare.set_defaults(do=_compare)
    evaluate = commands.add_parser("evaluate", help="metrics of a finished student")
    evaluate.add_argument("run", type=Path, metavar="RUN")
    evaluate.add_argument("overrides", nargs="*", help="such as data.root=DIR, batch_size=256")
    evaluate.set_defaults(do=_evaluate)
    predict = commands.add_parser("predict", help="classes of image files and folders")
    predict.add_argument("run", type=Path, metavar="RUN")
    predict.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    predict.add_argument("--out", type=Path, default=Path("predictions"), help="folder to write")
    predict.add_argument("--top", type=int, default=3, help="how many classes an image")
    predict.set_defaults(do=_predict)
    return parser


def _compare(args: argparse.Namespace) -> None:
    from stagewise_kd.progress import console
    from stagewise_kd.report import read_result, results_table

    console.print(results_table([read_result(run) for run in args.runs]))
    for run in args.runs:
        console.print(f"run folder: {run}", soft_wrap=True)


def _evaluate(args: argparse.Namespace) -> None:
    from cls_kd.evaluate import evaluate

    evaluate(args.run, args.overrides)


def _predict(args: argparse.Namespace) -> None:
    from cls_kd.predict import predict

    predict(args.run, args.paths, args.out, args.top)
