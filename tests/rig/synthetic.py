"""A run's folder that looks like a real one: a small simulation, for looking at the report."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from patterns.facts import EXECUTORS
from rig.records import Cell, Connection, DagRunRecord, PlannedRun, Sample, TaskRecord
from tests.rig import builders

INTERVAL = 0.2


@dataclass
class Open:
    """A connection's life, in seconds since the epoch, with the moments in a transaction."""

    id: int
    start: float
    end: float
    agent: str | None
    busy: list[tuple[float, float]] = field(default_factory=list)


@dataclass
class Simulated:
    """One DAG run."""

    record: DagRunRecord
    samples: list[Sample]
    connections: list[Connection]
    tasks: list[TaskRecord]


def folder(path: Path, cells: list[Cell], repeats: int = 3, slots: int = 16, **run: object) -> Path:
    """Write a run of these cells, its blocks shuffled."""
    random = Random(1)
    planned: list[PlannedRun] = []
    for block in range(repeats):
        for cell in random.sample(cells, len(cells)):
            planned.append(PlannedRun(index=len(planned), block=block, cell=cell))
    runs = [simulate(one, slots, random) for one in planned]
    return builders.write(
        path, builders.run(planned, repeats=repeats, slots=slots, **run),
        dag_runs=[r.record for r in runs], samples=[s for r in runs for s in r.samples],
        connections=[c for r in runs for c in r.connections], tasks=[t for r in runs for t in r.tasks])


def simulate(planned: PlannedRun, slots: int, random: Random) -> Simulated:
    """Run the cell's tasks on so many slots, and sample what they open."""
    start, cell = builders.START + 1000 * planned.index, planned.cell
    tasks = list(_tasks(planned, start, slots, random))
    first = 100 + 1000 * planned.index
    opened = list(_connections(cell, tasks, slots, random))
    opened.sort(key=lambda one: one.start)
    for number, one in enumerate(opened, 1):
        one.id = first + number
    last_end = max(task.ended_at or 0 for task in tasks)
    samples = list(_samples(planned.index, opened, start - 1, last_end + 30, random))
    return Simulated(
        builders.dag_run(planned.index, dag_id=f"neo4j_{cell.pattern}_pattern", started_at=start,
                         ended_at=samples[-1].t, first_id=first, last_id=first + len(opened) + 1,
                         opened=len(opened),
                         probe={"connections": 3, "queries": 2 * len(samples), "cpu_seconds": 0.4,
                                "samples": len(samples), "interval_median": 0.21, "interval_p95": 0.229}),
        samples, list(_seen(planned.index, opened, samples)), tasks)


def _tasks(planned: PlannedRun, start: float, slots: int, random: Random) -> Iterator[TaskRecord]:
    celery, calls = planned.cell.executor == "CeleryExecutor", planned.cell.calls
    free = [start + 1.5 + random.random() * 2 for _ in range(slots)]
    for number in range(planned.cell.tasks):
        slot = free.index(min(free))
        queued = max(start + 1, free[slot] - 1.5)
        began = free[slot] + random.expovariate(5 if celery else 3)
        ended = began + 2 + calls * 0.05 + random.expovariate(2)
        free[slot] = ended + 0.3 + random.random() * (0.6 if celery else 0.9)
        row = builders.row(2000 + number, parent_pid=100 + slot,
                           first_result_seconds=random.lognormvariate(-2, 0.4),
                           call_seconds=[random.lognormvariate(-4, 0.3) for _ in range(calls - 1)],
                           drivers_created=calls if planned.cell.pattern == "problematic" else 1)
        yield builders.task(number, queued, began, ended, index=planned.index, row=row)


def _connections(cell: Cell, tasks: list[TaskRecord], slots: int, random: Random) -> Iterator[Open]:
    if cell.relay != "none":
        end = max(task.ended_at or 0 for task in tasks) + 100
        for number in range(slots if cell.relay == "process" else 7):
            began = (tasks[number].started_at or 0) + 0.2
            yield Open(0, began, end, None, [(t.started_at or 0, (t.started_at or 0) + .2)
                                             for t in tasks[number::slots]])
        return
    for task in tasks:
        assert task.row
        assert task.started_at
        assert task.ended_at
        for call in range(cell.calls if cell.pattern in ("problematic", "hook") else 1):
            began = task.started_at + 0.15 + call * 0.05
            end = task.ended_at if cell.pattern != "hook" else began + 0.04
            yield Open(0, began, end + 0.02 * random.random(),
                       builders.agent(task.row["pid"], cell.pattern, parent=task.row["parent_pid"]),
                       [(began, began + 0.03)])


def _samples(index: int, opened: list[Open], start: float, end: float, random: Random) -> Iterator[Sample]:
    now, gone_after = start, max((one.end for one in opened), default=start)
    while now < end:
        open_ = [one for one in opened if one.start <= now < one.end]
        yield Sample(index=index, t=round(now, 4), open=[one.id for one in open_],
                     running=[one.id for one in open_ if any(a <= now < b for a, b in one.busy)])
        if now > gone_after + 1:
            return
        now += INTERVAL * random.uniform(0.95, 1.15)


def _seen(index: int, opened: list[Open], samples: list[Sample]) -> Iterator[Connection]:
    for one in opened:
        if times := [sample.t for sample in samples if one.id in sample.open]:
            yield builders.connection(one.id, times[0], times[-1], one.agent, index)


def four(tasks: int = 100) -> list[Cell]:
    """Return both executors with the two patterns that the seed compares."""
    return [builders.cell(pattern, executor, tasks=tasks)
            for executor in EXECUTORS for pattern in ("problematic", "improved")]


def eight(tasks: int = 100) -> list[Cell]:
    """Return what the full comparison runs."""
    return [*four(tasks), *(builders.cell("hook", executor, tasks=tasks) for executor in EXECUTORS),
            builders.cell("worker", "CeleryExecutor", "process", tasks=tasks),
            builders.cell("worker", "CeleryExecutor", "shared", tasks=tasks)]


KINDS: dict[str, Callable[[int], list[Cell]]] = {"four": four, "eight": eight}

if __name__ == "__main__":
    print(json.dumps(str(folder(Path(sys.argv[2]), KINDS[sys.argv[1]](100)))))
