"""The commands that both command lines have, from run to export."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stagewise_kd.cli.export import add_export_options
from stagewise_kd.cli.guarding import guarded
from stagewise_kd.system.files import path_of

if TYPE_CHECKING:
    from stagewise_kd.comparison.page import Exhibit

FACTORY = "builds a student that is a network of your own"
Do = Callable[[argparse.Namespace], object]


@dataclass(frozen=True)
class CommandLine:
    """A front end's command line.

    Args:
        name: of its config folder; the program is called `<name>-kd`.
        about: one line of help.
        run: runs a composed config.
        blocks: shows how the networks of one are cut and matched.
        shrink: shows the sizes of a teacher that targets allow.
        evaluate: does `evaluate` with `args.run`, `args.overrides`, `args.factory`.
        predict: does `predict` with `args.run`, `args.paths`, `args.out`, `args.factory` and its
            own options; instead of a run folder it takes an ONNX file of `export`.
        export: does `export` with the options of `add_export_options` and `args.factory`.
        predict_options: further options of `predict` and their help: whole numbers by default.
        gallery: pictures for the page of `compare`, from the run folders.
    """

    name: str
    about: str
    run: Callable[[Any], object]
    blocks: Callable[[Any], object]
    shrink: Callable[[Any], object]
    evaluate: Do
    predict: Do
    export: Do
    predict_options: dict[str, tuple[int, str]]
    gallery: "Callable[[Sequence[Path]], Sequence[Exhibit]]" = lambda runs: ()

    def main(self, argv: Sequence[str] | None) -> None:
        """Do what the arguments say and exit with the status of the contract."""
        given = list(sys.argv[1:] if argv is None else argv)
        sys.exit(guarded(lambda: self._work(given)))

    def _work(self, argv: list[str]) -> None:
        composed = {"run": self.run, "blocks": self.blocks, "shrink": self.shrink}
        if not argv or argv[0] not in composed:
            args = self._parser().parse_args(argv)
            args.do(args)
        elif {"--help", "-h"} & {*argv}:
            from stagewise_kd.cli.help import run_help

            print(run_help(self.name, argv[0]))
        else:
            from stagewise_kd.cli.hydra_app import hydra_run

            own = ["student=shrunk"] if argv[0] == "shrink" else []
            hydra_run(self.name, composed[argv[0]], [*own, *argv[1:]], studies=argv[0] == "run")

    def _parser(self) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(prog=f"{self.name}-kd", description=self.about)
        names = "{run,blocks,shrink,status,compare,evaluate,predict,export}"
        commands = parser.add_subparsers(required=True, metavar=names)
        commands.add_parser(
            "run", help="one experiment into one run folder; run --help tells the settings"
        )
        commands.add_parser(
            "blocks", help="how the networks of a run are cut and matched; trains nothing"
        )
        commands.add_parser(
            "shrink", help="sizes of a teacher that a target allows; trains no student"
        )
        status = commands.add_parser("status", help="how far the jobs of a study are")
        status.add_argument("study", type=path_of, metavar="STUDY", help="its out=DIR")
        status.add_argument("--watch", action="store_true", help="until all jobs have ended")
        status.set_defaults(do=_status)
        compare = commands.add_parser("compare", help="table, figures and a page of finished runs")
        _add_compare_options(compare)
        compare.set_defaults(do=lambda args: _compare(args, self.gallery))
        evaluate = commands.add_parser("evaluate", help="metrics of a finished student")
        evaluate.add_argument("run", type=path_of, metavar="RUN")
        evaluate.add_argument("overrides", nargs="*", help="such as data.root=DIR, batch_size=256")
        evaluate.set_defaults(do=self.evaluate)
        predict = commands.add_parser("predict", help="on image files and folders of them")
        predict.add_argument("run", type=path_of, metavar="RUN", help="or an ONNX file of export")
        predict.add_argument("paths", nargs="+", type=path_of, metavar="PATH")
        predict.add_argument(
            "--out", type=path_of, default=Path("predictions"), help="folder to write"
        )
        export = commands.add_parser("export", help="the student as a file for others: ONNX, …")
        add_export_options(export)
        export.set_defaults(do=self.export)
        for command in (evaluate, predict, export):
            command.add_argument("--factory", metavar="MODULE:FUNCTION", help=FACTORY)
        for option, (default, about) in self.predict_options.items():
            predict.add_argument(option, type=int, default=default, help=about)
        predict.set_defaults(do=self.predict)
        return parser


def _status(args: argparse.Namespace) -> None:
    """Print how far a study is."""
    from stagewise_kd.runs.status import show_status

    show_status(args.study, args.watch)


def _add_compare_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs="+", type=path_of, metavar="RUN", help="run folder, or a study"
    )
    parser.add_argument("--out", type=path_of, default=Path("comparison"), help="folder to write")
    parser.add_argument("--wandb", action="store_true", help="log it to Weights & Biases as well")
    parser.add_argument("--wandb-mode", choices=["offline", "online"], default="offline")
    parser.add_argument("--wandb-project", default="stagewise-kd", metavar="NAME")
    parser.add_argument("--wandb-group", default=None, metavar="NAME")


def _compare(
    args: argparse.Namespace, gallery: "Callable[[Sequence[Path]], Sequence[Exhibit]]"
) -> None:
    """Print the table, write the page, and say where it is."""
    from stagewise_kd.comparison.compare import compare
    from stagewise_kd.comparison.publish import publish
    from stagewise_kd.comparison.report import print_table
    from stagewise_kd.system.console import console
    from stagewise_kd.tracking.wandb_run import check_account, check_installed

    if args.wandb:
        check_installed("wandb")
        check_account(args.wandb_mode)
    comparison = compare(args.runs, args.out, gallery(args.runs))
    print_table(comparison.text)
    for line in comparison.no_gain:
        console.print(f"from scratch is ahead: {line}", soft_wrap=True, highlight=False)
    if args.wandb:
        publish(comparison, args.wandb_project, args.wandb_group, args.wandb_mode)
    console.print(f"report: {comparison.page}", soft_wrap=True)
