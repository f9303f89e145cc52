"""Real servers: a running Neo4j, a Redis, and driver hosts in front of the Neo4j."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import neo4j

from rig.stack import ports, redis
from rig.stack.processes import MARK
from testing.programs import running_program
from testing.services import running_service
from testing.waiting import wait_until


class Neo4jServer(NamedTuple):
    """A running server and its administrator."""

    uri: str
    username: str
    password: str

    @property
    def auth(self) -> tuple[str, str]:
        """The credentials as the driver takes them."""
        return self.username, self.password

    @property
    def port(self) -> int:
        """The Bolt port."""
        return int(self.uri.rsplit(":", 1)[1])

    def driver(self, **config: object) -> neo4j.Driver:
        """Return a new driver for the server."""
        return neo4j.GraphDatabase.driver(self.uri, **cast("Any", {"auth": self.auth} | config))


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Run a Redis until the block ends; yield the URL of its database 0."""
    port, password = ports.choose(0, variable="a test"), uuid.uuid4().hex
    service = redis.service(folder, port, password, {**os.environ, MARK: str(folder)})
    with running_service(service, folder / "redis.log"):
        yield redis.url(port, password)


class Serving(NamedTuple):
    """A running ``worker-driver serve``."""

    process: "subprocess.Popen[str]"
    uri: str
    auth: tuple[str, str]
    folder: Path

    @property
    def port(self) -> int:
        """The port of its first driver."""
        return int(self.uri.rsplit(":", 1)[1])

    def driver(self, **config: object) -> neo4j.Driver:
        """Return a driver that connects through it."""
        return neo4j.GraphDatabase.driver(self.uri, **cast("Any", {"auth": self.auth} | config))


def _path() -> str:
    """Return a module path on which an interpreter without the package finds it, after the present path."""
    return os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(Path(__file__).resolve().parents[1]))))


@contextmanager
def serving(folder: Path, uri: str, auth: tuple[str, str], *, python: str = sys.executable, port: int = 0,
            **settings: object) -> Iterator[Serving]:
    """Run ``worker-driver serve`` in front of a server. Settings are in lower case, without their prefix."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "NEO4J_URI": uri, "NEO4J_USERNAME": auth[0], "NEO4J_PASSWORD": auth[1],
                   "WORKER_INIT_RUNTIME_DIR": str(folder), "PYTHONPATH": _path(), "WORKER_INIT_CONNECTION_IDS": "",
                   **{f"WORKER_INIT_{name.upper()}": str(value) for name, value in settings.items()}}
    variables = folder / "environment"
    variables.unlink(missing_ok=True)
    command = [python, "-m", "worker_init.cli", "serve", "--port", str(port), "--environment-file", str(variables)]
    with (folder / "host.log").open("w") as log, running_program(
            command, env=environment, stdout=log, stderr=log, text=True) as process:
        wait_until(lambda: variables.exists() or process.poll() is not None, "the host serves")
        assert process.poll() is None, (folder / "host.log").read_text()
        found = dict(line.split("=", 1) for line in variables.read_text().splitlines())
        yield Serving(process, found["NEO4J_WORKER_URI"],
                      (found["NEO4J_WORKER_USERNAME"], found["NEO4J_WORKER_PASSWORD"]), folder)
