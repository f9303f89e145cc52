"""Where the command line writes: results to standard output, errors to standard error; and how its tables look."""

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Column, Table

# No markup: otherwise a folder [work], an address bolt://[::1] or a run id with brackets would be read as markup.
console = Console(markup=False, emoji=False)
errors = Console(stderr=True, markup=False, emoji=False)


def figures_table(*headers: Column | str, **more: Any) -> Table:
    """Return an empty table for figures, the same in every command. ``more`` is what rich's Table takes besides."""
    return Table(*headers, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, **more)
