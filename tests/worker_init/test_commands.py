"""``worker-driver reconnect``, ``pause`` and ``resume``: what transactions see of them at a real Neo4j."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import neo4j
import pytest
from neo4j.exceptions import TransientError

from testing.servers import Neo4jServer, Serving, serving
from testing.waiting import LIMIT, wait_until
from testing.workers import CHECKOUT, celery_worker
from tests.worker_init.hosted import is_served, kill_host, opened, status_of
from worker_init.address_request import Peer
from worker_init.commands import Command, outcome
from worker_init.control import find_folders, is_paused, read_status, send_command
from worker_init.errors import WorkerInitError
from worker_init.host import Host, HostSettings
from worker_init.lifecycle import Worker
from worker_init.pool_actions import Limits

PAUSED = (r"the shared driver is paused \(worker-driver pause\), and was not resumed within 1 s "
          r"\(WORKER_INIT_ACQUISITION_TIMEOUT\)")


def run(parent: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "worker_init.cli", *arguments], capture_output=True, text=True,
                          env={**os.environ, "WORKER_INIT_RUNTIME_DIR": str(parent)}, timeout=LIMIT, check=False)


def status(host: Serving) -> dict[str, Any]:
    return read_status(find_folders(host.folder)[0], 5.0)


def connections(host: Serving) -> dict[str, int]:
    found: dict[str, int] = status(host)["drivers"][0]["connections"]
    return found


def waiting(host: Serving) -> int:
    return int(status(host)["drivers"][0]["waits"]["now"])


@pytest.fixture
def own_host(server: Neo4jServer, tmp_path: Path) -> Iterator[Serving]:
    with serving(tmp_path, server.uri, server.auth) as running:
        yield running


def ask(driver: neo4j.Driver) -> Any:
    return driver.execute_query("RETURN 1 AS x", database_="neo4j").records[0]["x"]


@contextmanager
def asking(driver: neo4j.Driver) -> Iterator["Future[Any]"]:
    """Ask in a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(ask, driver)


@pytest.mark.neo4j
def test_reconnect_ends_a_lent_connection_at_its_transactions_end_and_not_before(own_host: Serving) -> None:
    with own_host.driver() as driver, driver.session(database="neo4j") as session, driver.session() as other:
        with other.begin_transaction(), session.begin_transaction() as transaction:
            transaction.run("CREATE (:Reconnected)").consume()
            other.close()
            wait_until(lambda: connections(own_host)["idle"] == 1, "the other transaction has ended")
            done = run(own_host.folder, "reconnect")
            assert (done.returncode, done.stderr) == (0, "")
            assert done.stdout == (f"driver host {status(own_host)['pid']}: idle connections are closed; 1 transaction "
                                   "runs, and closes its connection at its end\n")
            wait_until(lambda: connections(own_host)["open"] == 1, "the idle one is closed")
            assert transaction.run("MATCH (n:Reconnected) RETURN count(n)").single(strict=True)[0] == 1
            assert connections(own_host) == {"open": 1, "opened": 2, "closed": 1, "idle": 0, "in_use": 1,
                                             "max_size": 100}
            transaction.commit()
        wait_until(lambda: connections(own_host)["open"] == 0, "the lent one is closed with its transaction")
        assert driver.execute_query("MATCH (n:Reconnected) DELETE n RETURN count(*) AS n").records[0]["n"] == 1
        assert connections(own_host)["opened"] == 3


@pytest.mark.neo4j
def test_a_pause_holds_a_transaction_and_resume_lets_it_through(own_host: Serving) -> None:
    with own_host.driver() as driver:
        assert ask(driver) == 1
        done = run(own_host.folder, "pause")
        pid = status(own_host)["pid"]
        assert (done.returncode, done.stdout) == (0, f"driver host {pid}: paused, no transaction runs\n")
        wait_until(lambda: connections(own_host)["open"] == 0, "the server is left alone")
        with asking(driver) as answer:
            wait_until(lambda: waiting(own_host) == 1, "the transaction waits")
            assert status(own_host)["state"] == status(own_host)["drivers"][0]["state"] == "paused"
            assert connections(own_host)["opened"] == 1
            assert not answer.done()
            done = run(own_host.folder, "resume", "--pid", str(pid))
            assert (done.returncode, done.stdout) == (0, f"driver host {pid}: resumed\n")
            assert answer.result(LIMIT) == 1
        assert status(own_host)["state"] == "serving"


@pytest.mark.neo4j
def test_a_pause_lets_transactions_end_and_says_how_many_run(own_host: Serving) -> None:
    with own_host.driver() as driver, driver.session() as session:
        transaction = session.begin_transaction()
        transaction.run("RETURN 1").consume()
        done = run(own_host.folder, "pause", "--timeout", "0.1")
        assert (done.returncode, done.stdout.partition(": ")[2]) == (1, "paused; 1 transaction runs still\n")
        with ThreadPoolExecutor(1) as pool:
            returned = pool.submit(run, own_host.folder, "pause")
            assert transaction.run("RETURN 2").single(strict=True)[0] == 2
            transaction.commit()
            assert returned.result(LIMIT).returncode == 0
        assert connections(own_host)["in_use"] == 0


@pytest.mark.neo4j
@pytest.mark.parametrize("client", ["the first of all", "one that knows the server", "one that routes"])
def test_who_waits_in_vain_is_told_that_it_is_paused(server: Neo4jServer, tmp_path: Path, client: str) -> None:
    with serving(tmp_path, server.uri, server.auth, acquisition_timeout=1) as host:
        uri = host.uri.replace("bolt", "neo4j") if client == "one that routes" else host.uri
        with neo4j.GraphDatabase.driver(uri, auth=host.auth, max_transaction_retry_time=0) as driver:
            if client != "the first of all":
                assert ask(driver) == 1
            send_command(find_folders(tmp_path)[0], Command.PAUSE, 5.0)
            with pytest.raises(TransientError, match=PAUSED):
                ask(driver)
            send_command(find_folders(tmp_path)[0], Command.RESUME, 5.0)
            assert ask(driver) == 1


@pytest.mark.host
def test_a_pause_outlives_the_host_but_not_the_worker(environment: dict[str, str]) -> None:
    with opened(environment) as (worker, supervisor):
        found = supervisor.environment(0)
        assert is_served(found)
        assert outcome(Command.PAUSE, worker.obey(Command.PAUSE)) == "paused, no transaction runs"
        killed = kill_host(supervisor)
        wait_until(lambda: status_of(worker)["state"] == "paused" and status_of(worker)["pid"] != killed,
                   "another host is there, and paused")
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(is_served, found)
            wait_until(lambda: status_of(worker)["drivers"][0]["waits"]["now"] == 1, "a client waits")
            worker.obey(Command.RESUME)
            assert answer.result(LIMIT)
        kill_host(supervisor)
        wait_until(lambda: status_of(worker)["state"] == "serving", "the one behind that is not paused")
    with opened(environment) as (worker, supervisor):
        worker.obey(Command.PAUSE)
    with opened(environment) as (worker, supervisor):
        assert status_of(worker)["state"] == "serving"


@pytest.mark.host
def test_a_pause_is_kept_in_the_folder_that_takes_the_place_of_one_that_was_removed(
        environment: dict[str, str]) -> None:
    with opened(environment) as (worker, supervisor):
        worker.obey(Command.PAUSE)
        before = supervisor.folder
        (before / "paused").unlink()
        (before / "control").unlink()
        wait_until(lambda: is_paused(supervisor.folder), "the host has said so again")
        worker.obey(Command.RESUME)
        assert not is_paused(supervisor.folder)


@pytest.mark.host
def test_an_upstream_that_a_task_asks_for_in_a_pause_is_paused_too(environment: dict[str, str]) -> None:
    with opened(environment) as (worker, supervisor):
        worker.obey(Command.PAUSE)
        supervisor.ensure(2)
        wait_until(lambda: len(status_of(worker)["drivers"]) == 2, "there is another slot")
        assert {driver["state"] for driver in status_of(worker)["drivers"]} == {"paused"}


def test_where_there_is_no_host_it_is_said(tmp_path: Path) -> None:
    for command in Command:
        done = run(tmp_path, command.value)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == (f"worker-driver: there is no driver host of this user in {tmp_path}: see "
                               "`worker-driver status`\n")
    with pytest.raises(WorkerInitError, match="this worker has no driver host"):
        Worker().obey(Command.PAUSE)


def test_another_user_cannot_command_a_host(tmp_path: Path) -> None:
    async def asked() -> dict[str, Any]:
        host = Host(HostSettings(Limits(1, 1, 1, 1, 1), 1, 1, tmp_path, 1), has_pool=False)
        answer = await host._answer_to(Command.PAUSE.line(), Peer(1, os.getuid() + 1))
        assert host.status()["state"] == "serving"
        await host.drain(0.0)
        return answer
    assert asyncio.run(asked()) == {"refused": f"user {os.getuid() + 1} does not own this driver host"}


@pytest.mark.parametrize(("command", "running", "said"), [
    (Command.RECONNECT, 0, "idle connections are closed"),
    (Command.RECONNECT, 2, "idle connections are closed; 2 transactions run, and close their connections at their "
                           "ends"),
    (Command.PAUSE, 0, "paused, no transaction runs"), (Command.PAUSE, 2, "paused; 2 transactions run still"),
    (Command.RESUME, 1, "resumed")])
def test_what_has_come_of_a_command_is_a_line(command: Command, running: int, said: str) -> None:
    drivers = [{"connections": {"in_use": running}}, {"connections": {"in_use": 0}}]
    assert outcome(command, {"pid": 7, "drivers": drivers}) == said


@pytest.mark.neo4j
def test_celery_can_ask_for_the_same(server: Neo4jServer, redis: str, tmp_path: Path) -> None:
    environment = {**os.environ, "TEST_BROKER": redis, "TEST_RESULTS": tmp_path.as_uri(), "PYTHONPATH": str(CHECKOUT)}
    with celery_worker(server, redis, tmp_path, tmp_path, "-c", "1") as worker:
        def control(command: str) -> str:
            done = subprocess.run(
                [sys.executable, "-m", "celery", "-A", "testing.celery_app", "control", "-t", "30", "-d",
                 next(iter(worker.app.control.inspect(limit=1, timeout=30).ping())), command],
                env=environment, capture_output=True, text=True, timeout=LIMIT, check=False)
            assert (done.returncode, done.stderr) == (0, ""), done
            return done.stdout
        assert worker.run(worker.tasks.plain, [1])[0]["value"] == 1
        assert "idle connections are closed" in control("neo4j_reconnect")
        wait_until(lambda: worker.drivers()[0]["connections"]["open"] == 0, "it has reconnected")
        assert "paused, no transaction runs" in control("neo4j_pause")
        result = worker.tasks.plain.delay(2)
        wait_until(lambda: worker.drivers()[0]["waits"]["now"] == 1, "the task's transaction waits")
        assert worker.stats()["state"] == "paused"
        assert "resumed" in control("neo4j_resume")
        assert result.get(timeout=LIMIT)["value"] == 2
