"""What the server says about connections: where the tests take their truth from."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from neo4j import GraphDatabase
from tenacity import Retrying, stop_after_delay, wait_fixed

from patterns.identity import Identity, parse
from testing.neo4j_server import StartedNeo4j

T = TypeVar("T")


class Open(NamedTuple):
    """A connection of ours that is open at the server."""

    id: str
    user_agent: str
    identity: Identity


class ServerView:
    """Asks the server, each time with a connection of its own: it works whatever happened to the server."""

    def __init__(self, server: StartedNeo4j) -> None:
        self._server = server

    def query(self, text: str, **parameters: Any) -> list[dict[str, Any]]:
        """Return the rows of a query."""
        auth = (self._server.username, self._server.password)
        with GraphDatabase.driver(self._server.uri, auth=auth, user_agent="tests") as driver:
            return [record.data() for record in driver.execute_query(text, parameters).records]

    def open(self, alias: str, pid: int | None = None) -> list[Open]:
        """Return the open connections of an alias's drivers in a process, this one by default."""
        owner = os.getpid() if pid is None else pid
        found = [(row["connectionId"], row["userAgent"], parse(row["userAgent"]))
                 for row in self.query("CALL dbms.listConnections()")]
        return [Open(id_, agent, identity) for id_, agent, identity in found
                if identity and identity.alias == alias and identity.task_pid == owner]

    def comes_to(self, count: int, alias: str, pid: int | None = None) -> list[Open]:
        """Return the open connections once there are so many: the server learns of an end a moment later."""
        return eventually(lambda: self._exactly(count, alias, pid))

    def _exactly(self, count: int, alias: str, pid: int | None) -> list[Open]:
        connections = self.open(alias, pid)
        assert len(connections) == count, connections
        return connections


def eventually(check: Callable[[], T], seconds: float = 10) -> T:
    """Return what the check returns once it no longer fails."""
    return Retrying(stop=stop_after_delay(seconds), wait=wait_fixed(0.1), reraise=True)(check)
