"""Both patterns, each with the sync and the async driver, under one fixture."""

import uuid
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from neo4j import AsyncDriver, Driver

from patterns import event_loop, kept_drivers
from patterns.connection import DatabaseConnection
from patterns.problematic import ProblematicDatabaseConnection
from patterns.registry import load
from patterns.workload import DriverKind, Row, Task, run_task
from testing.neo4j_server import StartedNeo4j
from tests.patterns.server_view import ServerView


class Twin(NamedTuple):
    """A pattern with one kind of driver, and an alias of the test's own to know its connections by."""

    pattern: str
    kind: DriverKind
    alias: str
    environ: dict[str, str]

    def run(self, calls: int = 3, /, **changes: str) -> Row:
        """Run a task without a hold; ``changes`` are variables of its environment."""
        return run_task(Task(self.pattern, self.kind, self.alias, calls, hold=0), self.environ | changes)

    def connection(self) -> DatabaseConnection:
        """Return a new object of the pattern."""
        return load(self.pattern)(self.environ)

    def get(self, connection: DatabaseConnection) -> Driver | AsyncDriver:
        """Ask the pattern for a driver, and have it open a connection."""
        if self.kind == "async":
            return event_loop.run(_verified(connection, self.alias))
        driver = connection.get_driver(self.alias)
        driver.verify_connectivity()
        return driver

    def connections(self, calls: int) -> int:
        """Return how many connections a task of so many calls keeps open."""
        return calls if self.pattern == "problematic" else 1


async def _verified(connection: DatabaseConnection, alias: str) -> AsyncDriver:
    driver = await connection.get_async_driver(alias)
    await driver.verify_connectivity()
    return driver


@pytest.fixture
def environ(neo4j_server: StartedNeo4j) -> dict[str, str]:
    return {"NEO4J_URI": neo4j_server.uri, "NEO4J_USERNAME": neo4j_server.username,
            "NEO4J_PASSWORD": neo4j_server.password, "NEO4J_DATABASE": neo4j_server.database}


@pytest.fixture
def view(neo4j_server: StartedNeo4j) -> ServerView:
    return ServerView(neo4j_server)


@pytest.fixture
def alias() -> str:
    return f"a{uuid.uuid4().hex[:8]}"


@pytest.fixture
def _closed_afterwards() -> Iterator[None]:
    yield
    kept_drivers.close_all()
    while ProblematicDatabaseConnection.kept:
        driver = ProblematicDatabaseConnection.kept.pop()
        if isinstance(driver, Driver):
            driver.close()
        else:
            event_loop.run(driver.close())


@pytest.fixture(params=[(pattern, kind) for pattern in ("problematic", "improved") for kind in ("sync", "async")],
                ids="-".join)
def twin(request: pytest.FixtureRequest, environ: dict[str, str], alias: str, _closed_afterwards: None) -> Twin:
    pattern, kind = request.param
    return Twin(pattern, kind, alias, environ)


@pytest.fixture(params=["sync", "async"])
def improved(request: pytest.FixtureRequest, environ: dict[str, str], alias: str, _closed_afterwards: None) -> Twin:
    return Twin("improved", request.param, alias, environ)
