"""What a task does, the same for every pattern, and the row that it returns.

A task asks its pattern for a driver, opens a session, runs one ``RETURN $nonce``, consumes the result and closes the
session, ``calls`` times. Then it holds once, with no session open and its drivers kept.
"""

import os
import socket
import time
import uuid
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Protocol, TypedDict

import neo4j

from patterns import event_loop, registry
from patterns.connection import DatabaseConnection
from patterns.target import ROOT

DriverKind = Literal["sync", "async"]

QUERY = "RETURN $nonce AS nonce"


class Task(NamedTuple):
    """What one task must do. ``hold`` is in seconds; ``run_id`` and ``map_index`` are only labels."""

    pattern: str
    driver: DriverKind = "sync"
    alias: str = ROOT
    calls: int = 3
    hold: float = 2.0
    run_id: str = ""
    map_index: int = -1


class Row(TypedDict):
    """What a task measured. It can be written as JSON, and is the contract with the code that reads the results.

    ``parent_pid`` is the worker process that the task process was forked from. ``wrong`` counts the calls whose nonce
    did not come back. ``drivers_created`` is the pattern's own count for this task. ``first_result_seconds`` is the
    first call, from asking the pattern for a driver to the result consumed. It includes the driver, the connection and
    the logon, since connections are made at first use; it does not include imports or the creation of the event loop.
    ``call_seconds`` has each later call, from opening the session to closing it. It includes a new driver's connection
    and logon, but not asking the pattern for a driver (which with ``improved`` is a round trip, the check before
    reuse). ``started`` and ``ended`` are seconds since the epoch; the imports and the hold are between them.
    """

    schema: Literal[1]
    pattern: str
    driver: DriverKind
    alias: str
    host: str
    pid: int
    parent_pid: int
    run_id: str
    map_index: int
    calls: int
    wrong: int
    drivers_created: int
    first_result_seconds: float
    call_seconds: list[float]
    driver_version: str
    started: float
    ended: float


class WrongAnswerError(RuntimeError):
    """The server did not return what it was asked to return."""


class Call(NamedTuple):
    """The result of one call, and its times on the clock of time.perf_counter, in seconds."""

    values: list[Any]
    asked: float
    opened: float
    consumed: float
    closed: float


class Caller(Protocol):
    """Makes a call, synchronously or asynchronously: the only part of the workload that exists twice."""

    def __call__(self, nonce: str) -> Call:
        """Ask the pattern for a driver, and query the nonce in a new session."""


def run_task(task: Task, environ: Mapping[str, str] | None = None) -> Row:
    """Run the task and return its row. ``environ`` defaults to the process's own environment.

    Raises ValueError if the task has no calls, UnknownPatternError, SettingError, and the driver's own errors
    unchanged. A nonce that does not come back is counted and raises nothing.
    """
    if task.calls < 1:
        raise ValueError(f"a task of {task.calls} calls measures nothing: expected 1 or more")
    started = time.time()
    connection = registry.load(task.pattern)(environ)
    call = _caller(task.driver, connection, task.alias)
    nonces = [uuid.uuid4().hex for _ in range(task.calls)]
    answers = [call(nonce) for nonce in nonces]
    # The only intended sleep: it stands for the work of a task that keeps its driver and sends no queries.
    time.sleep(task.hold)
    wrong = sum(answer.values != [nonce] for nonce, answer in zip(nonces, answers, strict=True))
    return _row(task, connection, answers, wrong, started)


def _caller(kind: DriverKind, connection: DatabaseConnection, alias: str) -> Caller:
    database = connection.target(alias).database

    def call(nonce: str) -> Call:
        asked = time.perf_counter()
        driver = connection.get_driver(alias)
        opened = time.perf_counter()
        with driver.session(database=database) as session:
            values = session.run(QUERY, nonce=nonce).value()
            consumed = time.perf_counter()
        return Call(values, asked, opened, consumed, time.perf_counter())

    async def call_async(nonce: str) -> Call:
        asked = time.perf_counter()
        driver = await connection.get_async_driver(alias)
        opened = time.perf_counter()
        async with driver.session(database=database) as session:
            values = await (await session.run(QUERY, nonce=nonce)).value()
            consumed = time.perf_counter()
        return Call(values, asked, opened, consumed, time.perf_counter())

    return call if kind == "sync" else lambda nonce: event_loop.run(call_async(nonce))


def _row(task: Task, connection: DatabaseConnection, answers: list[Call], wrong: int, started: float) -> Row:
    first, *later = answers
    return Row(
        schema=1, pattern=task.pattern, driver=task.driver, alias=task.alias,
        host=socket.gethostname(), pid=os.getpid(), parent_pid=os.getppid(),
        run_id=task.run_id, map_index=task.map_index,
        calls=len(answers), wrong=wrong, drivers_created=connection.drivers_created,
        first_result_seconds=first.consumed - first.asked,
        call_seconds=[call.closed - call.opened for call in later],
        driver_version=neo4j.__version__, started=started, ended=time.time())
