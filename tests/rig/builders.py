"""Builds runs' folders by hand: small records with defaults, so that a test states what matters to it."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from patterns.facts import Executor
from patterns.identity import Identity, user_agent
from rig import records
from rig.records import (
    Cell,
    Connection,
    DagRunRecord,
    MachineShare,
    PlannedRun,
    ProbeShare,
    Relay,
    RunRecord,
    Sample,
    TaskRecord,
)

START = 1000.0
ENVIRONMENT = {"versions": {"python": "3.11.7", "apache-airflow": "3.3.2", "neo4j-driver": "6.4.1",
                            "neo4j": "2026.08.1"},
               "cpu": {"model": "Some CPU", "count": 2}, "memory": {"total_bytes": 8_000_000_000}}


MACHINE = MachineShare(
    seconds=20, unattributed=3, pressure=0.4, steal=0.01, load=2.5, cpu_seconds={
        "tasks": 6, "airflow-scheduler": 2, "airflow-apiserver": 1, "airflow-worker": 3, "neo4j": 4, "postgres": 5,
        "flower": 8, "probe": 10})


def agent(pid: int, pattern: str = "improved", host: str = "host", parent: int = 1) -> str:
    return user_agent(Identity("0.1.0", pattern, "root", host, parent, pid))


def cell(pattern: str = "problematic", executor: Executor = "LocalExecutor", relay: Relay = "none",
         tasks: int = 2, calls: int = 3, **more: Any) -> Cell:
    return Cell(executor=executor, pattern=pattern, relay=relay, tasks=tasks, calls=calls, hold=2.0, **more)


def plan(*cells: Cell) -> list[PlannedRun]:
    """Return a plan in which a cell that comes again does so in the next block."""
    return [PlannedRun(index=index, block=cells[:index].count(one), cell=one) for index, one in enumerate(cells)]


def run(planned: Sequence[PlannedRun], **changes: Any) -> RunRecord:
    return RunRecord.model_validate({
        "run": "run-1", "profile": "quick", "seed": 7, "slots": 16, "repeats": 1, "status": "complete",
        "command": "rig compare --profile quick --seed 7", "started_at": START, "ended_at": START + 100,
        "environment": ENVIRONMENT, "idle_timeout": 300.0, "plan": [p.model_dump() for p in planned], **changes})


def dag_run(index: int = 0, **changes: Any) -> DagRunRecord:
    return DagRunRecord.model_validate({
        "index": index, "dag_id": "neo4j_problematic_pattern", "dag_run_id": f"manual__{index}",
        "state": "success", "reason": None, "started_at": START, "ended_at": START + 20, "first_id": 10,
        "last_id": 15, "opened": 4, "opened_exact": True, "opened_reason": None,
        "probe": ProbeShare(connections=3, queries=40, cpu_seconds=0.5, samples=17, interval_median=1.0,
                            interval_p95=1.0).model_dump(), "machine": MACHINE.model_dump(), **changes})


def task(map_index: int, queued: float | None, started: float | None, ended: float | None, *,
         index: int = 0, row: dict[str, Any] | None = None, **changes: Any) -> TaskRecord:
    return TaskRecord.model_validate({
        "index": index, "map_index": map_index, "state": "success", "try_number": 1, "hostname": "host",
        "scheduled_at": None if queued is None else queued - 0.5,
        "queued_at": queued, "started_at": started, "ended_at": ended, "row": row, **changes})


def row(pid: int, **changes: Any) -> dict[str, Any]:
    return {"host": "host", "pid": pid, "parent_pid": 1, "drivers_created": 2, "first_result_seconds": 0.2,
            "call_seconds": [0.1, 0.3], "wrong": 0, "driver_version": "6.4.1", **changes}


def sample(t: float, open_: Iterable[int], running: Iterable[int] = (), index: int = 0) -> Sample:
    return Sample(index=index, t=t, open=list(open_), running=list(running))


def connection(id_: int, first: float, last: float, user_agent: str | None = None,
               index: int = 0) -> Connection:
    return Connection(index=index, id=id_, user_agent=user_agent, client_address="127.0.0.1:5000",
                      first_seen=first, last_seen=last)


def write(folder: Path, record: RunRecord, *, dag_runs: Iterable[DagRunRecord] = (),
          samples: Iterable[Sample] = (), connections: Iterable[Connection] = (),
          tasks: Iterable[TaskRecord] = ()) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    records.write_run(folder, record)
    records.append(folder / records.DAG_RUNS_FILE, dag_runs)
    records.append(folder / records.SAMPLES_FILE, samples)
    records.append(folder / records.CONNECTIONS_FILE, connections)
    records.append(folder / records.TASKS_FILE, tasks)
    return folder


def tiny_tasks(index: int = 0) -> list[TaskRecord]:
    """Return two tasks whose makespan window is 1001 to 1011."""
    return [task(0, 1001, 1002, 1006, index=index, row=row(11, started=1002.5)),
            task(1, 1002, 1004, 1011, index=index,
                 row=row(12, started=1005.0, parent_pid=2, first_result_seconds=0.4, call_seconds=[0.2, 0.6]))]


def tiny_samples(index: int = 0) -> list[Sample]:
    """Return a sample a second: 11 and 12 are task 0's, 13 is task 1's, 14 no sample saw."""
    open_ = {1003: [11], 1004: [11, 12], 1005: [11, 12, 13], 1006: [11, 12, 13],
             **{t: [12, 13] for t in range(1007, 1013)}, 1013: [13]}
    running = {1003: [11], 1005: [13]}
    return [sample(t, open_.get(t, []), running.get(t, []), index) for t in range(1000, 1015)]


def tiny_connections(index: int = 0) -> list[Connection]:
    """Return what the samples saw; 12 outlives its task by six seconds."""
    return [connection(11, 1003, 1006, agent(11), index), connection(12, 1004, 1012, agent(11), index),
            connection(13, 1005, 1013, agent(12, parent=2), index)]


def tiny(folder: Path, *, repeats: int = 1, **dag_run_changes: Any) -> Path:
    """Write a run of one cell of two tasks, with figures that can be worked out by hand."""
    indexes = range(repeats)
    return write(folder, run(plan(*[cell()] * repeats), repeats=repeats),
                 dag_runs=[dag_run(index, **dag_run_changes) for index in indexes],
                 samples=[one for index in indexes for one in tiny_samples(index)],
                 connections=[one for index in indexes for one in tiny_connections(index)],
                 tasks=[one for index in indexes for one in tiny_tasks(index)])


def rewrite(path: Path, lines: Iterable[records.Record]) -> None:
    """Replace a raw file's lines."""
    path.unlink()
    records.append(path, lines)
