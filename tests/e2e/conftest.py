"""The whole stack, brought up by the real ``rig`` in a folder of its own."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from testing.waiting import eventually
from tests.e2e.rig_command import OWNER, Rig, a_rig
from tests.server_marks import starts


@pytest.fixture
def rig() -> Iterator[Rig]:
    """Give one test a rig with nothing running."""
    with a_rig() as made:
        yield made


@pytest.fixture(autouse=True)
def one_failure_only(request: pytest.FixtureRequest) -> Iterator[None]:
    """End the commands that a failed test has left running on a shared stack: the next ones could not use it."""
    shared = [request.getfixturevalue(name) for name in ("stack", "celery") if name in request.fixturenames]
    before = [len(rig.commands) for rig in shared]
    yield
    for rig, known in zip(shared, before, strict=True):
        rig.interrupt(rig.commands[known:])


@pytest.fixture(scope="module")
@starts("stack")
def stack() -> Iterator[Rig]:
    """Give the tests of a module a stack that is up, on LocalExecutor at first. It must leave nothing behind."""
    with a_rig() as made:
        made.run("up").require()
        ports = set(made.state().ports.values())
        yield made
        made.run("down").require()
        assert made.leftovers() == []
        eventually(lambda: not ports & listening(), limit=5)


@pytest.fixture(scope="module")
@starts("stack")
def celery() -> Iterator[Rig]:
    """Give the tests of a module a stack that is up on CeleryExecutor, whose workers load the hooks. Likewise.

    Its Airflow has a secrets backend: connections in a file, which has none until a test writes some. And it has a
    plugin by which the execution API denies tasks the connection ``neo4j_denied``; Airflow itself denies none yet.
    """
    with a_rig() as made:
        (made.home / "plugins").mkdir()
        shutil.copy(Path(__file__).with_name("denying_plugin.py"), made.home / "plugins")
        made.connections_file.write_text("{}", encoding="utf-8")
        arguments = {"connections_file_path": str(made.connections_file)}
        backend = {"AIRFLOW__SECRETS__BACKEND": "airflow.secrets.local_filesystem.LocalFilesystemBackend",
                   "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps(arguments),
                   "AIRFLOW__CORE__PLUGINS_FOLDER": str(made.home / "plugins")}
        made.settings |= {**backend, "RIG_INHERIT": ",".join((OWNER, *backend))}
        made.run("up", "--executor", "celery").require()
        yield made
        made.run("down").require()
        assert made.leftovers() == []


def listening() -> set[int]:
    """Return the ports of this machine on which somebody listens."""
    return {connection.laddr.port for connection in psutil.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN and connection.laddr}
