"""The deployment that faults hit: a native stack, its Neo4j behind a proxy, and a DAG that writes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import neo4j
import psutil
from neo4j.exceptions import AuthError, DriverError, Neo4jError

from chaos import disk, writes
from chaos.account import Ended, Row, Stored
from chaos.proxy import Proxy
from patterns.facts import Executor
from rig.airflow_api import AirflowApi, ApiError
from rig.records import Relay
from rig.settings import PROJECT, Settings
from rig.stack import airflow, ports, processes
from rig.stack.native import NativeStack
from rig.stack.state import StackState
from testing.neo4j_server import StartedNeo4j
from worker_init.control import find_folders, read_status
from worker_init.errors import WorkerInitError

DAG, TASK = "chaos_writes", "store"
PASSWORD = "of-the-chaos-suite"     # noqa: S105 - of a server that only lives as long as the suite
AGENT = "chaos (account)"
OPEN = "CALL dbms.listConnections() YIELD userAgent WHERE userAgent <> $agent RETURN count(*) AS open"
ROWS = "MATCH (row:ChaosRow {run: $run}) RETURN row.task AS task, row.try AS try_number, row.nonce AS nonce"
MIXED_UP = "MATCH (row:ChaosMixedUp {run: $run}) RETURN count(row) AS count"
UNCOMMITTED = "MATCH (row:ChaosUncommitted {run: $run}) RETURN count(row) AS count"
IN_A_TRANSACTION = f"SHOW TRANSACTIONS YIELD metaData RETURN metaData.{writes.PID} AS pid"
ASKING = 10.0           # seconds that a query to Neo4j may take
STATUS_WITHIN = 15.0    # seconds, the rig's own promise
# Airflow's own times for noticing dead processes, as short as a busy machine allows: the defaults take ten minutes.
NOTICING = {"AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "90",
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "120",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "10",
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "10",
            "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "20"}
BUG = "CHAOS_BUG"
DATA = "data"           # the folder of the stack's own files


class Size(NamedTuple):
    """What a process uses: open file descriptors, threads, and resident memory in bytes."""

    descriptors: int
    threads: int
    resident: int


class Ground:
    """A running stack. Its files are in ``folder``, on ``disk`` if there is one."""

    def __init__(self, folder: Path, slots: int, tell: Callable[[str], None], small: disk.Disk | None = None) -> None:
        self._tell = tell
        self.folder = folder
        self.disk = small
        self.neo4j = StartedNeo4j(folder / "neo4j", ports.choose(0, variable="the chaos suite"), PASSWORD)
        self.proxy: Proxy | None = None
        self.slots = slots
        self._stack: NativeStack | None = None

    @property
    def stack(self) -> NativeStack:
        """The stack. It exists once ``up`` has been called."""
        assert self._stack
        return self._stack

    @property
    def state(self) -> StackState:
        """The stack's present state."""
        return self.stack.state()

    def up(self, executor: Executor, relay: Relay) -> None:
        """Start Neo4j, the proxy and the stack."""
        self._tell("starting Neo4j and a stack …")
        self.neo4j.start()
        self.proxy = Proxy(self.neo4j.port)
        self._dags()
        self.environment = {
            **NOTICING, "NEO4J_URI": f"bolt://127.0.0.1:{self.proxy.port}", "NEO4J_PASSWORD": PASSWORD,
            "RIG_DATA_DIR": str(self.folder / DATA), "RIG_CACHE_DIR": str(Settings().downloads_dir),
            "AIRFLOW_PROJ_DIR": str(self.folder / "project"), "RIG_SLOTS": str(self.slots),
            "PYTHONPATH": f"{PROJECT / 'chaos' / 'bugs'}:{PROJECT}",
            "RIG_INHERIT": ",".join((*NOTICING, "PYTHONPATH", BUG))}
        os.environ.update(self.environment)
        self._stack = NativeStack(Settings())
        self._stack.up(executor, slots=self.slots, relay=relay, keeper=processes.this_process())
        with self.api() as api:
            api.set_paused(DAG, False)

    def down(self) -> None:
        """Stop and remove everything, in whatever state it is."""
        if self._stack:
            self._stack.down()
        if self.proxy:
            self.proxy.close()
        self.neo4j.stop()

    def fit(self, executor: Executor, relay: Relay) -> None:
        """Switch the stack to this executor, with all services ready."""
        if dead := self.stack.dead():
            self.stack.restart(dead)
        if (self.state.executor, self.state.relay) != (executor, relay):
            self.stack.switch(executor, relay)

    def _dags(self) -> None:
        dags = self.folder / "project" / "dags"
        dags.mkdir(parents=True, exist_ok=True)
        for file in (*(PROJECT / "dags").glob("*.py"), *(PROJECT / "chaos" / "dags").glob("*.py")):
            shutil.copy(file, dags)

    def api(self) -> AirflowApi:
        """Return a client for Airflow's API."""
        return self.stack.api(self.state)

    # --- a DAG run ------------------------------------------------------------------------------

    def trigger(self, tasks: int, pattern: str, hold: float) -> str:
        """Start a DAG run; return its id."""
        with self.api() as api:
            return api.trigger(DAG, {"tasks": tasks, "pattern": pattern, "hold": hold})

    def counts(self, run: str) -> dict[str, int] | None:
        """Return how many tasks are in each state; None if Airflow does not answer."""
        try:
            with self.api() as api:
                return api.task_counts(DAG, run)
        except ApiError:
            return None

    def has_ended(self, run: str) -> bool:
        """Whether the DAG run has ended, according to Airflow if it answers."""
        try:
            with self.api() as api:
                return api.run_state(DAG, run) not in {"queued", "running"}
        except ApiError:
            return False

    def give_up(self, run: str) -> None:
        """Fail a DAG run that does not end, so that the next one has the stack for itself."""
        with suppress(ApiError), self.api() as api:
            api.fail_run(DAG, run)

    def account(self, run: str) -> tuple[list[Ended], Stored]:
        """Return what Airflow says about each task, and what Neo4j has stored for it."""
        with self.api() as api:
            instances = [one for one in api.task_instances(DAG, run, TASK) if one["map_index"] >= 0]
            nonces = api.returned(DAG, run, TASK, [one["map_index"] for one in instances])
        tasks = [Ended(one["map_index"], one["state"], one["try_number"], nonce)
                 for one, nonce in zip(instances, nonces, strict=True)]
        with self.driver() as driver:
            rows = [Row(**record.data()) for record in driver.execute_query(ROWS, run=run).records]
            mixed_up, uncommitted = (int(driver.execute_query(query, run=run).records[0]["count"])
                                     for query in (MIXED_UP, UNCOMMITTED))
        return tasks, Stored(rows, mixed_up, uncommitted)

    # --- what can be asked ------------------------------------------------------------------------

    def driver(self) -> neo4j.Driver:
        """Return a driver of the suite's own, which bypasses the proxy."""
        return neo4j.GraphDatabase.driver(self.neo4j.uri, auth=("neo4j", PASSWORD), user_agent=AGENT,
                                          notifications_min_severity="OFF")

    def connections(self) -> int | None:
        """Return how many connections Neo4j has open, without the suite's own; None if it does not answer."""
        try:
            with self.driver() as driver:
                return int(driver.execute_query(OPEN, agent=AGENT).records[0]["open"])
        except (DriverError, Neo4jError):
            return None

    def host(self) -> dict[str, Any] | None:
        """Return the status of the driver host that serves; None if none does."""
        for folder in find_folders(self.state.drivers_dir):
            with suppress(WorkerInitError):
                return read_status(folder, 5.0)
        return None

    def lets_a_stranger_in(self) -> bool:
        """Whether a relay accepts a client with a wrong password."""
        host = self.host()
        if not host or not host.get("drivers"):
            return False
        try:
            relay = f"bolt://{host['drivers'][0]['address']}"
            with neo4j.GraphDatabase.driver(relay, auth=("stranger", "wrong")) as driver:
                driver.execute_query("RETURN 1")
        except (AuthError, Neo4jError, DriverError):
            return False
        return True

    def status(self) -> "tuple[int, float, str]":
        """Run ``rig status`` as a user would; return its exit code, its duration in seconds, and its output."""
        began = time.monotonic()
        asked = subprocess.run([str(Path(sys.executable).parent / "rig"), "status", "--json"], env=os.environ,
                               capture_output=True, text=True, check=False, timeout=120)
        return asked.returncode, time.monotonic() - began, asked.stdout + asked.stderr

    def worker_problem(self) -> str | None:
        """Return why the Celery worker takes no tasks; None if it does, or if there is none.

        As for a liveness check, no answer counts too, from the worker or from the broker.
        """
        return airflow.worker_finding(self.state).problem if self.state.executor == "CeleryExecutor" else None

    def unwell(self, said: str) -> dict[str, str]:
        """Return the services that ``rig status`` reports as unwell, each with its line."""
        try:
            services = json.loads(said)["services"]
        except ValueError:
            return {}
        return {name: service["problem"] for name, service in services.items() if not service["healthy"]}

    # --- processes --------------------------------------------------------------------------------

    def pid(self, service: str) -> int:
        """Return the pid of a service's main process."""
        return self.neo4j_pid() if service == "neo4j" else self.state.services[service].process.pid

    def neo4j_pid(self) -> int:
        """Return the pid of Neo4j, which is not one of the stack's services."""
        assert self.neo4j.process
        return self.neo4j.process.pid

    def pool_processes(self) -> list[psutil.Process]:
        """Return the processes that fork a process for each task, on either executor."""
        return [child for child in psutil.Process(self._pool_parent()).children() if not _is_driver_host(child)]

    def _pool_parent(self) -> int:
        return self.pid(airflow.WORKER if self.state.executor == "CeleryExecutor" else "airflow-scheduler")

    def tasks_in_a_transaction(self) -> set[int]:
        """Return the pids of the tasks that Neo4j has in a transaction now; empty if it does not answer."""
        try:
            # Not with execute_query, which would retry for half a minute.
            with self.driver() as driver, driver.session() as session:
                found = list(session.run(neo4j.Query(IN_A_TRANSACTION, timeout=ASKING)))
        except (DriverError, Neo4jError):
            return set()
        return {int(record["pid"]) for record in found if record["pid"] is not None}

    def busy_pool_processes(self) -> list[psutil.Process]:
        """Return the processes whose forked task is in a transaction now."""
        busy = self.tasks_in_a_transaction()
        return [pool for pool in self.pool_processes() if busy & {task.pid for task in _children(pool)}]

    def processes(self) -> dict[int, str]:
        """Return the stack's processes, including those of tasks: the command of each, by pid.

        The pool's processes are left out: LocalExecutor creates as many as it needs, and keeps them. Each process is
        looked at once, so that one which is forked meanwhile is not left out twice.
        """
        parent = self._pool_parent()
        return {process.pid: command_of(process) for process in processes.marked(str(self.stack.folder))
                if _parent(process) != parent or _is_driver_host(process)}

    def sizes(self) -> dict[str, Size]:
        """Return what each process of the stack uses, the pool's left out. The keys have its pid and command."""
        found = {f"{pid} {command}": _size(pid) for pid, command in self.processes().items()}
        return {name: size for name, size in found.items() if size}


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children()
    except psutil.NoSuchProcess:
        return []


def _size(pid: int) -> Size | None:
    try:
        process = psutil.Process(pid)
        return Size(process.num_fds(), process.num_threads(), process.memory_info().rss)
    except psutil.Error:    # it is ending, or another user's
        return None


def _parent(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.NoSuchProcess:
        return None


def command_of(process: psutil.Process) -> str:
    """Return the process's command line; an empty string if it is ending, or cannot be asked."""
    try:
        return " ".join(process.cmdline())
    except (psutil.Error, OSError):
        return ""


def _is_driver_host(process: psutil.Process) -> bool:
    return "worker_init.host_process" in command_of(process)


@contextmanager
def ground(folder: Path, slots: int, tell: Callable[[str], None]) -> Iterator[Ground]:
    """Provide a ground whose processes and files are removed at the end, even after Ctrl-C."""
    folder.mkdir(parents=True)
    folder.chmod(0o755)     # if this is root, Postgres runs as another user, who needs access
    with ExitStack() as things:
        things.callback(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))
        things.callback(shutil.rmtree, folder, ignore_errors=True)
        small = None if disk.refusal() else things.enter_context(disk.mounted(folder / DATA))
        made = Ground(folder, slots, tell, small)
        try:
            yield made
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)    # a second Ctrl-C would interrupt the cleanup
            made.down()
