"""Generated blocks in a page of the documentation, each between two marks that name it."""

import re
from collections.abc import Callable


def replaced(page: str, kind: str, contents: Callable[[str], str]) -> str:
    """Return a page with new contents in each block of a kind: ``contents`` gets the block's name.

    A block begins with ``<!-- kind: name -->`` and ends with ``<!-- end of kind -->``, each on a line of its own.
    """
    block = re.compile(rf"(<!-- {kind}: ([a-z-]+) -->\n).*?(<!-- end of {kind} -->)", re.DOTALL)
    return block.sub(lambda found: f"{found[1]}{contents(found[2])}\n{found[3]}", page)


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join(["| " + " | ".join(row) + " |" for row in [heads, ["---"] * len(heads), *rows]])
