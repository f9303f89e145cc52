"""Fixtures: a real Neo4j for the session, and a host in front of it."""

import os
from collections.abc import Iterator
from pathlib import Path

import neo4j
import pytest

from testing.neo4j_server import StartedNeo4j
from testing.servers import Neo4jServer, Serving, redis_server, serving
from tests.server_marks import starts
from tests.worker_init.agreeing import agreeing_server
from tests.worker_init.scripted import servers


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


@pytest.fixture(scope="session")
def agreeing() -> Iterator[str]:
    """Run a server that agrees with everything; its address."""
    with agreeing_server() as uri:
        yield uri


@pytest.fixture(scope="session")
def agreeing_cluster() -> Iterator[str]:
    """Run a cluster of three members that agree with everything; the address of one."""
    with servers(members=3) as running:
        yield running.uri()


@pytest.fixture
def upstream(request: pytest.FixtureRequest) -> str:
    """Return where a worker's host leads to: a server, or a cluster where a test asks for it by `each_upstream`."""
    kind = getattr(request, "param", "bolt")
    return str(request.getfixturevalue({"bolt": "agreeing", "cluster": "agreeing_cluster"}[kind]))


@pytest.fixture
def runtime_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder whose path is short enough for a Unix socket's."""
    return tmp_path_factory.mktemp("w")


@pytest.fixture
def environment(upstream: str, runtime_dir: Path) -> dict[str, str]:
    """Return what a worker needs in its environment to have a driver host."""
    return {**os.environ, "NEO4J_URI": upstream, "NEO4J_USERNAME": "u", "NEO4J_PASSWORD": "p",
            "WORKER_INIT_CONNECTION_IDS": "", "WORKER_INIT_PRELOAD": "none",
            "WORKER_INIT_RUNTIME_DIR": str(runtime_dir), "WORKER_INIT_DRAIN_TIMEOUT": "1"}
