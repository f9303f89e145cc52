"""Every raw value: the times of single tasks and calls, and the figures of single DAG runs."""

from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Any, NamedTuple

from rig.metrics.figures import clock_problem
from rig.metrics.model import CellSummary
from rig.metrics.raw import RawRun, Repeat
from rig.records import TaskRecord
from rig.report import phrases, plot
from rig.report.plot import Axis

MOST_POINTS = 600
"""The most points in one row; with more, only every n-th is drawn. A DAG run can have 10,000 tasks."""

_GOLDEN = 0.618034
_ACROSS = Axis(0.0, 1.0, "")


class Row(NamedTuple):
    """The points of a cell: their path, their median, and its position in percent."""

    cell: CellSummary
    path: str
    median: str
    at: float
    points: int


class Distribution(NamedTuple):
    """A metric of every cell on one axis; ``each`` says what one point stands for."""

    title: str
    each: str
    x: Axis
    rows: Sequence[Row]


def distributions(raw: RawRun, cells: Sequence[CellSummary]) -> list[Distribution]:
    """Return everything that can be drawn. ``cells`` are the summary's, in the order of the raw run's.

    Of a DAG run in which the clock was set only what the tasks measured without it is drawn: as in the tables.
    """
    repeats = list(raw.cells().values())
    found = [_distribution(title, each, cells, [list(_times(metric, of, which)) for of in repeats])
             for title, each, metric, which in _OF_TASKS]
    found += [_distribution(title, "a DAG run", cells, [_known(cell.metrics[name].raw) for cell in cells])
              for title, name in _OF_DAG_RUNS]
    return [one for one in found if one.rows]


def _distribution(title: str, each: str, cells: Sequence[CellSummary], values: Sequence[list[float]]) -> Distribution:
    everything = [value for of in values for value in of]
    positive = [value for value in everything if value > 0]
    # The axis is linear if there is a zero, which a logarithmic axis cannot show, or little spread.
    if positive and len(positive) == len(everything) and max(positive) > 4 * min(positive):
        x = plot.of_powers(positive, title)
    else:
        x = plot.from_zero(max(everything, default=1.0), title)
    return Distribution(title, each, x, [_row(cell, of, x) for cell, of in zip(cells, values, strict=True) if of])


def _row(cell: CellSummary, values: list[float], x: Axis) -> Row:
    drawn = values[::-(-len(values) // MOST_POINTS)]
    # The golden ratio spreads them over the row's height: neighbours do not overlap, and nothing is random.
    spread = [(value, 0.15 + 0.7 * (number * _GOLDEN % 1)) for number, value in enumerate(drawn)]
    middle = median(values)
    return Row(cell, plot.dots(spread, x, _ACROSS), phrases.number(middle), round(100 * x.at(middle), 2), len(values))


def _times(metric: str, repeats: Sequence[Repeat], of: Callable[[TaskRecord, Any], Iterator[float]],
           ) -> Iterator[float]:
    for repeat in repeats:
        for task in () if clock_problem(metric, repeat) else repeat.tasks:
            if task.state == "success" and task.row:
                yield from of(task, task.row)


def _known(raw: Sequence[float | None]) -> list[float]:
    return [value for value in raw if value is not None]


def _first_result(_: TaskRecord, row: Any) -> Iterator[float]:
    if row.get("first_result_seconds") is not None:
        yield row["first_result_seconds"]


def _later_calls(_: TaskRecord, row: Any) -> Iterator[float]:
    yield from row.get("call_seconds") or ()


def _whole(task: TaskRecord, _: Any) -> Iterator[float]:
    if task.started_at is not None and task.ended_at is not None:
        yield task.ended_at - task.started_at


_OF_TASKS = (("first result of a task, s", "a task", "first_result_seconds", _first_result),
             ("later calls, s", "a call", "call_seconds", _later_calls),
             ("a task, start to end, s", "a task", "task_seconds", _whole))
_OF_DAG_RUNS = (("idle connection-seconds", "idle_connection_seconds_kept"), ("makespan, s", "makespan_seconds"))
