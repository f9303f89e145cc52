"""The raw files of a load test and of a comparison of loads.

A load test leaves one line for each DAG run, one for each second, and what was asked for. A comparison leaves what was
asked for, and which of its load tests have finished; each of these has a folder of its own in the comparison's folder.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from patterns.facts import Executor
from rig import records
from rig.errors import BadInput
from rig.records import COMPARISON_FILE, LOAD_FILE, LOAD_RUNS_FILE, SERIES_FILE, TESTS_FILE, Moment, Record, Relay

SCHEMA = 1
NOT_STARTED: Literal["not started"] = "not started"
State = Literal["success", "failed", "unfinished", "not started", "interrupted"]
Phase = Literal["knee", "saturated", "held", "below"]
"""A search for the knee; a closed loop that is never without work; the rate that held, for long; and 80 % of what the
closed loop reached, as long."""
Arrivals = Literal["even", "poisson"]


class Load(Record):
    """What a load test was asked to do. ``rate`` is in DAG runs per second; durations are in seconds.

    ``users`` is None for open arrivals, which come at their rate whether earlier runs have ended or not. ``seed`` is
    the seed of random arrivals (a Poisson process); None if they are evenly spaced. ``first_rate`` is where
    find-the-knee begins; None for ``rate``.
    """

    tag: str
    pattern: str
    tasks: int
    calls: int
    hold: float
    shape: str
    rate: float
    seconds: float
    step_seconds: float
    run_limit: float
    users: int | None = None
    seed: int | None = None
    first_rate: float | None = None


class LoadRun(Record):
    """One DAG run of a load test, from the time it was due (epoch, s).

    All other times are in seconds since ``due``, and None if the run did not get that far: the call was begun at
    ``late`` and answered at ``trigger``, the first task of the workload started at ``queued``, and the run ended at
    ``run``. ``task_median`` is the median of the tasks' durations, ``task_tail`` their 95th percentile; with fewer than
    20 tasks, the longest.
    """

    run_id: str
    due: Moment
    state: State
    reason: str | None = None
    late: float
    trigger: float | None = None
    queued: float | None = None
    run: float | None = None
    task_median: float | None = None
    task_tail: float | None = None
    tasks_succeeded: int = 0

    @property
    def failed(self) -> bool:
        """Return whether the run counts as a failure; a run that the user has stopped does not."""
        return self.state not in {"success", "interrupted"}


class Count(Record):
    """Connections of one pattern at one moment: how many are open, and how many of these in a transaction."""

    open: int
    running: int


class WorkerDrivers(Record):
    """The drivers of one Celery worker at one moment, added up over its pool processes.

    ``open`` and ``in_use`` are connections now, ``opened`` is how many were opened so far.
    """

    processes: int
    drivers: int
    open: int
    in_use: int
    opened: int


class Resources(Record):
    """What a native stack uses of the machine at one moment. Memory is in bytes, resident.

    ``pss`` is the proportional set size: memory that processes share is divided among them. It is None unless the
    system reports it for each process.
    """

    processes: int
    descriptors: int
    memory: int
    pss: int | None = None


class LoadSample(Record):
    """The test at one moment. ``t`` is seconds since the epoch, ``elapsed`` seconds since the test's start.

    ``rate`` is how many DAG runs per second are due now, 0 without a test and with the closed model. ``triggered``,
    ``ended`` and ``failed`` count DAG runs since the test's start, ``runs_queued`` and ``runs_running`` those that are
    now in this state in Airflow. ``open`` and ``running`` are the test's connections now, and those in a transaction.
    ``opened`` counts the connections that the server accepted since then, the probe's own left out; ``seen`` those of
    them that a look has seen; ``others`` the connections of somebody else that were seen so far, which make ``opened``
    none of the test's own. A value that is not available is None, and ``trouble`` says why.
    """

    t: Moment
    elapsed: float
    rate: float
    triggered: int
    ended: int
    failed: int
    runs_queued: int | None = None
    runs_running: int | None = None
    open: int | None = None
    running: int | None = None
    opened: int | None = None
    seen: int | None = None
    others: int | None = None
    patterns: dict[str, Count] = Field(default_factory=dict)
    workers: dict[str, WorkerDrivers] | None = None
    resources: Resources | None = None
    trouble: str | None = None

    @property
    def in_flight(self) -> int:
        """DAG runs that were triggered and have not ended, according to Locust."""
        return self.triggered - self.ended

    @property
    def idle(self) -> int | None:
        """Connections that are open but not in a transaction."""
        return None if self.open is None or self.running is None else self.open - self.running


class Deployment(Record):
    """The deployment that was tested. The executor is None if the user has not named it: Airflow's API does not say.

    ``own_neo4j`` says whether the deployment alone should use its Neo4j; None if Neo4j was not watched.
    """

    airflow: str
    executor: Executor | None = None
    relay: Relay | None = None
    own_neo4j: bool | None = None


class Thresholds(Record):
    """Limits; None means no limit. ``failure_share`` is a share of all DAG runs; ``run_p95`` is in seconds."""

    failure_share: float | None = 0.0
    run_p95: float | None = None
    connections_left: int | None = None


class LoadTestRecord(Record):
    """A load test as a whole. ``status`` is ``running`` until it has ended, also after a crash.

    ``processes`` is how many of Locust's start DAG runs; those of them that ended before the test are lost.
    ``polls`` and ``poll_seconds`` are the requests that followed the DAG runs, and how long Airflow took to answer
    them; ``share`` is the part of the machine that Locust and the probe took, 0 to 1. ``clock_step`` is by how many
    seconds the wall clock was set forward during the test, or the machine was suspended; None in earlier tests.
    """

    schema_version: Literal[1] = 1
    run: str
    status: Literal["running", "complete", "interrupted"]
    started_at: Moment
    ended_at: Moment | None = None
    load: Load
    thresholds: Thresholds
    deployment: Deployment
    processes: int = 1
    lost_processes: int = 0
    polls: int = 0
    poll_seconds: float = 0.0
    share: float | None = None
    clock_step: float | None = None


class LoadCell(Record):
    """What is compared: a pattern on an executor, with its workers' relay."""

    executor: Executor
    pattern: str
    relay: Relay

    @property
    def name(self) -> str:
        """The cell's name for people."""
        return f"{self.executor} · {self.pattern}"


class LoadPlan(Record):
    """How each cell is driven; ``step`` is the first rate and the difference between two, in DAG runs per second.

    ``repeats`` is how often the knee is searched. Durations are in seconds; ``saturated_seconds`` is that of the closed
    loop beside each search, 0 where there is none. ``seed`` is that of the cells' order, and of random ``arrivals``.
    """

    seed: int
    tasks: int
    calls: int
    hold: float
    step: float
    steps: int
    step_seconds: float
    held_seconds: float
    command: str
    arrivals: Arrivals = "even"
    repeats: int = 1
    saturated_seconds: float = 0.0


class LoadComparison(LoadPlan):
    """What was asked for, and how far the comparison came."""

    schema_version: Literal[1] = 1
    run: str
    slots: int
    status: Literal["running", "complete", "interrupted", "failed"]
    reason: str | None = None
    started_at: Moment
    ended_at: Moment | None = None
    cells: list[LoadCell]


class CellTestRecord(Record):
    """One load test of a comparison: its cell (by its place), its phase, and its folder.

    ``held`` is the rate that held in it; None if none did. ``throughput`` is what a closed loop reached, in DAG runs
    per second; None if it was too short to say.
    """

    cell: int
    phase: Phase
    folder: str
    held: float | None
    throughput: float | None = None


def read_test(folder: Path) -> LoadTestRecord:
    """Return a test's own record. Raises BadInput if the folder contains no readable one."""
    path = folder / LOAD_FILE
    try:
        text = path.read_bytes()
        records.require_known_schema(path, text, SCHEMA)
        return LoadTestRecord.model_validate_json(text)
    except (OSError, ValidationError) as error:
        raise BadInput(f"{path} is not a load test of this rig", "restore the file, or delete the folder") from error


def read_runs(folder: Path) -> list[LoadRun]:
    """Return the DAG runs of a test, in the order of their due times."""
    return sorted(records.read(folder / LOAD_RUNS_FILE, LoadRun), key=lambda run: run.due)


def read_series(folder: Path) -> list[LoadSample]:
    """Return the samples of a test, earliest first."""
    return list(records.read(folder / SERIES_FILE, LoadSample))


def read_comparison(folder: Path) -> LoadComparison:
    """Return a comparison's own record. Raises BadInput if the folder contains none."""
    path = folder / COMPARISON_FILE
    try:
        text = path.read_bytes()
        records.require_known_schema(path, text, SCHEMA)
        return LoadComparison.model_validate_json(text)
    except (OSError, ValidationError) as error:
        raise BadInput(f"{folder} holds no comparison of loads", "`rig runs` lists the runs there are") from error


def read_tests(folder: Path) -> list[CellTestRecord]:
    """Return the load tests of a comparison that have finished."""
    return list(records.read(folder / TESTS_FILE, CellTestRecord))
