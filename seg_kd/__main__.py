"""Run as `python -m seg_kd`."""

from seg_kd.cli import main

main()
