"""What ``rig load`` says of a test when it has ended."""

from typing import Any

from rig.report.load_terminal import sentences
from rig.report.phrases import NOTHING

LATENCY = {"median": 2.04, "p95": None}
SUMMARY: dict[str, Any] = {
    "outcome": {
        "arrivals": 4, "succeeded": 3, "failed": 1, "interrupted": 0, "latencies": {"run": LATENCY, "queued": LATENCY},
        "connections_opened": 12, "connections_opened_per_run": 4.0, "connections_opened_per_second": None,
        "connections_peak": 9, "connections_left": 0},
    "share": 0.012, "polls_per_run": 3.5, "knee": None, "kept_up": None}


def test_a_summary_in_a_few_lines() -> None:
    lines = sentences({**SUMMARY, "knee": {"last_rate_that_held": 0.4, "found": True}})
    assert lines[0] == "4 DAG runs: 3 succeeded, 1 failed"
    assert f"median 2.0 s, p95 {NOTHING}" in lines[1]
    assert f"12 opened (4 per DAG run, {NOTHING} per second), at most 9 open, 0 left" in lines[2]
    assert "1.2% of the machine; 3.5 polls" in lines[3]
    assert lines[4] == "the last rate that held: 0.4 DAG runs per second"


def test_a_rate_that_did_not_hold_is_said() -> None:
    kept_up = {"holds": False, "failures": 1, "in_flight_after": 30, "allowed": 12.9}
    (*_, last) = sentences({**SUMMARY, "kept_up": kept_up})
    assert last == ("the rate did not hold: 1 DAG runs failed, 30 were in flight at its end, "
                    "12.9 at most where no queue grows")
