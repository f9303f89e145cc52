"""What ``rig watch`` says of a real server's connections, and what it says where it may not see them."""

import getpass
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import neo4j
import pytest
from neo4j.exceptions import Forbidden, Neo4jError, ServiceUnavailable
from pydantic import SecretStr
from rich.console import Console

from rig import watching
from rig.errors import BadInput, RigError
from rig.settings import ENV_FILE_VARIABLE
from rig.watching import Client, Look, Target, Watcher
from testing.neo4j_server import StartedNeo4j
from tests.rig.builders import agent
from tests.rig.plain_settings import PlainSettings
from worker_init.upstream import USER_AGENT as SHARED_AGENT

PASSWORD = "not-to-be-seen"


@pytest.fixture
def watcher(neo4j_server: StartedNeo4j) -> Iterator[Watcher]:
    with Watcher(Target(neo4j_server.uri, "neo4j", SecretStr(neo4j_server.password))) as made:
        yield made


@pytest.fixture
def opens(neo4j_server: StartedNeo4j) -> Iterator[Any]:
    """Return what opens a driver with one connection and a user agent, until the test ends."""
    with ExitStack() as stack:
        def opened(user_agent: str) -> neo4j.Driver:
            driver = stack.enter_context(neo4j.GraphDatabase.driver(
                neo4j_server.uri, auth=("neo4j", neo4j_server.password), user_agent=user_agent))
            driver.verify_connectivity()
            return driver
        yield opened


def of(look: Look, user_agent: str) -> list[Client]:
    return [client for client in look["clients"] if client["user_agent"] == user_agent]


def test_connections_are_told_by_user_agent_client_and_task(watcher: Watcher, opens: Any) -> None:
    plain, task = f"somebody/{uuid.uuid4()}", agent(4711, "improved", "host-a", parent=17)
    for user_agent in (plain, plain, task):
        opens(user_agent)
    look = watcher.look()

    [client] = of(look, plain)
    assert (client["open"], client["running"], client["client"], client["username"]) == (2, 0, "127.0.0.1", "neo4j")
    [client] = of(look, task)
    assert (client["pattern"], client["worker"], client["task_pid"]) == ("improved", "host-a:17", 4711)
    assert look["open"] == sum(client["open"] for client in look["clients"])
    assert look["missing"] == []


def test_a_transaction_says_whose_task_it_is(watcher: Watcher, opens: Any) -> None:
    name = f"somebody/{uuid.uuid4()}"
    with opens(name).session() as session, session.begin_transaction(
            metadata={"dag_id": "nightly", "task_id": "load"}) as transaction:
        transaction.run("RETURN 1").consume()
        [client] = of(watcher.look(), name)

    assert (client["running"], client["dag_id"], client["task_id"]) == (1, "nightly", "load")
    assert watching._task(client) == "nightly.load"


def test_it_takes_one_connection_and_does_not_count_it(watcher: Watcher, opens: Any) -> None:
    for _ in range(3):
        look = watcher.look()
    with opens("the test").session() as session:
        agents = [record["userAgent"] for record in session.run("CALL dbms.listConnections() YIELD userAgent")]

    assert agents.count(watcher._agent) == 1
    assert of(look, watcher._agent) == []


def test_what_came_and_went_has_been_seen(watcher: Watcher, opens: Any) -> None:
    name = f"somebody/{uuid.uuid4()}"
    before = watcher.look()["seen"]
    opens(name)
    watcher.look()
    opens(name)

    assert watcher.look()["seen"] == before + 2


def command(server: StartedNeo4j, *arguments: str) -> "subprocess.Popen[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("NEO4J_", "RIG_"))}
    environment[ENV_FILE_VARIABLE] = os.devnull
    return subprocess.Popen(
        [Path(sys.executable).parent / "rig", "watch", "--uri", server.uri, *arguments], stdin=subprocess.DEVNULL,
        env={**environment, "NEO4J_PASSWORD": server.password, "COLUMNS": "100"}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True)


def test_the_command_looks_once_for_a_program(neo4j_server: StartedNeo4j, opens: Any) -> None:
    opens(SHARED_AGENT)
    out, err = command(neo4j_server, "--once", "--json").communicate(timeout=300)
    look = json.loads(out)

    assert err == ""
    assert (look["schema"], look["server"]) == (1, neo4j_server.uri)
    assert of(look, SHARED_AGENT)[0]["open"] >= 1
    assert neo4j_server.password not in out


def test_it_looks_again_and_again_until_it_is_stopped(neo4j_server: StartedNeo4j) -> None:
    process = command(neo4j_server, "--json", "--every", "0.1")
    assert process.stdout is not None
    moments = [json.loads(process.stdout.readline())["at"] for _ in range(3)]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)

    assert moments == sorted(set(moments))
    assert (process.returncode, err) == (0, "")


def test_a_wrong_password_is_one_line(neo4j_server: StartedNeo4j) -> None:
    with Watcher(Target(neo4j_server.uri, "neo4j", SecretStr(PASSWORD))) as wrong, pytest.raises(BadInput) as caught:
        wrong.look()

    assert str(caught.value).startswith(f"Neo4j at {neo4j_server.uri} refuses the user 'neo4j': ")
    assert PASSWORD not in str(caught.value)


# Faults

class Answer:
    """What a refusing server says."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        self._rows = rows

    def __iter__(self) -> Iterator[Any]:
        return (SimpleNamespace(data=lambda row=row: row) for row in self._rows)

    def values(self) -> list[list[Any]]:
        return [list(row.values()) for row in self._rows]

    def single(self, **_: bool) -> dict[str, Any]:
        return self._rows[0]


class Refusing:
    """A server's session in which some queries fail, as a user without rights has it."""

    def __init__(self, refused: dict[str, Exception], roles: list[str] | None) -> None:
        self._refused, self._roles = refused, roles

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def session(self, **_: int) -> "Refusing":
        return self

    def close(self) -> None:
        pass

    def run(self, query: str) -> Answer:
        for word, error in self._refused.items():
            if word in query:
                raise error
        if "listConnections" in query:
            return Answer({"connectionId": "bolt-7", "userAgent": "x", "clientAddress": "[::1]:5", "username": "a"})
        return Answer({"roles": self._roles}) if "CURRENT USER" in query else Answer()


def refusing(monkeypatch: pytest.MonkeyPatch, *, roles: list[str] | None = None, **refused: Exception) -> Watcher:
    monkeypatch.setattr(neo4j.GraphDatabase, "driver", lambda *_, **__: Refusing(refused, roles))
    return Watcher(Target("bolt://db:7687", "reader", SecretStr(PASSWORD)))


def test_a_user_that_may_not_list_connections_is_told_which_right_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = refusing(monkeypatch, listConnections=Forbidden("Executing procedure is not allowed"))
    with watcher, pytest.raises(BadInput, match=r"'reader' may not list .*grant it EXECUTE PROCEDURE"):
        watcher.look()


def test_a_user_that_is_locked_out_is_told_to_look_at_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    locked_out = Neo4jError._basic_hydrate(neo4j_code="Neo.ClientError.Security.AuthenticationRateLimit",
                                           message="too many wrong passwords")
    with refusing(monkeypatch, listConnections=locked_out) as watcher, pytest.raises(
            BadInput, match=r"refuses the user 'reader': too many .* — check NEO4J_USERNAME and NEO4J_PASSWORD"):
        watcher.look()


def test_without_the_right_to_see_transactions_idle_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    with refusing(monkeypatch, TRANSACTIONS=Forbidden("not allowed")) as watcher:
        look = watcher.look()
    console = Console(width=100)
    with console.capture() as capture:
        console.print(watching.shown(look))

    assert (look["open"], look["idle"], look["running"], look["clients"][0]["client"]) == (1, None, None, "::1")
    assert "grant SHOW TRANSACTION" in " ".join(capture.get().split())


@pytest.mark.parametrize(("roles", "missing"), [(["admin", "PUBLIC"], 0), (None, 0), (["PUBLIC"], 1), ([], 1)])
def test_who_is_no_administrator_sees_its_own_and_is_told(monkeypatch: pytest.MonkeyPatch, roles: list[str] | None,
                                                          missing: int) -> None:
    with refusing(monkeypatch, roles=roles) as watcher:
        said = watcher.look()["missing"]

    assert len(said) == missing
    assert all("'reader' does not have the role admin" in line for line in said)


def test_a_server_that_goes_away_is_told_from_one_that_was_never_there(monkeypatch: pytest.MonkeyPatch) -> None:
    refused: dict[str, Exception] = {}
    monkeypatch.setattr(neo4j.GraphDatabase, "driver", lambda *_, **__: Refusing(refused, None))
    with Watcher(Target("bolt://db:7687", "reader", SecretStr(PASSWORD))) as watcher:
        refused["listConnections"] = ServiceUnavailable("gone")
        with pytest.raises(BadInput, match="cannot be reached: gone"):
            watcher.look()
        del refused["listConnections"]
        watcher.look()
        refused["listConnections"] = ServiceUnavailable("gone")
        with pytest.raises(RigError, match="does not answer any more: gone") as caught:
            watcher.look()
    assert caught.value.exit_code == 1


# Which server is meant

def unwanted() -> Any:
    raise AssertionError("asked for the stack")


def test_the_password_is_the_variable_or_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(getpass, "getpass", lambda prompt: f"{prompt}answered")
    named = PlainSettings(neo4j_password=SecretStr(PASSWORD))

    assert watching.target(named, "bolt://db", None, unwanted).password.get_secret_value() == PASSWORD
    asked = watching.target(PlainSettings(), "bolt://db", "me", unwanted)
    assert asked.password.get_secret_value() == "Password of me at bolt://db: answered"


def test_without_a_name_it_is_the_stack_that_is_up() -> None:
    def none_is_up() -> Any:
        raise BadInput("no stack is running", "rig up")

    with pytest.raises(BadInput, match="no Neo4j is named, and no stack is running"):
        watching.target(PlainSettings(), None, None, none_is_up)
