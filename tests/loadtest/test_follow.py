"""A DAG run's line, from what Airflow says of the run and of its tasks."""

from typing import Any

import pytest

from loadtest.follow import Flight, settled

FLIGHT = Flight("load-x-0-1", due=1000.0, late=0.25, trigger=0.5)
# Another machine's clock, an hour ahead: only differences of its moments may count.
RUN: dict[str, Any] = {"dag_run_id": FLIGHT.run_id, "state": "success", "queued_at": "2026-01-01T01:00:00Z",
                       "end_date": "2026-01-01T01:00:06Z"}


def task(start: str | None, seconds: float | None, state: str = "success", map_index: int = 0) -> dict[str, Any]:
    return {"map_index": map_index, "state": state, "start_date": start, "duration": seconds}


def test_the_moments_count_from_when_the_run_was_due() -> None:
    tasks = [task("2026-01-01T01:00:03Z", 1.0), task("2026-01-01T01:00:02Z", 3.0, map_index=1)]
    found = settled(FLIGHT, RUN, tasks)
    assert (found.state, found.due, found.late, found.trigger) == ("success", 1000.0, 0.25, 0.5)
    assert found.queued == pytest.approx(2.5)
    assert found.run == pytest.approx(6.5)
    assert (found.task_median, found.tasks_succeeded) == (2.0, 2)
    assert found.task_tail == 3.0       # of fewer than 20 tasks the longest


@pytest.mark.parametrize(("missing", "queued", "run"), [("queued_at", None, None), ("end_date", 2.5, None)])
def test_a_moment_that_airflow_does_not_know_makes_no_figure(
        missing: str, queued: float | None, run: float | None) -> None:
    found = settled(FLIGHT, {**RUN, missing: None}, [task("2026-01-01T01:00:02Z", 3.0)])
    assert (found.queued, found.run, found.task_median) == (queued, run, 3.0)


def test_of_twenty_tasks_there_is_a_95th_percentile() -> None:
    tasks = [task("2026-01-01T01:00:03Z", float(number), map_index=number) for number in range(1, 21)]
    assert settled(FLIGHT, RUN, tasks).task_tail == pytest.approx(19.05)


def test_a_run_that_failed_says_how_many_of_its_tasks_did() -> None:
    tasks = [task("2026-01-01T01:00:03Z", 1.0), task("2026-01-01T01:00:03Z", 1.0, "failed", 1),
             task(None, None, "upstream_failed", 2)]
    found = settled(FLIGHT, {**RUN, "state": "failed"}, tasks)
    assert (found.state, found.failed) == ("failed", True)
    assert found.reason == "the DAG run failed: 2 of 3 tasks did not succeed"
    assert found.task_median == 1.0


def test_a_run_without_a_task_has_no_moment_of_its_first() -> None:
    # Where the task that makes the list failed, the mapped one is there once, with no index.
    found = settled(FLIGHT, {**RUN, "state": "failed"}, [task(None, None, "upstream_failed", -1)])
    assert (found.queued, found.task_median, found.tasks_succeeded) == (None, None, 0)
    assert found.reason == "the DAG run failed before its tasks were made"
