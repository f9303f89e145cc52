"""The patterns by name, and what the package needs."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import patterns
from patterns.connection import DatabaseConnection
from patterns.registry import PATTERNS, UnknownPatternError, load

ROOT = Path(__file__).parents[2]
ALLOWED = {"airflow_tasks.py": {"airflow"}, "hook.py": {"airflow", "neo4j"}, "worker.py": {"neo4j", "worker_init"},
           "clients.py": {"airflow", "neo4j", "neomodel", "worker_init"}, "inherited_hooks.py": {"celery"}}


@pytest.mark.parametrize("name", PATTERNS)
def test_each_name_loads_its_pattern(name: str) -> None:
    pattern = load(name)
    assert issubclass(pattern, DatabaseConnection)
    assert pattern.name == name


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(UnknownPatternError, match="'imporved': expected one of problematic, improved, hook, "):
        load("imporved")


def test_a_new_pattern_joins_by_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PATTERNS, "again", "patterns.improved:ImprovedDatabaseConnection")
    assert load("again").name == "improved"


def test_the_names_are_available_without_the_driver() -> None:
    script = "import sys, patterns.registry, patterns.identity, patterns.target; sys.exit('neo4j' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_the_version_is_the_distributions() -> None:
    assert patterns.__version__ == tomllib.loads((ROOT / "patterns/pyproject.toml").read_text())["project"]["version"]


@pytest.mark.parametrize("path", [path.relative_to(ROOT) for folder in ("patterns", "dags")
                                  for path in sorted((ROOT / folder).glob("*.py"))], ids=str)
def test_nothing_that_runs_in_a_worker_needs_more_than_the_driver_and_airflow(path: Path) -> None:
    needed = {name.partition(".")[0] for name in _imports(ROOT / path)} - sys.stdlib_module_names - {"patterns"}
    assert needed <= ALLOWED.get(path.name, {"neo4j"} if path.parts[0] == "patterns" else set())


def _imports(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
