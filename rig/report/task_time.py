"""Where the time of a task goes, from the raw files: Airflow's times and the task's own row."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import mean
from typing import Any, NamedTuple

from rig.metrics.model import CellSummary
from rig.metrics.raw import RawRun, Repeat
from rig.records import TaskRecord

# The parts of a task, in order: the part's name in the style sheet, and its description.
PARTS: Mapping[str, str] = {
    "start": "Airflow starts the task: its process, its imports, the DAG file",
    "first": "the first result: driver, connection, login, query",
    "later": "later calls",
    "hold": "holds its driver, as asked for",
    "own": "the rest of the task’s own code",      # noqa: RUF001 - typography
    "end": "Airflow ends the task: result, state, process"}
DATABASE = ("first", "later")


class Part(NamedTuple):
    """A part of a task's time: mean seconds, and its position in percent of the longest cell's."""

    name: str
    seconds: float
    left: float
    width: float


class TaskTime(NamedTuple):
    """The parts of a cell's tasks. ``database`` is the share of 1 that the database calls take."""

    cell: CellSummary
    parts: Sequence[Part]
    seconds: float
    database: float


def task_times(raw: RawRun, cells: Sequence[CellSummary]) -> list[TaskTime]:
    """Return the mean task of each cell that has complete rows. ``cells`` are the summary's."""
    means = [(cell, _means(repeats)) for cell, repeats in zip(cells, raw.cells().values(), strict=True)]
    longest = max((sum(found.values()) for _, found in means), default=0) or 1
    return [_task_time(cell, found, longest) for cell, found in means if found]


def _task_time(cell: CellSummary, found: Mapping[str, float], longest: float) -> TaskTime:
    parts, left = [], 0.0
    for name, seconds in found.items():
        width = 100 * seconds / longest
        parts.append(Part(name, seconds, round(left, 2), round(width, 2)))
        left += width
    total = sum(found.values())
    return TaskTime(cell, parts, total, sum(found[name] for name in DATABASE) / total)


def _means(repeats: Iterable[Repeat]) -> dict[str, float]:
    """Return the mean of each part over all tasks that succeeded; empty if no task has all parts.

    DAG runs in which the clock was set are left out.
    """
    tasks = [parts for repeat in repeats if repeat.clock_step is None for task in repeat.tasks
             if task.state == "success" for parts in _parts(task, repeat.cell.hold)]
    return {name: mean(parts[name] for parts in tasks) for name in PARTS} if tasks else {}


def _parts(task: TaskRecord, hold: float) -> Iterator[dict[str, float]]:
    """Yield a task's parts; none if a time is missing. A part is never negative: clocks differ a little."""
    row: Mapping[str, Any] = task.row or {}
    if task.started_at is None or task.ended_at is None or row.get("started") is None or row.get("ended") is None:
        return
    first, later = row["first_result_seconds"], sum(row["call_seconds"])
    yield {name: max(0.0, seconds) for name, seconds in {
        "start": row["started"] - task.started_at, "first": first, "later": later, "hold": hold,
        "own": row["ended"] - row["started"] - first - later - hold, "end": task.ended_at - row["ended"]}.items()}
