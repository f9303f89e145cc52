"""Real servers for the tests: a Neo4j for the session, and, where a test asks for it, the whole stack."""

import os
import signal
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from rig.settings import Settings
from rig.stack import neo4j, neo4j_jars, ports, processes
from rig.stack.processes import MARK
from tests.server_marks import starts


def pytest_configure() -> None:
    """Let Ctrl-C through: a shell has background jobs ignore it, and so would every program that a test starts."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass
class Neo4jServer:
    """A Neo4j of the tests' own, which they may stop and start."""

    folder: Path
    port: int
    password: str
    username: str = "neo4j"
    database: str = "neo4j"
    process: processes.Started | None = None

    @property
    def uri(self) -> str:
        return f"bolt://127.0.0.1:{self.port}"

    def start(self) -> None:
        jars = neo4j_jars.ensure(Settings().downloads_dir, lambda *_: None)
        service = neo4j.service(self.folder, jars, self.port, heap="512m", password=self.password,
                                env={**os.environ, MARK: str(self.folder)})
        self.process = processes.start(service.command, env=service.env, log=self.folder / "neo4j.log",
                                       cwd=service.cwd)
        Retrying(retry=retry_if_result(bool), stop=stop_after_delay(120), wait=wait_fixed(0.2))(service.check)

    def stop(self) -> None:
        if self.process:
            processes.stop(self.process, timeout=30)
        self.process = None

    def restart(self) -> None:
        self.stop()
        self.start()


@pytest.fixture(scope="session")
@starts("neo4j")
def neo4j_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neo4jServer]:
    server = Neo4jServer(tmp_path_factory.mktemp("neo4j"), ports.choose(0, variable="a test"), uuid.uuid4().hex)
    server.start()
    yield server
    server.stop()
