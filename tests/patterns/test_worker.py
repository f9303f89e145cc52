"""The pattern ``worker``: one driver for each process, through the shared driver where there is one."""

import socket
from collections.abc import Iterator

import pytest

from patterns import event_loop, kept_drivers
from patterns.registry import load
from patterns.target import ROOT, SettingError
from patterns.workload import DriverKind, Row, Task, run_task
from testing.neo4j_server import StartedNeo4j
from tests.patterns.server_view import ServerView
from tests.patterns.task_process import forked

pytestmark = pytest.mark.neo4j

KINDS: list[DriverKind] = ["sync", "async"]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, neo4j_server: StartedNeo4j) -> Iterator[None]:
    for name in ("URI", "USERNAME", "PASSWORD", "DATABASE"):
        monkeypatch.setenv(f"NEO4J_{name}", getattr(neo4j_server, name.lower()))
        monkeypatch.delenv(f"NEO4J_WORKER_{name}", raising=False)
    yield
    kept_drivers.close_all()


def run(kind: DriverKind, calls: int = 3, alias: str = ROOT) -> Row:
    return run_task(Task("worker", kind, alias, calls, hold=0))


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_makes_one_driver_and_the_next_one_in_its_process_none(kind: DriverKind) -> None:
    assert [run(kind)["drivers_created"] for _ in range(3)] == [1, 0, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_it_goes_where_the_worker_says(kind: DriverKind, monkeypatch: pytest.MonkeyPatch, neo4j_server: StartedNeo4j,
                                       ) -> None:
    # Nothing answers at NEO4J_URI: only the worker's address can have been used.
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        monkeypatch.setenv("NEO4J_URI", f"bolt://127.0.0.1:{nobody.getsockname()[1]}")
        monkeypatch.setenv("NEO4J_WORKER_URI", neo4j_server.uri)
        monkeypatch.setenv("NEO4J_WORKER_USERNAME", neo4j_server.username)
        monkeypatch.setenv("NEO4J_WORKER_PASSWORD", neo4j_server.password)
        assert run(kind)["wrong"] == 0


def test_another_alias_goes_where_its_own_variables_say(monkeypatch: pytest.MonkeyPatch, neo4j_server: StartedNeo4j,
                                                        view: ServerView) -> None:
    monkeypatch.setenv("NEO4J_WORKER_URI", "bolt://127.0.0.1:1")
    assert run("sync", alias="reports")["wrong"] == 0
    assert len(view.open("reports")) == 1


def test_without_a_worker_and_without_a_server_it_says_which_variable_is_missing(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEO4J_URI")
    with pytest.raises(SettingError, match="NEO4J_URI is not set"):
        load("worker")().get_driver()


def test_a_forked_task_has_a_driver_of_its_own_and_closes_it_at_its_end(view: ServerView) -> None:
    run("sync")
    with forked(lambda: run("sync")) as task:
        assert task.result["wrong"] == 0
        assert task.result["drivers_created"] == 1
        view.comes_to(0, ROOT, task.pid)
    assert run("sync")["drivers_created"] == 0, "the parent's is still in use"


def test_an_async_driver_belongs_to_its_loop() -> None:
    connection = load("worker")()

    async def ask() -> object:
        return await connection.get_async_driver()

    first = event_loop.run(ask())
    assert event_loop.run(ask()) is first
