"""Where the command line writes: what was asked for, and what is wrong."""

from rich.console import Console

# No markup: a folder [work], an address bolt://[::1] or a run id with brackets would be taken for it.
console = Console(markup=False, emoji=False)
errors = Console(stderr=True, markup=False, emoji=False)
