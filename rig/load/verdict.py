"""Did the test keep its thresholds? Compares the figures with them, and puts both into words."""

from rig.load.figures import Outcome
from rig.load.records import Thresholds


def broken(outcome: Outcome, thresholds: Thresholds, lost: int = 0, processes: int = 1,
           clock_set: str | None = None) -> list[str]:
    """Return a line for each threshold that the test did not keep. A figure that is not available keeps none.

    A test that lost some of its processes is incomplete: nobody knows what happened to their DAG runs. One in which the
    clock was set (``clock_set`` says so) has no times.
    """
    if lost:
        return [f"{lost} of Locust's {processes} processes ended during the test: the rest of their DAG "
                "runs is missing"]
    if clock_set is not None:
        return [f"{clock_set}: how long DAG runs took is not known"]
    if not outcome.arrivals:
        return ["no DAG run was started"]
    run = outcome.latencies["run"]
    tail = "the longest DAG run" if run.p95 is None else "the 95th percentile of the DAG runs' duration"
    left = outcome.connections_left
    return [line for line in (
        _share(outcome, thresholds.failure_share),
        _above(run.tail, thresholds.run_p95, tail, " s"),
        _above(left, thresholds.connections_left, "connections left 5 s after the last DAG run", "")) if line]


def _share(outcome: Outcome, limit: float | None) -> str | None:
    share = outcome.failure_share or 0.0
    if limit is None or share <= limit:
        return None
    why = "; ".join(f"{reason} ({count})" for reason, count in list(outcome.reasons.items())[:3])
    return f"{outcome.failed} of {outcome.arrivals} DAG runs failed (limit {limit:.0%}): {why}"


def _above(value: float | None, limit: float | None, what: str, unit: str) -> str | None:
    if limit is None or (value is not None and value <= limit):
        return None
    found = "not known" if value is None else f"{value:.3g}{unit}"
    return f"{what}: {found} (limit {limit:g}{unit})"
