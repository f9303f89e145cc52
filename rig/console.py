"""Where the command line writes: results to standard output, errors to standard error."""

from rich.console import Console

# No markup: otherwise a folder [work], an address bolt://[::1] or a run id with brackets would be read as markup.
console = Console(markup=False, emoji=False)
errors = Console(stderr=True, markup=False, emoji=False)
