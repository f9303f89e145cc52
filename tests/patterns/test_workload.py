"""What a task does beside its calls. The calls themselves: test_twins.py."""

import time
from typing import Any

import pytest

from patterns.registry import UnknownPatternError
from patterns.target import SettingError
from patterns.workload import Task, run_task
from tests.patterns.server_view import ServerView


@pytest.mark.neo4j
@pytest.mark.usefixtures("_closed_afterwards")
def test_it_holds_once_with_its_driver_kept_and_nothing_running(
        environ: dict[str, str], alias: str, view: ServerView, monkeypatch: pytest.MonkeyPatch) -> None:
    held = []

    def hold(seconds: float) -> None:
        running = [row["connectionId"] for row in view.query("SHOW TRANSACTIONS YIELD connectionId")]
        held.append((seconds, [connection.id in running for connection in view.open(alias)]))

    monkeypatch.setattr(time, "sleep", hold)
    run_task(Task("improved", "sync", alias, 3, hold=2.5), environ)
    assert held == [(2.5, [False])]


@pytest.mark.neo4j
@pytest.mark.usefixtures("_closed_afterwards")
def test_the_hold_is_in_the_tasks_time_and_in_no_calls(environ: dict[str, str], alias: str) -> None:
    before = time.time()
    row = run_task(Task("improved", "sync", alias, 2, hold=1, run_id="run-1", map_index=7), environ)
    assert (row["run_id"], row["map_index"]) == ("run-1", 7)
    assert before <= row["started"] <= row["ended"] - 1
    assert row["ended"] <= time.time()
    assert row["first_result_seconds"] + sum(row["call_seconds"]) <= row["ended"] - row["started"] - 1


@pytest.mark.parametrize(("changes", "error"), [
    ({"calls": 0}, ValueError), ({"pattern": "none"}, UnknownPatternError), ({}, SettingError)])
def test_a_task_that_cannot_be_done_says_why(changes: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        run_task(Task("improved")._replace(**changes), environ={})
