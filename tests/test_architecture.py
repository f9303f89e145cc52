"""The arrows between the packages go one way: what runs inside other people's workers knows nothing of what measures it.

An import inside a function counts too, and so does a module that is named in a string, for ``import_module`` or
``python -m``.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig.settings import PROJECT

MAY_IMPORT: dict[str, set[str]] = {
    "worker_init": set(),
    "patterns": {"worker_init"},
    "dags": {"patterns", "worker_init"},
    "rig": {"patterns", "worker_init"},
    "loadtest": {"patterns", "rig"},
}
PACKAGES = {*MAY_IMPORT, "benchmarks", "examples", "testing", "tests"}


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of each module that a file imports or names in a string."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and is_module(node.value):
            yield node.lineno, node.value


def is_module(text: str) -> bool:
    """Say whether a text is the dotted name of one of our modules, with a name in it or without."""
    folders = text.partition(":")[0].split(".")
    return len(folders) > 1 and (PROJECT.joinpath(*folders[:-1]) / f"{folders[-1]}.py").exists()


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_no_arrow_runs_back_up(package: str) -> None:
    forbidden = PACKAGES - MAY_IMPORT[package] - {package}
    assert [f"{path.relative_to(PROJECT)}:{line} imports {module}"
            for path in sorted((PROJECT / package).rglob("*.py")) for line, module in imported(path)
            if module.split(".")[0] in forbidden] == []
