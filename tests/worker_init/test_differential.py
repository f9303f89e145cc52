"""The same conversation, directly and through the relay, has the same answers in the same order.

Every message in every state, and conversations at random, on each version of Bolt that the server speaks: plain,
routed, and with notification filters. What may differ is in :mod:`tests.worker_init.conversations`.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from testing.servers import Neo4jServer, Serving, serving
from tests.worker_init.conversations import (
    ROWS,
    Conversation,
    Writer,
    begin,
    difference,
    every_message_in_every_state,
    hold,
    run,
)
from worker_init.handshake import Version

VERSIONS = (Version(6, 1), Version(6, 0), Version(5, 8), Version(5, 7))
FILTERS = {"notifications_minimum_severity": "WARNING"}


@pytest.fixture(scope="module")
def routed(server: Neo4jServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    uri = server.uri.replace("bolt:", "neo4j:")
    with serving(tmp_path_factory.mktemp("routed"), uri, server.auth) as running:
        yield running


@pytest.fixture
def relay(request: pytest.FixtureRequest) -> Serving:
    relay: Serving = request.getfixturevalue(request.param)
    return relay


def compare(conversation: Conversation, server: Neo4jServer, relay: Serving) -> str:
    """Return how the relay's answers differ."""
    return difference(conversation, *(hold(conversation, port, server.auth) for port in (server.port, relay.port)))


def own_faults(relay: Serving) -> str:
    return "\n".join(line for line in (relay.folder / "host.log").read_text().splitlines()
                     if "ERROR" in line or "Traceback" in line)


@pytest.mark.parametrize("relay", ["host", "routed"], indirect=True)
@pytest.mark.parametrize("hello", [{}, FILTERS], ids=["no filters", "filters"])
def test_every_message_in_every_state(relay: Serving, hello: dict[str, Any], server: Neo4jServer) -> None:
    different = {name: found for name, conversation in every_message_in_every_state(Version(5, 8), hello)
                 if (found := compare(conversation, server, relay))}
    assert not different, "\n".join(f"{name}: {found}" for name, found in different.items())
    assert not own_faults(relay)


@pytest.mark.parametrize("relay", ["host", "routed"], indirect=True)
@pytest.mark.parametrize("hello", [{}, FILTERS], ids=["no filters", "filters"])
@pytest.mark.parametrize("query", [run(ROWS), run(ROWS, {"x": [[]] * 50_000}), begin()],
                         ids=["RUN", "RUN that is read in several turns", "BEGIN"])
def test_a_query_is_answered_whatever_is_sent_behind_it(relay: Serving, hello: dict[str, Any], query: bytes,
                                                        server: Neo4jServer) -> None:
    # As one message, so that one answer is waited for: to Neo4j the rest is the beginning of a large chunk.
    found = compare(Conversation(Version(5, 8), hello, ((query + b"GET / HTTP/1.1\r\n\r\n",),)), server, relay)
    assert not found
    assert not own_faults(relay)


@pytest.mark.parametrize("relay", ["host", "routed"], indirect=True)
@pytest.mark.parametrize("version", VERSIONS, ids=str)
def test_conversations_at_random(relay: Serving, version: Version, server: Neo4jServer) -> None:
    for seed in range(100):
        conversation = Writer(seed, (version,)).conversation()
        found = compare(conversation, server, relay)
        assert not found, f"seed {seed}: {found}"
    assert not own_faults(relay)
