"""What the improved pattern alone promises: one driver for a process, replaced when it is of no use."""

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from neo4j import AsyncDriver, Driver
from neo4j.exceptions import ServiceUnavailable

from patterns import event_loop, kept_drivers
from patterns.improved import ImprovedDatabaseConnection
from testing.neo4j_server import StartedNeo4j
from tests.patterns.conftest import Twin
from tests.patterns.server_view import ServerView
from tests.patterns.task_process import forked

pytestmark = pytest.mark.neo4j


def test_tasks_of_one_process_share_a_driver(improved: Twin, view: ServerView) -> None:
    assert [improved.run()["drivers_created"] for _ in range(3)] == [1, 0, 0]
    assert len(view.open(improved.alias)) == 1


def test_sync_and_async_are_apart(improved: Twin, view: ServerView) -> None:
    improved._replace(kind="sync").run()
    improved._replace(kind="async").run()
    assert len(view.open(improved.alias)) == 2


def test_an_alias_with_another_server_or_user_is_another_driver(improved: Twin, view: ServerView) -> None:
    improved.run()
    address = improved.environ["NEO4J_URI"].replace("127.0.0.1", "localhost")
    row = improved.run(3, **{f"NEO4J_{improved.alias.upper()}_URI": address})
    assert row["drivers_created"] == 1
    assert len(view.open(improved.alias)) == 2


def test_threads_that_ask_at_once_get_the_same_driver(improved: Twin) -> None:
    connection = improved.connection()
    barrier = threading.Barrier(16)

    def ask(_: int) -> Driver:
        barrier.wait()
        return connection.get_driver(improved.alias)

    with ThreadPoolExecutor(16) as pool:
        assert len(set(map(id, pool.map(ask, range(16))))) == 1
    assert connection.drivers_created == 1


def test_coroutines_that_ask_at_once_get_the_same_driver(improved: Twin) -> None:
    connection = improved.connection()

    async def ask_at_once() -> list[AsyncDriver]:
        return await asyncio.gather(*[connection.get_async_driver(improved.alias) for _ in range(16)])

    assert len(set(map(id, event_loop.run(ask_at_once())))) == 1
    assert connection.drivers_created == 1


def test_a_broken_driver_is_replaced_closed_and_reported(
        improved: Twin, neo4j_server: StartedNeo4j, view: ServerView, caplog: pytest.LogCaptureFixture) -> None:
    connection = improved.connection()
    first = improved.get(connection)
    neo4j_server.stop()
    try:
        _ask(improved, connection)
    finally:
        neo4j_server.start()
    assert [record.levelname for record in caplog.records if "replacing and closing" in record.message] == ["WARNING"]
    second = improved.get(connection)
    assert (first is second, first._closed, second._closed) == (False, True, False)
    assert len(view.open(improved.alias)) == 1


def _ask(twin: Twin, connection: object) -> None:
    assert isinstance(connection, ImprovedDatabaseConnection)
    if twin.kind == "async":
        event_loop.run(connection.get_async_driver(twin.alias))
    else:
        connection.get_driver(twin.alias)


@pytest.mark.usefixtures("_closed_afterwards")
def test_several_threads_that_find_the_driver_broken_replace_it_once(
        environ: dict[str, str], alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = ImprovedDatabaseConnection(environ)
    barrier = threading.Barrier(4)

    def fail_at_once() -> None:
        barrier.wait()
        raise ServiceUnavailable

    monkeypatch.setattr(connection.get_driver(alias), "verify_connectivity", fail_at_once)
    with ThreadPoolExecutor(4) as pool:
        assert len(set(map(id, pool.map(lambda _: connection.get_driver(alias), range(4))))) == 1
    assert connection.drivers_created == 2


@pytest.mark.usefixtures("_closed_afterwards")
def test_an_async_driver_is_not_used_in_another_loop_than_its_own(
        environ: dict[str, str], alias: str, view: ServerView, caplog: pytest.LogCaptureFixture) -> None:
    connection = ImprovedDatabaseConnection(environ)

    async def ask() -> None:
        await (await connection.get_async_driver(alias)).verify_connectivity()

    asyncio.run(ask())
    asyncio.run(ask())
    assert connection.drivers_created == 2
    assert "has ended without closing it" in caplog.text
    view.comes_to(1, alias)


EXIT = """
import atexit
from neo4j import GraphDatabase
from patterns.target import Target
from patterns.workload import Task, run_task
import os

target = Target.from_environment(os.environ)

@atexit.register  # first, so that it runs last
def report():
    with GraphDatabase.driver(target.uri, auth=target.auth, user_agent="report") as driver:
        agents = [row["userAgent"] for row in driver.execute_query("CALL dbms.listConnections()").records]
        print(sum(f"task={os.getpid()})" in (agent or "") for agent in agents))

for kind in ("sync", "async"):
    assert run_task(Task("improved", kind, hold=0))["wrong"] == 0
"""


def test_a_process_that_ends_by_itself_closes_its_drivers_without_a_complaint(environ: dict[str, str]) -> None:
    ended = subprocess.run([sys.executable, "-W", "always", "-c", EXIT], env=environ, capture_output=True,
                           text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "0\n", "")


def test_the_end_of_a_forked_task_leaves_its_parents_connection_open(improved: Twin, view: ServerView) -> None:
    improved.run()
    before = view.open(improved.alias)
    with forked(kept_drivers.close_all):
        pass
    assert view.open(improved.alias) == before
    assert improved.run()["drivers_created"] == 0
