"""The arrows between the packages go one way: what runs in other people's workers knows nothing of what measures it.

An import inside a function counts too, and so does a module that is named in a string, for ``import_module`` or
``python -m``.
"""

import pytest

from rig.settings import PROJECT
from tests.imports import imported

MAY_IMPORT: dict[str, set[str]] = {
    "worker_init": set(),
    "patterns": {"worker_init"},
    "dags": {"patterns", "worker_init"},
    "rig": {"patterns", "worker_init"},
    "loadtest": {"patterns", "rig"},
    "testing": {"rig", "worker_init"},
    "chaos": {"patterns", "rig", "testing", "worker_init"},
    "benchmarks": {"patterns", "rig", "testing", "worker_init"},
}
PACKAGES = {*MAY_IMPORT, "examples", "tests"}


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_no_arrow_runs_back_up(package: str) -> None:
    files = sorted((PROJECT / package).rglob("*.py"))
    forbidden = PACKAGES - MAY_IMPORT[package] - {package}
    assert files
    assert [f"{path.relative_to(PROJECT)}:{line} imports {module}"
            for path in files for line, module in imported(path) if module.split(".")[0] in forbidden] == []


@pytest.mark.parametrize(("wing", "above"), [
    ("stack", {"experiment", "load", "metrics", "report"}), ("metrics", {"experiment", "load", "report", "stack"}),
    ("experiment", {"load", "metrics", "report"}), ("load", {"metrics", "report"}),
    ("report", {"experiment", "stack"})])
def test_within_the_rig_none_runs_back_up_either(wing: str, above: set[str]) -> None:
    files = sorted((PROJECT / "rig" / wing).rglob("*.py"))
    assert files
    assert [f"{path.relative_to(PROJECT)}:{line} imports {name}" for path in files for line, name in imported(path)
            if f"{name}.".startswith(tuple(f"rig.{one}." for one in above))] == []


def test_one_module_knows_the_inside_of_the_driver() -> None:
    """Ruff's SLF sees private names of objects; this sees private modules."""
    files = [path for package in PACKAGES - {"tests"} for path in sorted((PROJECT / package).rglob("*.py"))]
    knowing = {str(path.relative_to(PROJECT)) for path in files for _, module in imported(path)
               if module.startswith("neo4j._")}
    assert knowing == {"worker_init/upstream.py"}
