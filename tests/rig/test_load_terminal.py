"""What ``rig load`` says of a test when it has ended."""

from typing import Any

import pytest

from rig.report.load_terminal import sentences
from rig.report.phrases import NOTHING

LATENCY = {"median": 2.04, "p95": None, "highest": 3.5}
SUMMARY: dict[str, Any] = {
    "outcome": {
        "arrivals": 4, "succeeded": 3, "failed": 1, "interrupted": 0, "latencies": {"run": LATENCY, "queued": LATENCY},
        "connections_opened": 12, "connections_opened_per_run": 4.0, "connections_opened_per_second": None,
        "connections_peak": 9, "connections_left": 0, "connections_lower_bound": False,
        "connections_reason": None, "others": 0},
    "load": {"users": None}, "share": 0.012, "polls_per_run": 3.5, "knee": None, "kept_up": None, "saturated": None}


def test_a_summary_in_a_few_lines() -> None:
    lines = sentences({**SUMMARY, "knee": {"last_rate_that_held": 0.4, "found": True}})
    assert lines[0] == "4 DAG runs: 3 succeeded, 1 failed"
    assert "median 2.0 s, at most 3.5 s" in lines[1]
    assert f"12 opened (4 per DAG run, {NOTHING} per second), at most 9 open, 0 left" in lines[2]
    assert "1.2% of the machine; 3.5 polls" in lines[3]
    assert lines[4] == ("the last rate that held: 0.4 DAG runs per second; one search, which has no interval: "
                        "`rig compare-load --repeats` has")


def test_a_95th_percentile_is_named_where_there_is_one() -> None:
    known = {"median": 2.04, "p95": 3.0, "highest": 3.5}
    outcome = {**SUMMARY["outcome"], "latencies": {"run": known, "queued": LATENCY}}
    assert sentences({**SUMMARY, "outcome": outcome})[1] == (
        "run: median 2.0 s, p95 3.0 s   queued: median 2.0 s, at most 3.5 s")


@pytest.mark.parametrize(("others", "said"), [
    (1, "1 connection of others was seen. What was opened is a lower bound, marked ≥."),
    (0, "Others use the server too. What was opened is a lower bound, marked ≥.")])
def test_beside_others_what_was_opened_is_marked_as_a_lower_bound(others: int, said: str) -> None:
    outcome = {**SUMMARY["outcome"], "connections_lower_bound": True, "others": others}
    lines = sentences({**SUMMARY, "outcome": outcome})
    assert f"≥ 12 opened (≥ 4 per DAG run, {NOTHING} per second), at most 9 open" in lines[2]
    assert lines[3] == said


def test_where_connections_were_not_counted_the_reason_is_said() -> None:
    outcome = {**SUMMARY["outcome"], "connections_opened": None, "connections_reason": "not watched"}
    assert sentences({**SUMMARY, "outcome": outcome})[3] == "Connections were not counted: not watched."


def test_a_closed_loop_has_a_throughput() -> None:
    (*_, last) = sentences({**SUMMARY, "saturated": {"users": 1, "seconds": 40.0, "throughput": 0.512}})
    assert last == "throughput with 1 DAG run in flight all the time: 0.512 DAG runs per second"


def test_a_rate_that_did_not_hold_is_said() -> None:
    kept_up = {"holds": False, "failures": 1, "in_flight_after": 30, "allowed": 12.9}
    (*_, last) = sentences({**SUMMARY, "kept_up": kept_up})
    assert last == ("the rate did not hold: 1 DAG run failed, 30 were in flight at its end, "
                    "12.9 at most where no queue grows")
