"""A worker that answers and takes nothing is told from one that is well, one that is busy, and one that is gone."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.servers import Neo4jServer, redis_server
from testing.waiting import wait_until
from testing.workers import CHECKOUT, Worker, celery_worker
from tests.server_marks import starts
from worker_init import takes_tasks

pytestmark = pytest.mark.broker

NOBODY = Neo4jServer("bolt://127.0.0.1:9", "neo4j", "none is asked")


@pytest.fixture(scope="module")
@starts("broker")
def redis_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="module")
def worker(redis_of_its_own: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    folder = tmp_path_factory.mktemp("w")
    with celery_worker(NOBODY, redis_of_its_own, folder, folder, "-c", "1") as running:
        yield running


def ask(redis: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the check as a container does, against the one worker there is."""
    return subprocess.run([sys.executable, "-m", "worker_init.takes_tasks", *arguments], cwd=CHECKOUT,
                          env={"AIRFLOW__CELERY__BROKER_URL": redis, "PYTHONPATH": "."}, capture_output=True,
                          text=True, check=False)


def test_a_worker_that_takes_tasks_is_well_and_runs_nothing_for_it(worker: Worker, redis_of_its_own: str) -> None:
    assert (ask(redis_of_its_own).returncode, takes_tasks.examine(worker.app)) == (0, takes_tasks.Finding(None))
    wait_until(lambda: worker.log.count("Discarding revoked task") == 2, "it has taken both messages")
    assert next(iter(worker.app.control.inspect(limit=1).stats().values()))["total"] == {}


def test_one_that_has_lost_its_queue_answers_and_is_found(worker: Worker, redis_of_its_own: str) -> None:
    worker.app.control.cancel_consumer("celery", reply=True)
    assert worker.answers()
    with subprocess.Popen(["sleep", "600"]) as main_process:
        asked = ask(redis_of_its_own, "--end", str(main_process.pid))
        assert main_process.wait(10) == -signal.SIGTERM
    worker.app.control.add_consumer("celery", reply=True)
    assert asked.returncode == 3
    assert asked.stdout.endswith("it answers a ping and takes no tasks: it has lost its queues\n")


def test_one_that_no_longer_looks_into_its_queue_answers_and_is_found(
        worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a reconnect did to workers before Kombu 5.7: the queue is registered, and nobody reads."""
    monkeypatch.setattr(takes_tasks, "TAKEN_SECONDS", 1.0)
    monkeypatch.setattr(takes_tasks, "WORK_SECONDS", 1.0)
    worker.app.control.broadcast("stop_reading", reply=True)
    assert worker.answers()
    takes_tasks.examine(worker.app)     # a read that had begun takes one message more
    found = takes_tasks.examine(worker.app)
    worker.app.control.broadcast("read_again", reply=True)
    assert found.takes_nothing
    assert "it answers a ping and takes no tasks: " in str(found.problem)
    wait_until(lambda: takes_tasks.examine(worker.app).problem is None, "it takes tasks again")


def test_one_that_is_stopped_does_not_answer(worker: Worker) -> None:
    worker.process.send_signal(signal.SIGSTOP)
    try:
        found = takes_tasks.examine(worker.app)
    finally:
        worker.process.send_signal(signal.SIGCONT)
    assert (found.problem, found.is_silent, found.takes_nothing) == ("no answer to a ping", True, False)
    wait_until(lambda: takes_tasks.examine(worker.app).problem is None, "it takes tasks again")


def test_one_that_is_busy_takes_nothing_and_is_well(worker: Worker, tmp_path: Path) -> None:
    tasks = [worker.tasks.waits.delay(str(tmp_path / "release")) for _ in range(3)]
    wait_until(lambda: worker.app.control.inspect(limit=1).active(), "a task runs")
    try:
        assert takes_tasks.examine(worker.app) == takes_tasks.Finding(None)
    finally:
        (tmp_path / "release").touch()
    assert [task.get(timeout=60) for task in tasks] == [True] * 3


def test_one_that_is_gone_and_a_broker_that_is_gone_are_one_line_each(redis_of_its_own: str) -> None:
    asked = ask(redis_of_its_own, "celery@nobody")
    assert (asked.returncode, asked.stderr) == (1, "")
    assert asked.stdout.endswith(": no answer to a ping\n")
    nowhere = ask("redis://127.0.0.1:9/0")
    assert (nowhere.returncode, nowhere.stderr) == (1, "")
    assert "the broker does not answer: " in nowhere.stdout
    assert nowhere.stdout.count("\n") == 1
    assert ask("").returncode == 2
