"""What a task does, once for every pattern, and the row that it leaves.

A task asks its pattern for a driver, opens a session, runs one ``RETURN $nonce``, consumes the result and
closes the session, ``calls`` times; then it holds, once, with no session open and its drivers kept.
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
    """What one task is asked to do. ``hold`` is in seconds; ``run_id`` and ``map_index`` only name it."""

    pattern: str
    driver: DriverKind = "sync"
    alias: str = ROOT
    calls: int = 3
    hold: float = 2.0
    run_id: str = ""
    map_index: int = -1


class Row(TypedDict):
    """What a task measured. JSON-able; the contract with the reader of the results.

    ``parent_pid`` is the worker process that the task's process was forked from. ``wrong`` counts the calls
    whose nonce did not come back. ``drivers_created`` is the pattern's own count for this task.
    ``first_result_seconds`` is the first call, from asking the pattern for a driver to the result consumed:
    the driver, the connection and the login are in it, since connections are made at first use; imports and
    the making of the event loop are not. ``call_seconds`` has each later call, from the session opened to
    the session closed: a new driver's connection and login are in it, asking the pattern (with ``improved``
    the check before reuse, a round trip) is not. ``started`` and ``ended`` are seconds since the epoch; the
    imports and the hold lie between them.
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
    """The server answered with something else than it was asked to return."""


class Call(NamedTuple):
    """What came back from one call, and its moments on the clock of time.perf_counter, in seconds."""

    values: list[Any]
    asked: float
    opened: float
    consumed: float
    closed: float


class Caller(Protocol):
    """Makes a call the sync or the async way; the only part of the workload that exists twice."""

    def __call__(self, nonce: str) -> Call:
        """Ask the pattern for a driver and have the nonce returned in a session of its own."""


def run_task(task: Task, environ: Mapping[str, str] | None = None) -> Row:
    """Do what the task asks for and return its row. ``environ`` is the process's own where not given.

    Raises ValueError where the task asks for no call, UnknownPatternError, SettingError, and the driver's own
    errors as they are. A nonce that does not come back is counted and raises nothing.
    """
    if task.calls < 1:
        raise ValueError(f"a task of {task.calls} calls measures nothing: expected 1 or more")
    started = time.time()
    connection = registry.load(task.pattern)(environ)
    call = _caller(task.driver, connection, task.alias)
    nonces = [uuid.uuid4().hex for _ in range(task.calls)]
    answers = [call(nonce) for nonce in nonces]
    # The one sleep that is meant: it stands for the work of a task that keeps its driver and asks nothing.
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
