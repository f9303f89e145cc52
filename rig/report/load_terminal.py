"""The result of a load test in a few lines for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rig.plural import plural
from rig.report import phrases


def sentences(summary: Mapping[str, Any]) -> Sequence[str]:
    """Return the lines for a test's summary."""
    outcome = summary["outcome"]
    run, queued = outcome["latencies"]["run"], outcome["latencies"]["queued"]
    lower = outcome["connections_lower_bound"]
    lines = [
        f"{plural(outcome['arrivals'], 'DAG run')}: {outcome['succeeded']} succeeded, {outcome['failed']} failed"
        + (f", {outcome['interrupted']} were stopped" if outcome["interrupted"] else ""),
        f"run: median {_seconds(run['median'])}, {_tail(run)}   queued: median {_seconds(queued['median'])}, "
        f"{_tail(queued)}",
        f"connections: {phrases.bound(outcome['connections_opened'], lower)} opened "
        f"({phrases.bound(outcome['connections_opened_per_run'], lower)} per DAG run, "
        f"{phrases.bound(outcome['connections_opened_per_second'], lower)} per second), at most "
        f"{_number(outcome['connections_peak'])} open, {_number(outcome['connections_left'])} left 5 s after the last",
        f"Locust and the probe took {summary['share'] or 0:.1%} of the machine; "
        f"{_number(summary['polls_per_run'])} polls per DAG run"]
    lines[3:3] = [f"{line}." for line in phrases.doubts(outcome)]
    if saturated := summary["saturated"]:
        lines.append(f"throughput with {plural(saturated['users'], 'DAG run')} in flight all the time: "
                     f"{_number(saturated['throughput'])} DAG runs per second")
    if (kept_up := summary["kept_up"]) and not kept_up["holds"]:
        lines.append(f"the rate did not hold: {plural(kept_up['failures'], 'DAG run')} failed, "
                     f"{kept_up['in_flight_after']} were in flight at its end, "
                     f"{_number(kept_up['allowed'])} at most where no queue grows")
    if knee := summary["knee"]:
        held = knee["last_rate_that_held"]
        lines.append("the first rate did not hold" if held is None else
                     f"the last rate that held: {held:g} DAG runs per second" + (
                         "" if knee["found"] else " (none was found that does not)") +
                     "; one search, which has no interval: `rig compare-load --repeats` has")
    return lines


def _tail(latency: Mapping[str, Any]) -> str:
    """Return the 95th percentile; for too few values, the maximum, labelled as such."""
    return f"at most {_seconds(latency['highest'])}" if latency["p95"] is None else f"p95 {_seconds(latency['p95'])}"


def _seconds(value: float | None) -> str:
    return phrases.NOTHING if value is None else f"{value:.1f} s"


def _number(value: float | None) -> str:
    return phrases.NOTHING if value is None else f"{value:.4g}"
