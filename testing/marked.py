"""Generated blocks in a page of the documentation, each between two marks that name it."""

import re
from collections.abc import Callable


def replaced(page: str, kind: str, contents: Callable[[str], str]) -> str:
    """Return a page with new contents in each block of a kind: ``contents`` gets the block's name.

    A block begins with ``<!-- kind: name -->`` and ends with ``<!-- end of kind -->``, each on a line of its own.
    Raises ValueError if a block has no end.
    """
    begin, end = rf"<!-- {kind}: ([a-z-]+) -->\n", f"<!-- end of {kind} -->"
    if len(re.findall(begin, page)) != page.count(end):
        raise ValueError(f"each block of {kind} needs its end, {end}")
    block = re.compile(rf"({begin}).*?({end})", re.DOTALL)
    return block.sub(lambda found: f"{found[1]}{contents(found[2])}\n{found[3]}", page)


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join(["| " + " | ".join(row) + " |" for row in [heads, ["---"] * len(heads), *rows]])
