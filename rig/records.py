"""The raw files in a run's folder, as typed records.

The experiment writes these; the metrics and the report read them. Nothing else passes between the two. Times are
seconds since the epoch (UTC); durations are in seconds.

Layout of a run's folder::

    run.json            RunRecord: what was asked for, on which machine, with which versions
    dag_runs.jsonl      DagRunRecord: one line for each DAG run that was started
    samples.jsonl       Sample: the server's open connections, several times a second
    connections.jsonl   Connection: every connection that a sample saw
    tasks.jsonl         TaskRecord: every mapped task
    summary.json        made from the files above
    report.html         made from the files above

That of a load test, whose records are in :mod:`rig.load.records`, has the last two as well, and::

    load.json           LoadTestRecord: what was asked for
    load_runs.jsonl     LoadRun: one line for each DAG run
    series.jsonl        LoadSample: one line for each second

The folder of a comparison of loads holds the folders of its load tests, the last two, and::

    comparison.json     LoadComparison: what was asked for, and how far it came
    load_tests.jsonl    CellTestRecord: the load tests that were run to their end
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from patterns.facts import Executor
from rig.errors import BadInput
from rig.whole_file import naming, write_whole

# What was recorded under an earlier name remains readable.
EARLIER_RELAYS = {"worker": "shared"}
Relay = Annotated[Literal["none", "process", "shared"], BeforeValidator(lambda name: EARLIER_RELAYS.get(name, name))]
RELAYS: tuple[Relay, ...] = ("none", "process", "shared")

# Seconds since the epoch within the years that a date can have: to the end of 9999.
Moment = Annotated[float, Field(ge=0, lt=253_402_300_800, allow_inf_nan=False)]

CountedBy = Literal["ids", "samples", "tap"]
SCHEMA = 2          # of the raw files; runs of every earlier schema can be read
TAP = "neo4j-tap"         # the service that counts what tasks open, if the user asks for it
EXHIBIT = "inherited"     # the pattern that shows what breaks

RUN_FILE = "run.json"
DAG_RUNS_FILE = "dag_runs.jsonl"
SAMPLES_FILE = "samples.jsonl"
CONNECTIONS_FILE = "connections.jsonl"
TASKS_FILE = "tasks.jsonl"
SUMMARY_FILE = "summary.json"
REPORT_FILE = "report.html"

LOAD_FILE = "load.json"
LOAD_RUNS_FILE = "load_runs.jsonl"
SERIES_FILE = "series.jsonl"

COMPARISON_FILE = "comparison.json"
TESTS_FILE = "load_tests.jsonl"


class Record(BaseModel):
    """An immutable line of a raw file. An unknown key is an error, so that a misspelt one is not overlooked."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RowFigures(BaseModel):
    """The part of a task's row that the figures need; the row has more (:class:`patterns.workload.Row`)."""

    model_config = ConfigDict(allow_inf_nan=False)

    host: str
    pid: int
    parent_pid: int
    drivers_created: int
    first_result_seconds: float
    call_seconds: list[float]
    wrong: int
    driver_version: str | None = None
    started: float | None = None
    ended: float | None = None


def problem_with_row(row: dict[str, Any]) -> str | None:
    """Return what a task's row lacks; None if figures can be made from it."""
    try:
        RowFigures.model_validate(row)
    except ValidationError as error:
        return _first(error)
    return None


def _require_figures(row: dict[str, Any]) -> dict[str, Any]:
    if problem := problem_with_row(row):
        raise ValueError(problem)
    return row


def _require_versions(environment: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(environment.get("versions", {}), dict):
        raise ValueError("versions is no list of names with their versions")
    return environment


class Cell(Record):
    """One combination that is compared, the same in every repeat.

    ``relay`` is the scope of the shared drivers through which the tasks reach the server: ``none`` (they use only
    drivers of their own), ``process`` (one for each pool process), ``shared`` (one for the whole worker). ``warm`` is
    set for the DAG run that follows a cold one on the same scheduler and workers; all others find these just started.
    ``control`` is set for the second of two identical cells: the difference between them is noise. ``preload`` is set
    if the worker, or LocalExecutor's scheduler, imports before its fork what tasks need.
    """

    executor: Executor
    pattern: str
    relay: Relay = "none"
    tasks: int = Field(ge=1)
    calls: int = Field(ge=1)
    hold: float = Field(ge=0, allow_inf_nan=False)
    driver: Literal["sync", "async"] = "sync"
    warm: bool = False
    control: bool = False
    preload: bool = False

    @property
    def purpose(self) -> str:
        """Return what the cell is run for."""
        if self.control:
            return "the same cell a second time: how far a cell differs from itself"
        if self.pattern == EXHIBIT:
            return "what breaks with a driver that tasks inherit"
        if self.preload:
            return "what a DAG run costs whose tasks find their modules imported"
        return "what a DAG run costs from the second one on" if self.warm else "what the first DAG run costs"


class PlannedRun(Record):
    """One DAG run of the plan: its cell, and its shuffled block."""

    index: int
    block: int
    cell: Cell


class RunRecord(Record):
    """The run as a whole. ``status`` is ``running`` until the rig has ended it, and stays so after a crash.

    ``idle_timeout`` is how many seconds a shared driver keeps an unused connection; None in runs of schema 1.
    """

    schema_version: Literal[1, 2] = 2
    run: str
    profile: str
    seed: int
    slots: int = Field(ge=1)
    repeats: int
    command: str
    status: Literal["running", "complete", "interrupted", "failed"]
    reason: str | None = None
    started_at: Moment
    ended_at: Moment | None = None
    environment: Annotated[dict[str, Any], AfterValidator(_require_versions)]
    plan: list[PlannedRun]
    idle_timeout: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


class ProbeShare(Record):
    """What the probe itself used in a window; it is never part of the figures."""

    connections: int
    queries: int
    cpu_seconds: float
    samples: int
    interval_median: float | None
    interval_p95: float | None


class MachineShare(Record):
    """What a DAG run used of the machine, from just before its start until its end.

    ``cpu_seconds`` is by service. ``unattributed`` is what the machine used besides: other programs, the kernel, and
    processes that ended without being waited for. ``pressure`` is the share of the time in which something waited for a
    processor (PSI). ``steal`` is the share of the processors' time that other guests of the host used. ``load`` is the
    mean of the one-minute load averages at both ends. ``missing`` has the reason for each value that is None.
    """

    seconds: float
    cpu_seconds: dict[str, float] | None
    unattributed: float | None = None
    pressure: float | None = None
    steal: float | None = None
    load: float | None = None
    missing: dict[str, str] = Field(default_factory=dict)


class DagRunRecord(Record):
    """One DAG run: its window at the server, and how it ended.

    ``opened`` is the number of connections that the server accepted between the two marker connections, without the
    probe's own. It is None if it is not available; ``opened_reason`` then says why. If ``opened_exact`` is False, it is
    a lower bound from sampling. ``counted_by`` is the way of counting; None if there is no count, and in earlier runs,
    whose exact counts are by the ids. With a tap, ``opened`` is what tasks and driver hosts opened through it, and
    ``ids_opened`` is the count by the ids; None if that is not exact. ``sampler_reason`` says why samples are missing,
    if they are. ``others`` is how many connections of others a sample saw; None if nobody looked. ``clock_step`` is by
    how many seconds the wall clock was set forward during the DAG run, or the machine was suspended; None in earlier
    runs.
    """

    index: int
    dag_id: str
    dag_run_id: str | None
    state: Literal["success", "failed", "hung", "error", "interrupted"]
    reason: str | None
    started_at: Moment
    ended_at: Moment
    first_id: int | None
    last_id: int | None
    opened: int | None
    opened_exact: bool
    opened_reason: str | None
    counted_by: CountedBy | None = None
    ids_opened: int | None = None
    sampler_reason: str | None = None
    others: int | None = None
    clock_step: float | None = None
    probe: ProbeShare | None
    machine: MachineShare | None = None


class Sample(Record):
    """The cell's connections at one moment: ids of those open, and of those in a transaction."""

    index: int
    t: Moment
    open: list[int]
    running: list[int]


class Connection(Record):
    """A connection that at least one sample saw."""

    index: int
    id: int
    user_agent: str | None
    client_address: str | None
    first_seen: Moment
    last_seen: Moment


class TaskRecord(Record):
    """One mapped task: Airflow's times, and the row that the task itself returned.

    ``row`` is the dictionary that :func:`patterns.workload.run_task` returns. It is None if the task returned none;
    ``reason`` then says why.
    """

    index: int
    map_index: int
    state: str | None
    try_number: int
    hostname: str | None
    scheduled_at: Moment | None = None
    queued_at: Moment | None
    started_at: Moment | None
    ended_at: Moment | None
    row: Annotated[dict[str, Any], AfterValidator(_require_figures)] | None
    reason: str | None = None


def relay_on(executor: Executor, wanted: Relay) -> Relay:
    """Return the relay that an executor has if this one is wanted: LocalExecutor has no pool processes."""
    return "shared" if wanted == "process" and executor == "LocalExecutor" else wanted


AnyRecord = TypeVar("AnyRecord", bound=Record)


def append(path: Path, records: Iterable[Record]) -> None:
    """Add one line for each record, so that what was measured survives whatever happens next."""
    with naming(path), path.open("a", encoding="utf-8") as file:
        file.writelines(record.model_dump_json() + "\n" for record in records)


def read(path: Path, kind: type[AnyRecord]) -> Iterator[AnyRecord]:
    """Yield a raw file's records; a missing file has none.

    Raises BadInput if a line is not a record. An exception is a last line that was cut off in the middle, because the
    rig was killed while it wrote it.
    """
    # As bytes: a line may have been cut off in the middle of a character.
    lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    cut_off = lines.pop()
    if cut_off:
        lines.append(cut_off)
    for number, line in enumerate(lines, 1):
        try:
            yield kind.model_validate_json(line)
        except ValidationError as error:
            if cut_off and number == len(lines):
                return
            raise BadInput(f"{path}, line {number}: not a {kind.__name__}: {_first(error)}",
                           "restore the file, or leave it out by deleting the run") from error


def read_run(folder: Path) -> RunRecord:
    """Return the run's own record. Raises BadInput if the folder contains no run."""
    path = folder / RUN_FILE
    if not path.exists():
        raise BadInput(f"{folder} holds no run (no {RUN_FILE})", "`rig runs` lists the runs there are")
    text = path.read_bytes()
    require_known_schema(path, text, SCHEMA)
    try:
        return RunRecord.model_validate_json(text)
    except ValidationError as error:
        raise BadInput(f"{path} is not a run of this rig: {_first(error)}",
                       "restore the file, or delete the run's folder") from error


def require_known_schema(path: Path, text: bytes, known: int) -> None:
    """Raise BadInput if a record was written by a newer rig. Text that is not JSON is not judged here."""
    with suppress(ValueError, TypeError, KeyError):
        if (schema := int(json.loads(text)["schema_version"])) > known:
            raise BadInput(f"{path} is of a newer rig (schema {schema}, this one reads up to {known})",
                           "install the rig that made it, or a later one")


def write_run(folder: Path, record: RunRecord) -> None:
    """Write the run's own record, completely or not at all."""
    write_whole(folder / RUN_FILE, record.model_dump_json(indent=2) + "\n")


def _first(error: ValidationError) -> str:
    detail = error.errors()[0]
    return f"{'.'.join(map(str, detail['loc'])) or 'the line'}: {detail['msg']}"
