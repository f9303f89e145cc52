"""The monitor says what the server has open, and whose it is."""

import logging
import os
import socket

import pytest
from neo4j import GraphDatabase, Session
from neo4j.exceptions import Forbidden

from patterns import monitor
from patterns.identity import Identity, user_agent
from patterns.monitor import NO_AGENT, Connection, NotAllowedError, observe, summarise, table
from tests.patterns.conftest import Twin
from tests.patterns.server_view import eventually
from tests.patterns.task_process import forked


def _agent(worker: int, task: int, pattern: str = "improved") -> str:
    return user_agent(Identity("0.1.0", pattern, "root", "host-a", worker, task))


CONNECTIONS = [
    Connection(_agent(2, 21, "problematic"), "10.0.0.1", running=False),
    Connection(_agent(2, 21, "problematic"), "10.0.0.1", running=True),
    Connection(_agent(1, 12), "10.0.0.1", running=False),
    Connection(_agent(1, 11), "10.0.0.1", running=False),
    Connection("neo4j-browser", "10.0.0.9", running=False),
    Connection("neo4j-browser", "10.0.0.8", running=False),
    Connection(None, "10.0.0.9", running=False),
]


def test_connections_are_grouped_by_worker_process_and_driver_instance() -> None:
    summary = summarise(CONNECTIONS)
    assert (summary["open"], summary["idle"], summary["running"]) == (7, 6, 1)
    assert [(worker["worker"], [(row["task"], row["pattern"], row["idle"], row["running"])
                                for row in worker["drivers"]]) for worker in summary["workers"]] == [
        ("host-a:1", [(11, "improved", 1, 0), (12, "improved", 1, 0)]),
        ("host-a:2", [(21, "problematic", 1, 1)])]


def test_other_clients_are_grouped_by_user_agent_and_address() -> None:
    assert [(row["user_agent"], row["client"], row["idle"]) for row in summarise(CONNECTIONS)["others"]] == [
        (None, "10.0.0.9", 1), ("neo4j-browser", "10.0.0.8", 1), ("neo4j-browser", "10.0.0.9", 1)]


def test_the_table_has_a_headline_and_a_line_for_each_group() -> None:
    lines = table(summarise(CONNECTIONS))
    assert lines[0] == ("🍌 Monitor: 7 connections open at the server (6 idle, 1 running), 3 driver instances in "
                        "2 worker processes. The monitor's own connection is not counted.")
    assert lines[1].split("  ")[0] == "worker process"
    assert [line.split() for line in lines[2:]] == [
        ["host-a:1", "task", "11", "improved", "root", "10.0.0.1", "1", "0"],
        ["host-a:1", "task", "12", "improved", "root", "10.0.0.1", "1", "0"],
        ["host-a:2", "task", "21", "problematic", "root", "10.0.0.1", "1", "1"],
        ["-", *NO_AGENT.split(), "-", "-", "10.0.0.9", "1", "0"],
        ["-", "neo4j-browser", "-", "-", "10.0.0.8", "1", "0"],
        ["-", "neo4j-browser", "-", "-", "10.0.0.9", "1", "0"]]


def test_nothing_open_is_a_table_too() -> None:
    assert len(table(summarise([]))) == 2


@pytest.mark.parametrize(("address", "host"), [("10.0.0.1:5000", "10.0.0.1"), ("[::1]:5000", "::1"),
                                               (None, "(unknown)"), ("", "(unknown)")])
def test_the_client_is_its_addresss_host(address: str | None, host: str) -> None:
    assert monitor._host(address) == host


@pytest.mark.neo4j
def test_it_sees_a_tasks_drivers_from_another_process_and_not_its_own(
        twin: Twin, environ: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "patterns.monitor")
    with forked(twin.run, exits=False) as task:
        summary = eventually(lambda: _without_handshakes(environ))
    worker = f"{socket.gethostname()}:{os.getpid()}"
    mine = [row for found in summary["workers"] if found["worker"] == worker for row in found["drivers"]]
    assert [(row["task"], row["pattern"], row["alias"], row["client"], row["idle"], row["running"])
            for row in mine if row["alias"] == twin.alias] == [
        (task.pid, twin.pattern, twin.alias, "127.0.0.1", twin.connections(3), 0)]
    assert not [row for found in summary["workers"] for row in found["drivers"] if row["pattern"] == "monitor"]
    assert caplog.messages[-len(table(summary)):] == table(summary)


def _without_handshakes(environ: dict[str, str]) -> monitor.Summary:
    summary = observe(environ)
    assert not [row for row in summary["others"] if row["user_agent"] is None]
    return summary


@pytest.mark.neo4j
def test_a_connection_in_a_transaction_is_running(environ: dict[str, str], alias: str) -> None:
    auth = (environ["NEO4J_USERNAME"], environ["NEO4J_PASSWORD"])
    with GraphDatabase.driver(environ["NEO4J_URI"], auth=auth, user_agent=alias) as driver, \
            driver.session() as session, session.begin_transaction() as transaction:
        transaction.run("RETURN 1").consume()
        rows = [row for row in observe(environ)["others"] if row["user_agent"] == alias]
    assert [(row["client"], row["idle"], row["running"]) for row in rows] == [("127.0.0.1", 0, 1)]


@pytest.mark.neo4j
def test_a_user_who_may_not_list_connections_is_told_in_one_line(
        environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise Forbidden("Executing procedure is not allowed")

    monkeypatch.setattr(Session, "run", refuse)  # Community Edition has no rights to take away
    with pytest.raises(NotAllowedError, match=r"^user 'neo4j' may not list the connections of .* — grant") as error:
        observe(environ)
    assert "\n" not in str(error.value)
