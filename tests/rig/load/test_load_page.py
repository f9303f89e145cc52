"""The large numbers of a load test's report, and the marks of its charts."""

from types import SimpleNamespace
from typing import cast

import pytest

from rig.load.records import LoadTestRecord, Resources
from rig.report import load_page
from tests.rig.load.lines import load, sample


@pytest.mark.parametrize(("tasks", "name", "meaning"), [
    (20, "task p95", "duration of a run's tasks, their 95th percentile"),
    (19, "task max", "duration of a run's tasks, the longest of them")])
def test_of_too_few_tasks_the_longest_is_called_so(tasks: int, name: str, meaning: str) -> None:
    assert list(load_page.latencies(tasks))[-1] == ("task_tail", name, meaning)


def latency(p95: float | None) -> dict[str, float | None]:
    return {"median": 2.0, "p95": p95, "highest": 3.5}


@pytest.mark.parametrize(("p95", "value", "label"), [
    (3.0, "3", "seconds to a DAG run's end, p95"), (None, "3.50", "seconds to a DAG run's end, at most")])
def test_of_too_few_runs_for_a_95th_percentile_the_longest_is_shown(
        p95: float | None, value: str, label: str) -> None:
    outcome = {"connections_opened_per_run": 1, "connections_opened_per_second": 0.1, "connections_peak": 6,
               "connections_lower_bound": False, "latencies": {"run": latency(p95), "queued": latency(p95)}}
    shown = load_page.numbers({"outcome": outcome, "load": {"pattern": "worker"}})[1]
    assert (shown.value, shown.words) == (value, label)


def test_what_is_counted_is_marked_with_whole_numbers() -> None:
    test = cast("LoadTestRecord", SimpleNamespace(load=load(), started_at=0.0))
    one = sample(10.0, triggered=1, open=1, resources=Resources(processes=1, descriptors=1, memory=1))
    marks = {panel.title: [tick.text for tick in panel.y.ticks] for panel in load_page.panels(test, [], [one])}
    assert [marks[title] for title in ("DAG runs", "Open connections", "Open files of the stack")] == [["0", "1"]] * 3
    assert marks["Arrivals"] == ["0", "0.1", "0.2", "0.3", "0.4", "0.5"]
