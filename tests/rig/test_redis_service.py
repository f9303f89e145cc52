"""Celery's broker: a real Redis, with a password, on loopback alone."""

import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
import redis
from pydantic import SecretStr
from redis.backoff import NoBackoff
from redis.retry import Retry

from rig.stack import airflow, processes
from rig.stack import redis as redis_service
from rig.stack.ports import choose
from rig.stack.processes import MARK, Started
from rig.stack.service import Service
from rig.stack.state import random_secrets
from testing.services import running_service
from testing.waiting import eventually
from tests.rig import kernel_sockets
from tests.rig.test_drivers import stack
from tests.server_marks import starts

PASSWORD = "correct-horse-battery"


class Running(NamedTuple):
    """A Redis that serves."""

    service: Service
    process: Started
    folder: Path
    port: int

    def client(self, password: str | None) -> "redis.Redis":
        """Return a client with this password."""
        return redis.Redis(host="127.0.0.1", port=self.port, password=password, retry=Retry(NoBackoff(), 0))


@pytest.fixture(scope="module")
@starts("broker")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder, port = tmp_path_factory.mktemp("redis"), choose(0, variable="a test")
    service = redis_service.service(folder / "data", port, PASSWORD, {**os.environ, MARK: str(folder / "data")})
    with running_service(service, folder / "redis.log") as process:
        yield Running(service, process, folder / "data", port)


def test_it_does_not_serve_before_it_is_started(tmp_path: Path) -> None:
    service = redis_service.service(tmp_path, choose(0, variable="a test"), PASSWORD, {})
    reason = service.check()
    assert reason
    assert "refused" in reason


def test_it_serves_who_has_the_password(running: Running) -> None:
    assert running.service.check() is None
    with redis.Redis.from_url(redis_service.url(running.port, PASSWORD)) as client:
        assert client.ping()


@pytest.mark.parametrize("password", [None, "", "wrong"])
def test_it_refuses_without_the_password(password: str | None, running: Running) -> None:
    with running.client(password) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_the_check_needs_the_right_password(running: Running, tmp_path: Path) -> None:
    other = redis_service.service(tmp_path, running.port, "another", {})
    assert other.check(), "it would call the Redis of another stack its own"


def test_a_broker_that_is_stopped_or_dead_is_said_in_one_line(
        running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://192.0.2.1:6379/0")     # of another program: it has no effect
    secrets = random_secrets(airflow=None, neo4j=None).model_copy(update={"redis": SecretStr(PASSWORD)})
    made = stack(tmp_path, ports={"redis": running.port}, secrets=secrets)
    worker = airflow.worker({}, tmp_path, made)
    assert worker.check() == "no answer to a ping"
    process = psutil.Process(running.process.pid)
    process.suspend()
    try:
        # Each gives up by itself; a busy machine may take long to come to it.
        assert (worker.check() or "").startswith("the broker does not answer: ")
        assert running.service.check()
    finally:
        process.resume()
    made.ports["redis"] = choose(0, variable="a test")
    assert "refused" in (airflow.worker({}, tmp_path, made).check() or "")


def test_it_listens_on_loopback_alone(running: Running) -> None:
    assert kernel_sockets.listening(running.process) == {("127.0.0.1", running.port)}


def test_its_password_is_where_only_this_user_can_read_it(running: Running) -> None:
    assert PASSWORD not in kernel_sockets.arguments(running.process)
    assert stat.S_IMODE((running.folder / "redis.conf").stat().st_mode) == 0o600
    assert PASSWORD not in f"{running.service!r}{running.service.url}"


def test_it_is_found_by_the_mark_of_its_stack(running: Running) -> None:
    assert [process.pid for process in processes.marked(str(running.folder))] == [running.process.pid]


@pytest.mark.broker
def test_what_waits_in_it_is_there_again_after_it_was_killed(tmp_path: Path) -> None:
    service = redis_service.service(tmp_path / "data", choose(0, variable="a test"), PASSWORD, dict(os.environ))
    with running_service(service, tmp_path / "redis.log") as process, _client_of(service) as client:
        client.lpush("default", *range(100))
        os.kill(process.pid, signal.SIGKILL)
        eventually(lambda: processes.find(process) is None)
    with running_service(service, tmp_path / "redis.log"), _client_of(service) as client:
        assert client.llen("default") == 100
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"redis.conf", "appendonly.aof"}


def _client_of(service: Service) -> "redis.Redis":
    port = int(str(service.url).split(":")[2].partition("/")[0])
    return redis.Redis(host="127.0.0.1", port=port, password=PASSWORD, retry=Retry(NoBackoff(), 0))


@pytest.mark.broker
def test_a_folder_with_a_space_in_its_name_will_do(tmp_path: Path) -> None:
    service = redis_service.service(tmp_path / "my results", choose(0, variable="a test"), PASSWORD, dict(os.environ))
    with running_service(service, tmp_path / "redis.log") as process:
        assert service.check() is None
    assert processes.find(process) is None
    assert service.check(), "it is stopped and is said to serve"
