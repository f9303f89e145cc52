"""The law compared with measurements: its error for each cell of a comparison.

A comparison loads all tasks of a DAG run at once. The workers have just started or, in a warm cell, are those of the
previous run. So the law is applied to what the first batch opens, to the peak, and, for drivers of the tasks' own, to
the mean in the makespan window. It says nothing about idle timeouts, which take longer than a run.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from rig.capacity import law
from rig.capacity.law import HOUR, Load, Way

if TYPE_CHECKING:       # it imports scipy, which takes most of a second and is not needed for a forecast
    from rig.metrics.model import CellSummary, Summary


class Row(NamedTuple):
    """One metric of a cell: the law's value and the measured one, None with a reason if it was not measured."""

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
        """The error of the law, as a share of the measured value; None if that is 0 or missing."""
        return None if not self.measured else self.law / self.measured - 1


def rows(summary: "Summary", load: Load) -> list[Row]:
    """Return the law's value and the measurement for each cell that the law covers.

    ``load`` provides what the run does not record: the duration of a query, and the size of a shared driver.
    """
    return [row for cell in summary.cells if summary.tells_of(cell) and (way := way_of(cell))
            for row in _rows(cell, way, summary.slots, load)]


def way_of(cell: "CellSummary") -> Way | None:
    """Return how a cell's tasks get their driver; None for an exhibit, which the law does not cover."""
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
    if way in {"problematic", "improved"}:      # these grow during a cold run: it has no steady mean
        said["connections_mean"] = law.connections(as_run, way).open
    for metric, value in said.items():
        measured = cell.metrics[metric]
        yield Row(cell.executor, cell.pattern, cell.relay, cell.warm, metric, value, measured.median, measured.reason)
