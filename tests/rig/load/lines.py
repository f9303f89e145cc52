"""Raw lines of a load test, with defaults for what a test does not care about."""

from typing import Any

from rig.load.records import Load, LoadRun, LoadSample


def run(due: float, seconds: float | None = 4.0, **changes: Any) -> LoadRun:
    """Return a DAG run that was due at a moment and took so long; one that did not end where it took None."""
    known: dict[str, Any] = {"run_id": f"load-x-{due}", "due": due, "late": 0.0, "state": "success", "run": seconds}
    return LoadRun(**known | ({} if seconds is not None else {"state": "unfinished", "reason": "too slow"}) | changes)


def sample(t: float, **changes: Any) -> LoadSample:
    """Return a sample of a moment; a test that began at 0."""
    known: dict[str, Any] = {"t": t, "elapsed": t, "rate": 1.0, "triggered": 0, "ended": 0, "failed": 0}
    return LoadSample(**known | changes)


def load(**changes: Any) -> Load:
    """Return what a test was asked to do."""
    known: dict[str, Any] = {
        "tag": "load-x", "pattern": "worker", "tasks": 5, "calls": 3, "hold": 0.2, "shape": "steady", "rate": 0.5,
        "seconds": 60.0, "step_seconds": 45.0, "run_limit": 300.0}
    return Load(**known | changes)
