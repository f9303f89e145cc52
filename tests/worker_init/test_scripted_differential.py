"""The same conversation with a server that does odd things has the same answers directly and through the relay.

What the server does is in :mod:`tests.worker_init.scripts`: failures, what is ignored, notifications, rows in pieces,
NOOPs between, and ends at each step.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from testing.servers import Serving, serving
from tests.worker_init.conversations import difference, hold
from tests.worker_init.scripted import servers
from tests.worker_init.scripts import (
    CLOSES_BEHIND_COMMIT,
    CLOSES_BEHIND_ROWS,
    END_BEHIND_ALL,
    Actor,
    conversations,
    scripts,
)
from worker_init.handshake import INTERCHANGEABLE, Version

pytestmark = pytest.mark.host
AUTH = ("neo4j", "secret")
FILTERS = {"notifications_minimum_severity": "WARNING"}


class Case(NamedTuple):
    """What the upstream is, what its server speaks, and who the client is."""

    scheme: str
    offers: tuple[Version, ...]
    client: Version
    hello: dict[str, Any]


CASES = {
    "the newest": Case("bolt", INTERCHANGEABLE, Version(6, 1), {}),
    "an older client with filters": Case("bolt", INTERCHANGEABLE, Version(5, 7), FILTERS),
    "routed": Case("neo4j", INTERCHANGEABLE, Version(5, 8), {}),
    "an older server, routed, with filters": Case("neo4j", (Version(5, 4),), Version(5, 4), FILTERS),
    "the oldest": Case("bolt", (Version(4, 4),), Version(4, 4), {})}


class Both(NamedTuple):
    """A way to the server, and a relay in front of it."""

    case: Case
    port: int
    relay: Serving


@pytest.fixture(scope="module", params=[*CASES.values()], ids=[*CASES])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    case: Case = request.param
    kind = type("Actor", (Actor,), {"offers": case.offers})
    with servers(kind) as running, serving(tmp_path_factory.mktemp("relay"), running.uri(case.scheme), AUTH) as relay:
        yield Both(case, running.ports[0], relay)


def own_faults(folder: Path) -> str:
    return "\n".join(line for line in (folder / "host.log").read_text().splitlines()
                     if "ERROR" in line or "Traceback" in line)


def test_whatever_the_server_does_the_answers_are_the_same(both: Both) -> None:
    case, different = both.case, {}
    names = [name for name in scripts(case.client) if name not in END_BEHIND_ALL]
    for number, name in enumerate(names, start=[*CASES.values()].index(case)):
        held = conversations(case.client, case.hello, name)
        # A third of them, another one in each case: all take long.
        for conversation in held[number % 3::3]:
            said = [hold(conversation, port, AUTH) for port in (both.port, both.relay.port)]
            if found := difference(conversation, *said):
                different[name] = found
    assert not different, "\n".join(f"{name}: {found}" for name, found in different.items())
    assert not own_faults(both.relay.folder)


def test_a_server_that_closes_behind_the_last_answer_is_not_noticed(both: Both) -> None:
    """Directly the connection has ended; through the relay another one serves what comes next."""
    case = both.case
    usual, in_transaction = conversations(case.client, case.hello, "nothing odd")[:2]
    for name, expected in ((CLOSES_BEHIND_ROWS, usual), (CLOSES_BEHIND_COMMIT, in_transaction)):
        cut_off = conversations(case.client, case.hello, name)[0 if expected is usual else 1]
        assert hold(cut_off, both.relay.port, AUTH) == hold(expected, both.relay.port, AUTH)
        assert hold(cut_off, both.port, AUTH)[-1].end == "closed"
    assert not own_faults(both.relay.folder)
