"""The law beside what was measured: its error for each cell of a comparison.

A comparison loads all tasks of a DAG run at once, on workers that have just been started or, in a warm cell, on those
of the run before. So the law says what the first batch opens, the peak, and for drivers of the tasks' own the mean
in the makespan window. It says nothing there about idle timeouts, which take longer than a run.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from rig.capacity import law
from rig.capacity.law import HOUR, Load, Way

if TYPE_CHECKING:       # it brings scipy, which takes most of a second: who asks for a forecast needs none of it
    from rig.metrics.model import CellSummary, Summary


class Row(NamedTuple):
    """One metric of a cell: what the law says, and what was measured, None with the reason where it was not."""

    executor: str
    pattern: str
    relay: str
    warm: bool
    metric: str
    law: float
    measured: float | None
    reason: str | None

    @property
    def error(self) -> float | None:
        """How far the law is off, as a share of what was measured; None where that is 0 or missing."""
        return None if not self.measured else self.law / self.measured - 1


def rows(summary: "Summary", load: Load) -> list[Row]:
    """Return the law and the measurement for each cell that the law knows.

    ``load`` gives what the run does not record: the duration of a query, and the size of a shared driver.
    """
    return [row for cell in summary.cells if (way := way_of(cell)) for row in _rows(cell, way, summary.slots, load)]


def way_of(cell: "CellSummary") -> Way | None:
    """Return the way of a cell's tasks; None for an exhibit, which the law does not know."""
    if cell.relay == "none":
        ways: dict[str, Way] = {"problematic": "problematic", "improved": "improved", "hook": "improved"}
        return ways.get(cell.pattern)
    return None if cell.is_exhibit else cell.relay


def _rows(cell: "CellSummary", way: Way, slots: int, load: Load) -> Iterator[Row]:
    makespan, task = (cell.metrics[name].median for name in ("makespan_seconds", "task_seconds"))
    if not makespan or not task:
        return
    as_run = Load(
        workers=1, processes=slots, tasks_per_hour=cell.tasks * HOUR / makespan, at_once=cell.tasks,
        calls=cell.calls_per_task, hold=cell.hold_seconds, task_seconds=max(task, cell.hold_seconds), query=load.query,
        round_trip=load.round_trip, max_size=load.max_size, limit=load.limit, worth=load.worth)
    opened = 0 if cell.warm and way in {"process", "shared"} else law.opened_by_first(as_run, way)
    most = law.peak(as_run, way)
    if way == "process":
        most = min(most, cell.tasks)
    said: dict[str, float] = {"connections_opened": opened, "connections_peak": most}
    if way in {"problematic", "improved"}:      # what is kept grows while a cold run lasts: it has no steady mean
        said["connections_mean"] = law.connections(as_run, way).open
    for metric, value in said.items():
        measured = cell.metrics[metric]
        yield Row(cell.executor, cell.pattern, cell.relay, cell.warm, metric, value, measured.median, measured.reason)
