"""The watch on Neo4j: a sample has the connections of one test, or None and the reason where nobody can tell them."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import neo4j
import pytest
from pydantic import SecretStr

from loadtest.target import Target, of
from loadtest.watch import LOOKS, Watcher
from patterns.facts import STRESS_DAG
from rig.probe import DRIVER_AGENT, NAMELESS, Server, Watch
from rig.records import Relay
from testing.neo4j_server import StartedNeo4j

pytestmark = pytest.mark.neo4j


@pytest.fixture
def shared(neo4j_server: StartedNeo4j) -> Target:
    """Return a deployment whose Neo4j others use too."""
    server = Server(neo4j_server.uri, "neo4j", SecretStr(neo4j_server.password), alone=False)
    return replace(of({"LOADTEST_RELAY": "none"}), neo4j=server)


@pytest.fixture
def own(shared: Target) -> Target:
    """Return the same deployment, with the server to itself."""
    assert shared.neo4j
    return replace(shared, neo4j=replace(shared.neo4j, alone=True))


@pytest.fixture
def watcher(shared: Target, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watcher]:
    """Return a watcher that does not wait between its looks."""
    monkeypatch.setattr("gevent.sleep", lambda _: None)
    made = Watcher(shared, STRESS_DAG)
    yield made
    if made._probe:
        made._probe.close()


@pytest.fixture
def hooks(neo4j_server: StartedNeo4j) -> Iterator[int]:
    """Keep a connection open that names the driver alone, as the stock hook's do, and return its id."""
    agent = f"{DRIVER_AGENT}6.4.1 (a stock hook)"
    with neo4j.GraphDatabase.driver(neo4j_server.uri, auth=("neo4j", neo4j_server.password),
                                    user_agent=agent) as driver:
        found = driver.execute_query("CALL dbms.listConnections() YIELD connectionId, userAgent "
                                     "WHERE userAgent = $agent RETURN connectionId AS id", agent=agent).records
        yield max(int(row["id"].removeprefix("bolt-")) for row in found)


def test_beside_others_the_connections_of_the_stock_hook_are_not_known(watcher: Watcher, shared: Target) -> None:
    watcher.begin(shared, "hook")
    watcher.look()
    assert (watcher.seen.look, watcher.seen.trouble) == (None, f"Neo4j: {NAMELESS}")


@pytest.mark.parametrize(("pattern", "relay"), [("hook", "process"), ("improved", "none")])
def test_connections_that_say_whose_they_are_are_told_from_those_of_others(
        pattern: str, relay: Relay, watcher: Watcher, shared: Target, hooks: int) -> None:
    watcher.begin(replace(shared, relay=relay), pattern)
    watcher.look()
    assert watcher.seen.trouble is None
    assert watcher.seen.look
    assert hooks in watcher.seen.look.others


def test_a_server_that_nobody_has_named_is_not_watched_and_this_is_said(
        watcher: Watcher, shared: Target) -> None:
    watcher.begin(replace(shared, neo4j=None), "worker")
    watcher.look()
    assert (watcher.seen.look, watcher.seen.trouble) == (
        None, "Neo4j: not watched, NEO4J_URI and NEO4J_PASSWORD are not set")


def begins_after(look: int, watcher: Watcher, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test of the stock hook begin while the look of this number is under way."""
    looks, real = count(1), Watch.look

    def watched(self: Watch, **asked: Any) -> Any:
        found = real(self, **asked)
        if next(looks) == look:
            watcher.begin(target, "hook")
        return found

    monkeypatch.setattr(Watch, "look", watched)


@pytest.mark.parametrize("look", range(1, LOOKS + 1))
def test_a_sample_has_no_look_from_before_its_test_began(
        look: int, watcher: Watcher, own: Target, hooks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    watcher.begin(own, "improved")
    begins_after(look, watcher, own, monkeypatch)
    watcher.look()
    assert watcher.seen.look
    assert watcher.seen.look.pattern_of[hooks] == "other"
    assert hooks not in watcher.seen.look.others, "as a test of another pattern counts it"
    assert watcher.seen.look.opened is not None


def test_a_sample_in_which_a_test_begins_whose_connections_are_not_known_has_none(
        watcher: Watcher, shared: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    watcher.begin(shared, "improved")
    begins_after(2, watcher, shared, monkeypatch)
    watcher.look()
    assert (watcher.seen.look, watcher.seen.trouble) == (None, f"Neo4j: {NAMELESS}")
