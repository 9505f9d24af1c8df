"""Where the program talks to the user."""

from rich.console import Console

console = Console(stderr=True)
