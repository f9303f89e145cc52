"""What a file of Python imports, read from its text."""

import ast
from collections.abc import Iterator
from pathlib import Path

from rig.settings import PROJECT


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the dotted name of all that a file imports, within functions too, or names in a string."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _is_ours(node.value):
            yield node.lineno, node.value


def _is_ours(text: str) -> bool:
    """Say whether a text is the dotted name of one of our modules, with ``:name`` after it or without."""
    *folders, name = text.partition(":")[0].split(".")
    return bool(folders) and (PROJECT.joinpath(*folders) / f"{name}.py").exists()
