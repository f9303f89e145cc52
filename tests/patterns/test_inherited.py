"""The exhibit: what a task gets from a driver that it inherited, and what it is told where there is none."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from neo4j import Driver

from patterns import inherited
from patterns.inherited import NothingInheritedError
from patterns.target import ROOT
from patterns.workload import Row, Task, run_task
from tests.patterns.server_view import ServerView
from tests.patterns.task_process import forked

pytestmark = pytest.mark.neo4j


@pytest.fixture
def _opened_in_worker(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    opened: list[Driver] = []
    monkeypatch.setattr(inherited, "_OPENED", opened)
    inherited.open_in_worker(environ)
    yield
    opened[0].close()


def run(environ: dict[str, str], driver: str = "sync") -> Row:
    return run_task(Task("inherited", driver, hold=0), environ)     # type: ignore[arg-type]


@pytest.mark.usefixtures("_opened_in_worker")
def test_a_task_uses_its_parents_connection(environ: dict[str, str], view: ServerView) -> None:
    before = view.open(ROOT)
    assert len(before) == 1
    with forked(lambda: run(environ)) as task:
        assert (task.result["drivers_created"], task.result["wrong"]) == (0, 0)
        assert view.open(ROOT, task.pid) == []
    assert view.open(ROOT) == before


def test_what_breaks_can_be_counted(environ: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.inherited", "--uri", environ["NEO4J_URI"], "--tasks", "10",
               "--limit", "5", "--out", str(tmp_path / "result.json")]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], env=os.environ | environ, capture_output=True,
                          text=True, check=True)
    at_once, in_turn, killed = json.loads((tmp_path / "result.json").read_text())["ways"]
    assert sum(at_once["ended"].values()) == 10
    assert (in_turn["ended"], in_turn["writes_reported"], in_turn["writes_lost"]) == ({"right": 10}, 10, 0)
    assert killed["ended"]["killed, as planned"] == 2
    assert "in turn" in done.stdout


def test_without_one_it_says_what_would_open_it(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inherited, "_OPENED", [])
    with pytest.raises(NothingInheritedError, match="rig compare --patterns inherited"):
        run(environ)


def test_an_async_driver_is_never_inherited(environ: dict[str, str]) -> None:
    with pytest.raises(NothingInheritedError, match="no event loop is inherited"):
        run(environ, "async")
