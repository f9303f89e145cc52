"""Fixtures: a real Neo4j for the session, and a host in front of it."""

from collections.abc import Iterator
from pathlib import Path

import neo4j
import pytest

from testing.neo4j_server import StartedNeo4j
from testing.servers import Neo4jServer, Serving, redis_server, serving
from tests.server_marks import starts


@pytest.fixture(scope="session")
def server(neo4j_server: StartedNeo4j) -> Neo4jServer:
    return Neo4jServer(neo4j_server.uri, neo4j_server.username, neo4j_server.password)


@pytest.fixture(scope="session")
@starts("broker")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="session")
def host(server: Neo4jServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Run a host with default settings; tests that need others start their own."""
    with serving(tmp_path_factory.mktemp("host"), server.uri, server.auth) as running:
        yield running


@pytest.fixture
def direct(server: Neo4jServer) -> Iterator[neo4j.Driver]:
    with server.driver() as driver:
        yield driver


@pytest.fixture
def relayed(host: Serving) -> Iterator[neo4j.Driver]:
    with host.driver() as driver:
        yield driver


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path
