"""The command line of the segmentation front end."""

import sys


def main() -> None:
    """Entry point of `seg-kd`."""
    print("error: seg-kd is not built yet; classifiers: cls-kd run", file=sys.stderr)
    sys.exit(2)
