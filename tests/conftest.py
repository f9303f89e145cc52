"""Real servers for the tests: a Neo4j for the session, and, where a test asks for it, the whole stack."""

import os
import signal
import uuid
from collections.abc import Iterator

import pytest

from rig.settings import ENV_FILE_VARIABLE
from rig.stack import ports
from testing.neo4j_server import StartedNeo4j
from tests.server_marks import starts

SETTINGS = ("NEO4J_", "WORKER_INIT_", "RIG_", "AIRFLOW_")


def pytest_configure() -> None:
    """Keep the user's .env out, and let Ctrl-C through.

    A .env may name the user's own Neo4j, which is none of the tests' business. A shell has background jobs ignore
    Ctrl-C, and so would every program that a test starts.
    """
    os.environ[ENV_FILE_VARIABLE] = os.devnull
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
@starts("neo4j")
def neo4j_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartedNeo4j]:
    if port := os.environ.get("TEST_NEO4J_PORT"):       # of `make matrix`, which runs one for many sessions
        yield StartedNeo4j(tmp_path_factory.mktemp("neo4j"), int(port), os.environ["TEST_NEO4J_PASSWORD"])
        return
    server = StartedNeo4j(tmp_path_factory.mktemp("neo4j"), ports.choose(0, variable="a test"), uuid.uuid4().hex)
    server.start()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def environment_stays() -> Iterator[None]:
    """Fail a test that leaves settings behind: the programs that later tests start would have them."""
    before = _settings()
    yield
    assert _settings() == before, "the test has changed this process's environment, and has to restore it"


def _settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(SETTINGS)}
