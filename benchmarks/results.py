"""Small versions of all benchmarks, written to benchmarks/results.md: what `make bench` runs."""

import shlex
from pathlib import Path

from benchmarks import report
from benchmarks.stagewise import measure, parse
from stagewise_kd.system.files import write_text

SMALL = (
    "--student resnet10 --images 500 --epochs 4",
    "--unet --student resnet10 --images 50 --epochs 4",
)


def main() -> None:
    """Measure, print and write."""
    parts = [
        "# Speed",
        "Written by `make bench`: small versions, in which what is done once a stage weighs more "
        "than in a real run. For real ones see `python -m benchmarks.stagewise --help`.",
    ]
    for line in SMALL:
        arguments = shlex.split(line)
        found = measure(parse(arguments), arguments)
        report.print_tables(found)
        parts += [report.markdown(found), found["caption"]]
    write_text(Path(__file__).with_name("results.md"), "\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
