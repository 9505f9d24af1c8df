"""The command `export`: a student as a file for others."""

import argparse
from typing import TYPE_CHECKING

from stagewise_kd.system.files import path_of

if TYPE_CHECKING:
    from stagewise_kd.runs.front_end import FrontEnd


def add_export_options(parser: argparse.ArgumentParser) -> None:
    """What `export` takes."""
    parser.add_argument("run", type=path_of, metavar="RUN", help="folder of a finished run")
    parser.add_argument(
        "overrides",
        nargs="*",
        help="right behind RUN: where data have moved, such as data.root=DIR",
    )
    parser.add_argument(
        "--format", default="onnx", metavar="onnx|torch|safetensors", help="onnx by default"
    )
    parser.add_argument(
        "--out", type=path_of, metavar="FILE", help="to write; by default RUN/student.onnx, .pt2, …"
    )
    parser.add_argument(
        "--int8", action="store_true", help="8 bits, calibrated on the run's own train images"
    )
    parser.add_argument(
        "--preprocess",
        metavar="nchw|nhwc",
        help="build scaling and normalization in: the file takes uint8 RGB of this layout",
    )
    parser.add_argument("--argmax", action="store_true", help="the file gives classes, not logits")
    parser.add_argument("--opset", type=int, metavar="N", help="version of ONNX's operators")


def export_run(front_end: "FrontEnd", args: argparse.Namespace) -> None:
    """Do `export` with its options."""
    from stagewise_kd.runs.export import export
    from stagewise_kd.runs.own_function import factory_of

    export(
        args.run,
        args.out,
        format=args.format,
        int8=args.int8,
        preprocess=args.preprocess,
        argmax=args.argmax,
        opset=args.opset,
        overrides=args.overrides,
        factory=factory_of(args.run, args.factory),
        front_end=front_end,
    )
