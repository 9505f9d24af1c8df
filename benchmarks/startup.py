"""CPU seconds until a command line answers: help and messages about bad settings.

python -m benchmarks.startup
"""

import resource
import statistics
import subprocess
import sys

REPEAT = 5
COMMANDS = (
    ["--help"],
    ["run", "--help"],
    ["run", "data.fracton=0.5"],
    ["run", "student=resnet11"],
    ["run", "epochs=0"],
    ["run", "-m", "seed=0,1", "lr=fast"],
    ["compare"],
)


def main() -> None:
    """Print a table of medians."""
    for front_end in ("cls", "seg"):
        for command in COMMANDS:
            found = [cpu_seconds([f"{front_end}_kd", *command]) for _ in range(REPEAT)]
            shown = " ".join([f"{front_end}-kd", *command])
            print(f"| `{shown}` | {statistics.median(found):.2f} | {max(found):.2f} |")


def cpu_seconds(arguments: list[str]) -> float:
    """User and system seconds of one call in a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", *arguments], capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


if __name__ == "__main__":
    main()
