"""The workflows that run the checks: right by their schema, on the Pythons of the project, with nothing unpinned."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from rig.settings import PROJECT

WORKFLOWS = sorted((PROJECT / ".github" / "workflows").glob("*.yml"))
PINNED = re.compile(r"^[\w/.-]+@[0-9a-f]{40}$")

each_workflow = pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)


def jobs(workflow: Path) -> list[dict[str, Any]]:
    """Return the jobs of a workflow."""
    return list(yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"].values())


def pythons() -> list[str]:
    """Return the versions that ``requires-python`` names: ``>=3.11,<3.14``."""
    wanted = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    first, end = (int(number) for number in re.findall(r"3\.(\d+)", wanted))
    return [f"3.{minor}" for minor in range(first, end)]


@each_workflow
def test_it_keeps_the_schema_of_workflows(workflow: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows",
                           str(workflow)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@each_workflow
def test_it_runs_on_every_python_of_the_project(workflow: Path) -> None:
    for job in jobs(workflow):
        assert set(pythons()) <= set(job["strategy"]["matrix"]["python"])


@each_workflow
def test_what_others_wrote_is_pinned_to_a_commit(workflow: Path) -> None:
    used = [step["uses"] for job in jobs(workflow) for step in job["steps"] if "uses" in step]
    assert used
    assert [name for name in used if not PINNED.match(name)] == []


@each_workflow
def test_it_may_change_nothing_in_the_repository(workflow: Path) -> None:
    assert yaml.safe_load(workflow.read_text(encoding="utf-8"))["permissions"] == {"contents": "read"}


def test_the_fast_check_runs_on_every_push_and_all_of_it_each_night() -> None:
    texts = {path.stem: path.read_text(encoding="utf-8") for path in WORKFLOWS}
    assert re.search(r"on:\n  push:\n  pull_request:\n", texts["check"])
    assert "run: make check\n" in texts["check"]
    assert "schedule:\n" in texts["nightly"]
    assert "run: .ci/run\n" in texts["nightly"]
