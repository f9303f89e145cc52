"""Where the command line writes: what was asked for, and what is wrong."""

from rich.console import Console

console = Console()
errors = Console(stderr=True)
