"""What this run means for a deployment: the law of ``rig plan`` for such tasks, and the law beside the measurements."""

from collections.abc import Sequence
from typing import NamedTuple

from rig import capacity
from rig.capacity import Forecast, Load, Row
from rig.metrics.model import Summary

TASKS_PER_HOUR = 1000.0


class Deployment(NamedTuple):
    """The assumed load, the effect of each way to get a driver under it, and the law beside the run's own cells."""

    load: Load
    forecasts: Sequence[Forecast]
    beside: Sequence[Row]
    command: str


def deployment(summary: Summary) -> Deployment | None:
    """Return the forecast for tasks like those of the run; None if no cell was measured."""
    cell = next((cell for cell in summary.cells if cell.is_counted and not cell.is_exhibit), None)
    if cell is None:
        return None
    load = Load(processes=summary.slots, tasks_per_hour=TASKS_PER_HOUR, calls=cell.calls_per_task,
                hold=cell.hold_seconds)
    command = (f"rig plan --workers 1 --processes {summary.slots} --tasks-per-hour {TASKS_PER_HOUR:g} "
               f"--calls {cell.calls_per_task} --hold {cell.hold_seconds:g}")
    return Deployment(load, [capacity.forecast(load, way) for way in capacity.WAYS], capacity.rows(summary, Load()),
                      command)
