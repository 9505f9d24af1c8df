"""The command line: cls-kd run | status | compare | evaluate | predict."""

from argparse import Namespace
from collections.abc import Sequence

from stagewise_kd.cli.commands import CommandLine


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of `cls-kd`."""
    CommandLine(
        "cls",
        "Shrink a trained image classifier, block by block.",
        _run,
        _evaluate,
        _predict,
        {"--top": (3, "how many classes an image")},
    ).main(argv)


def _run(cfg: object) -> None:
    from cls_kd.run import run

    run(cfg)  # type: ignore[arg-type]


def _evaluate(args: Namespace) -> None:
    from cls_kd.evaluate import evaluate

    evaluate(args.run, args.overrides)


def _predict(args: Namespace) -> None:
    from cls_kd.predict import predict

    predict(args.run, args.paths, args.out, args.top)
