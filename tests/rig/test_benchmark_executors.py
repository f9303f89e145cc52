"""``python -m benchmarks.executors``: what it makes of the moments of tasks."""

import pytest

from benchmarks.executors import FIGURES, Moments, Run, contrast, sentence
from benchmarks.on_airflow import moment
from patterns.facts import EXECUTORS
from rig.errors import RigError


def moments(queued: float) -> Moments:
    """Return the moments of a task that waited so long in the queue."""
    started = 100.5 + queued
    return {"scheduled": 100.0, "queued": 100.5, "started": started, "first_line": started + 0.25,
            "first_result": started + 0.375, "ended": started + 0.5}


def run(local: float, celery: float) -> Run:
    """Return a DAG run of three tasks on each executor, of which the middle one waited so long."""
    return {executor: [moments(queued + spread) for spread in (-0.25, 0.0, 4.0)]
            for executor, queued in zip(EXECUTORS, (local, celery), strict=True)}


def test_a_figure_is_the_median_of_a_runs_tasks_and_the_ratio_is_celerys_over_locals() -> None:
    found = contrast([run(1.0, 2.0)] * 6, "queued to started")
    assert found["runs"] == [[1.0, 2.0]] * 6
    assert found["medians"] == [1.0, 2.0]
    assert found["ratio"] == pytest.approx(2.0)
    assert found["verdict"] == "higher"
    assert sentence(found).endswith("Celery over Local 2.00 (2.00 to 2.00): higher")


def test_where_the_executors_hardly_differ_it_is_said_by_how_much_at_most() -> None:
    ratios = (0.98, 1.02, 1.0, 0.99, 1.01, 1.0)
    found = contrast([run(2.0, 2.0 * ratio) for ratio in ratios], "queued to started")
    assert found["verdict"] == "no difference larger than 2\N{NO-BREAK SPACE}%"


def test_the_parts_add_up_to_the_whole() -> None:
    parts = [contrast([run(1.0, 2.0)], figure)["medians"][0] for figure in FIGURES]
    assert sum(parts[:-1]) == pytest.approx(parts[-1])


def test_with_fewer_than_six_runs_there_is_no_verdict() -> None:
    found = contrast([run(1.0, 2.0)] * 5, "queued to started")
    assert found["interval"] is None
    assert sentence(found).endswith("Celery over Local 2.00: 5 of 6 DAG runs needed")


def test_a_moment_that_airflow_does_not_know_is_named_and_is_none_of_1970() -> None:
    instance = {"task_id": "CeleryExecutor", "map_index": 7, "queued_when": None, "end_date": "1970-01-01T00:01:00Z"}
    assert moment(instance, "end_date") == 60
    with pytest.raises(RigError, match="Airflow has no queued_when of the task CeleryExecutor, number 7"):
        moment(instance, "queued_when")
