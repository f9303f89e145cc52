"""What a user relies on, for both patterns and both drivers; the server says how many connections there are."""

import gc
import json
import logging
import os
import socket
from unittest.mock import Mock

import pytest
from neo4j import AsyncGraphDatabase, GraphDatabase
from neo4j.exceptions import AuthError, ServiceUnavailable

from patterns import __version__
from patterns.identity import Identity
from testing.neo4j_server import StartedNeo4j
from tests.patterns.conftest import Twin
from tests.patterns.server_view import ServerView
from tests.patterns.tampering import tampering_proxy
from tests.patterns.task_process import forked

# The driver deprecates by warnings: none may come from the way that the patterns use it.
pytestmark = [pytest.mark.neo4j, pytest.mark.filterwarnings("error"),
              pytest.mark.filterwarnings("ignore::ResourceWarning")]

LOG_LINES = {
    "problematic": ["🍌 DEBUG: about to create NEW driver for alias '{alias}' (THIS IS THE PROBLEM!)🍌🍌🍌",
                    "🍌 Problematic: created new driver for alias '{alias}'"] * 3,
    "improved": ["🍌 Improved: created new {kind} driver for {alias}"]
    + ["🍌 Improved: reusing existing {kind} driver for {alias}"] * 2,
}


SETTINGS = {
    "problematic": {"max_connection_lifetime": 120, "max_transaction_retry_time": 10},
    "improved": {"max_connection_lifetime": 300, "max_connection_pool_size": 50,
                 "connection_acquisition_timeout": 60, "connection_timeout": 30, "keep_alive": True},
}


def test_its_drivers_have_the_seeds_pool_settings_and_no_other(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    factory = GraphDatabase if twin.kind == "sync" else AsyncGraphDatabase
    driver = Mock(wraps=factory.driver)
    monkeypatch.setattr(factory, "driver", driver)
    twin.run(1)
    settings = driver.call_args.kwargs
    assert {name: settings[name] for name in settings.keys() - {"auth", "user_agent"}} == SETTINGS[twin.pattern]


@pytest.mark.parametrize("calls", [1, 4])
def test_the_server_sees_as_many_connections_as_the_pattern_makes_drivers(
        twin: Twin, view: ServerView, calls: int) -> None:
    row = twin.run(calls)
    assert row["drivers_created"] == len(view.open(twin.alias)) == twin.connections(calls)


def test_every_connection_says_at_the_server_whose_it_is(twin: Twin, view: ServerView) -> None:
    twin.run()
    expected = Identity(__version__, twin.pattern, twin.alias, socket.gethostname(), os.getppid(), os.getpid())
    assert {connection.identity for connection in view.open(twin.alias)} == {expected}


def test_the_row_says_what_was_done(twin: Twin) -> None:
    row = twin.run(3)
    assert json.loads(json.dumps(row)) == row
    assert (row["pattern"], row["driver"], row["alias"]) == (twin.pattern, twin.kind, twin.alias)
    assert (row["pid"], row["parent_pid"]) == (os.getpid(), os.getppid())
    assert (row["calls"], row["wrong"], len(row["call_seconds"])) == (3, 0, 2)
    assert 0 < row["first_result_seconds"] <= row["ended"] - row["started"]
    assert all(seconds > 0 for seconds in row["call_seconds"])


def test_the_log_has_the_lines_to_the_letter(twin: Twin, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "patterns")
    twin.run(3)
    assert caplog.messages == [line.format(kind=twin.kind, alias=twin.alias) for line in LOG_LINES[twin.pattern]]


def test_the_garbage_collector_closes_nothing(twin: Twin, view: ServerView) -> None:
    twin.run(3)
    before = view.open(twin.alias)
    gc.collect()
    assert view.open(twin.alias) == before
    assert len(before) == twin.connections(3)


def test_two_aliases_have_drivers_of_their_own(twin: Twin, view: ServerView) -> None:
    other = twin._replace(alias=f"{twin.alias}_2")
    twin.run(1)
    other.run(1)
    assert (len(view.open(twin.alias)), len(view.open(other.alias))) == (1, 1)


def test_a_nonce_that_does_not_come_back_is_counted(twin: Twin) -> None:
    with tampering_proxy(twin.environ["NEO4J_URI"]) as uri:
        assert twin.run(3, NEO4J_URI=uri)["wrong"] == 3


def test_a_wrong_password_raises_the_drivers_own_error(twin: Twin) -> None:
    # A user of its own: after three wrong passwords the server refuses a user the right one for a while too.
    with pytest.raises(AuthError):
        twin.run(NEO4J_USERNAME=twin.alias, NEO4J_PASSWORD="not-the-password")


def test_the_password_is_in_no_log_line(twin: Twin, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    twin.run()
    assert "LOGON" in caplog.text, "the driver's own log is not seen here"
    assert twin.environ["NEO4J_PASSWORD"] not in caplog.text


def test_a_server_that_answers_nothing_raises_and_is_used_again_when_it_is_back(
        twin: Twin, neo4j_server: StartedNeo4j, view: ServerView) -> None:
    twin.run(1)
    neo4j_server.stop()
    try:
        with pytest.raises(ServiceUnavailable):
            twin.run(1)
    finally:
        neo4j_server.start()
    assert twin.run(3)["wrong"] == 0
    assert len(view.open(twin.alias)) == twin.connections(3)


def test_a_restarted_server_is_used_again(twin: Twin, neo4j_server: StartedNeo4j, view: ServerView) -> None:
    connection = twin.connection()
    twin.get(connection)
    neo4j_server.restart()
    assert view.open(twin.alias) == []
    twin.get(connection)
    assert len(view.open(twin.alias)) == 1


def test_a_task_closes_at_its_exit_what_its_pattern_says_it_closes(twin: Twin, view: ServerView) -> None:
    with forked(twin.run) as task:
        assert task.result["pid"] == task.pid
        left = 3 if twin.pattern == "problematic" else 0
        view.comes_to(left, twin.alias, task.pid)


def test_a_forked_task_makes_drivers_of_its_own_and_leaves_its_parents_alone(
        twin: Twin, view: ServerView) -> None:
    twin.run()
    before = view.open(twin.alias)
    with forked(twin.run) as task:
        assert task.result["wrong"] == 0
        assert task.result["drivers_created"] == twin.connections(3)
    row = twin.run()
    assert row["wrong"] == 0
    assert set(before) <= set(view.open(twin.alias))
