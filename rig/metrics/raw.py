"""A run's raw files, sorted by DAG run: the only input of the metrics."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from patterns.facts import EXECUTORS
from patterns.registry import PATTERNS
from rig import clock, records
from rig.records import RELAYS, Cell, Connection, DagRunRecord, PlannedRun, RunRecord, Sample, TaskRecord


@dataclass(frozen=True)
class Repeat:
    """One DAG run of the plan, with everything that was recorded of it. ``record`` is None if it never ended."""

    planned: PlannedRun
    record: DagRunRecord | None
    samples: tuple[Sample, ...]
    connections: tuple[Connection, ...]
    tasks: tuple[TaskRecord, ...]
    idle_timeout: float | None = None

    @property
    def cell(self) -> Cell:
        """The cell that was run."""
        return self.planned.cell

    @property
    def clock_step(self) -> float | None:
        """By how many seconds the clock was set, if that is too much for its times and the order of its samples."""
        return clock.too_large(self.record.clock_step) if self.record else None


@dataclass(frozen=True)
class RawRun:
    """A run as in its folder; ``repeats`` are in the order of the plan."""

    record: RunRecord
    repeats: tuple[Repeat, ...]

    def cells(self) -> dict[Cell, list[Repeat]]:
        """Return each cell's repeats, with the cells in the order of the report."""
        grouped: dict[Cell, list[Repeat]] = {}
        for repeat in sorted(self.repeats, key=lambda repeat: cell_order(repeat.cell)):
            grouped.setdefault(repeat.cell, []).append(repeat)
        return grouped


class _Indexed(Protocol):
    @property
    def index(self) -> int: ...


AnyIndexed = TypeVar("AnyIndexed", bound=_Indexed)

_PATTERNS = tuple(PATTERNS)


def cell_order(cell: Cell) -> tuple[int, int, str, int, bool, bool, bool, bool, str]:
    """Return a sort key: LocalExecutor first, the pattern that all others are compared with first."""
    known = _PATTERNS.index(cell.pattern) if cell.pattern in _PATTERNS else len(_PATTERNS)
    return (EXECUTORS.index(cell.executor), known, cell.pattern, RELAYS.index(cell.relay), cell.driver != "sync",
            cell.preload, cell.warm, cell.control, cell.model_dump_json())


def load(folder: Path) -> RawRun:
    """Read a run's folder. Raises BadInput if it contains no run, or if a raw file is damaged."""
    run = records.read_run(folder)
    # A DAG run that was recorded twice ended twice: the later line has more information.
    dag_runs = {r.index: r for r in records.read(folder / records.DAG_RUNS_FILE, DagRunRecord)}
    samples = _by_index(records.read(folder / records.SAMPLES_FILE, Sample), lambda s: s.t)
    seen = _by_index(records.read(folder / records.CONNECTIONS_FILE, Connection), lambda c: c.id)
    tasks = _by_index(records.read(folder / records.TASKS_FILE, TaskRecord), lambda t: t.map_index)
    return RawRun(run, tuple(
        Repeat(planned, dag_runs.get(planned.index), samples[planned.index], seen[planned.index],
               tasks[planned.index], run.idle_timeout)
        for planned in sorted(run.plan, key=lambda planned: planned.index)))


def _by_index(lines: Iterable[AnyIndexed], order: Callable[[AnyIndexed], float],
              ) -> defaultdict[int, tuple[AnyIndexed, ...]]:
    grouped: dict[int, list[AnyIndexed]] = {}
    for line in lines:
        grouped.setdefault(line.index, []).append(line)
    return defaultdict(tuple, {index: tuple(sorted(rows, key=order)) for index, rows in grouped.items()})
