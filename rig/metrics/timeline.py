"""The timeline of a DAG run, as the charts draw it."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rig.metrics.counting import totals
from rig.metrics.gauges import Point, idle
from rig.metrics.raw import Repeat
from rig.records import DagRunRecord, Sample


class Timeline(NamedTuple):
    """Connections over the seconds since the DAG run was started. A value holds until the next point."""

    idle: list[Point]
    opened: list[Point]
    closed: list[Point]


def timeline(repeat: Repeat) -> Timeline | None:
    """Return a DAG run's timeline; None if nothing was sampled, its start is not known, or the clock was set."""
    record = repeat.record
    if record is None or not repeat.samples or repeat.clock_step is not None:
        return None
    opened, closed = totals(repeat, record)
    return Timeline(_points(record, repeat.samples, map(idle, repeat.samples)),
                  _points(record, repeat.samples, opened), _points(record, repeat.samples, closed))


def _points(record: DagRunRecord, samples: Sequence[Sample], values: Iterable[int]) -> list[Point]:
    """Return the points at which the value changes, and the last one."""
    points: list[Point] = []
    for sample, value in zip(samples, values, strict=True):
        if not points or points[-1].value != value or sample is samples[-1]:
            points.append(Point(round(sample.t - record.started_at, 3), value))
    return points
