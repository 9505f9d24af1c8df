"""`python -m cls_kd` is `cls-kd`."""

from cls_kd.cli import main

main()
