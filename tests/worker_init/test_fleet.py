"""Several driver hosts for one worker: the slots are dealt out, and all that is done to one is done to each."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from testing.alive import is_alive
from testing.servers import Neo4jServer
from testing.waiting import LIMIT, wait_until
from testing.workers import celery_worker
from tests.worker_init.hosted import is_served, status_of
from tests.worker_init.test_commands import run
from tests.worker_init.test_metrics import scrape
from worker_init.address_request import AddressRequest, ask
from worker_init.commands import Command, outcome
from worker_init.fleet import Fleet, together
from worker_init.lifecycle import Worker
from worker_init.settings import Settings
from worker_init.targets import Target, upstreams_of


@contextmanager
def fleet(environment: dict[str, str], slots: int, **settings: str) -> Iterator[tuple[Worker, Fleet]]:
    """Open a worker with two hosts; nothing is left of them at the end."""
    worker = Worker()
    worker.open(slots, {**environment, "WORKER_INIT_HOSTS": "2",
                        **{f"WORKER_INIT_{name.upper()}": value for name, value in settings.items()}}, "celery@here")
    found = worker._supervisor
    assert isinstance(found, Fleet), worker._notes
    pids = [host["pid"] for host in status_of(worker)["hosts"]]
    try:
        yield worker, found
    finally:
        worker.close()
        assert not [*Path(environment["WORKER_INIT_RUNTIME_DIR"]).iterdir()]
        wait_until(lambda: not any(map(is_alive, pids)), "the hosts are gone")


def environments(found: Fleet, slots: int) -> list[dict[str, str]]:
    return [found.of(index).environment(index) for index in range(slots)]


def hosts(worker: Worker) -> list[dict[str, Any]]:
    return list(status_of(worker)["hosts"])


@pytest.mark.host
def test_slots_are_dealt_out_in_turn_and_each_has_its_driver(environment: dict[str, str]) -> None:
    with fleet(environment, 5) as (worker, found):
        assert [driver["slot"] for driver in status_of(worker)["drivers"]] == [0, 1, 2, 3, 4]
        assert len({host["pid"] for host in hosts(worker)}) == 2
        assert [found.of(index).slot_of(index) for index in range(5)] == [0, 1, 2, 3, 4]
        told = environments(found, 5)
        assert len({one["NEO4J_WORKER_URI"] for one in told}) == 5
        assert all(map(is_served, told))
        worker.grow(6)
        wait_until(lambda: len(status_of(worker)["drivers"]) == 6, "the pool has grown")
        assert is_served(environments(found, 6)[5])
        shown = run(Path(environment["WORKER_INIT_RUNTIME_DIR"]), "status").stdout.splitlines()
        assert {line.split()[0] for line in shown if line[:4].strip().isdigit()} == {"0", "1", "2", "3", "4", "5"}


@pytest.mark.host
def test_a_host_that_dies_costs_the_others_nothing(environment: dict[str, str]) -> None:
    with fleet(environment, 2) as (worker, found):
        told, (first, second) = environments(found, 2), hosts(worker)
        os.kill(first["pid"], signal.SIGKILL)
        assert all(map(is_served, told))
        wait_until(lambda: status_of(worker)["state"] == "serving" and len(status_of(worker)["drivers"]) == 2,
                   "another serves")
        assert status_of(worker)["restarts"] == 1
        assert [host["pid"] == before["pid"] for host, before in zip(hosts(worker), (first, second), strict=True)] == [
            False, True]


@pytest.mark.host
def test_each_obeys_an_operator(environment: dict[str, str]) -> None:
    with fleet(environment, 2) as (worker, found):
        assert outcome(Command.PAUSE, worker.obey(Command.PAUSE)) == "paused, no transaction runs"
        assert [host["state"] for host in hosts(worker)] == ["paused", "paused"]
        done = run(Path(environment["WORKER_INIT_RUNTIME_DIR"]), "resume")
        assert (done.returncode, done.stdout.count("resumed")) == (0, 2)
        assert all(map(is_served, environments(found, 2)))


@pytest.mark.host
def test_each_has_metrics_of_its_own_slots(environment: dict[str, str]) -> None:
    with fleet(environment, 4, metrics_port="0") as (worker, found):
        assert all(map(is_served, environments(found, 4)))
        seen = [{dict(labels)["slot"] for name, *labels in scrape(host["metrics"]).samples
                 if name == "db_client_connection_max"} for host in hosts(worker)]
        assert seen == [{"0", "2"}, {"1", "3"}]


@pytest.mark.host
def test_the_ports_of_their_metrics_follow_each_other(environment: dict[str, str]) -> None:
    settings = Settings.from_environment({**environment, "WORKER_INIT_HOSTS": "2", "WORKER_INIT_METRICS_PORT": "9464"})
    found = Fleet(settings, upstreams_of(environment, ()), environment)     # never started
    try:
        assert [one._settings_message()["metrics_port"] for one in found._supervisors] == [9464, 9465]
    finally:
        found.kill()


@pytest.mark.host
def test_a_task_gets_its_upstream_from_the_host_of_its_slot(environment: dict[str, str], agreeing: str) -> None:
    target = Target(agreeing.replace("127.0.0.1", "localhost"), "u", "p")
    with fleet(environment, 2) as (worker, found):
        for index in range(2):
            owner = found.of(index)
            address = ask(owner.folder, AddressRequest(owner.slot_of(index), target))
            assert address
            assert is_served({"NEO4J_WORKER_URI": f"bolt://{address.host}:{address.port}",
                              "NEO4J_WORKER_USERNAME": address.credentials.username,
                              "NEO4J_WORKER_PASSWORD": address.credentials.password})
        assert [(driver["slot"], driver["upstream"]) for driver in status_of(worker)["drivers"]
                if driver["upstream"] == target.uri] == [(0, target.uri), (1, target.uri)]


@pytest.mark.host
def test_with_scope_shared_each_host_has_one_driver(environment: dict[str, str]) -> None:
    with fleet(environment, 5, scope="shared") as (worker, found):
        assert [driver["slot"] for driver in status_of(worker)["drivers"]] == [0, 1]
        assert [found.of(index).slot_of(index) for index in range(5)] == [0, 1, 0, 1, 0]
        assert all(map(is_served, environments(found, 5)))


@pytest.mark.host
def test_where_one_cannot_be_started_there_is_none(environment: dict[str, str],
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker_init.spawned.sys.executable", "/nonexistent")
    worker = Worker()
    worker.open(2, environment | {"WORKER_INIT_HOSTS": "2", "WORKER_INIT_START_TIMEOUT": "0.5"})
    assert worker.status() is None
    assert "cannot be started" in worker._notes[-1][1]
    assert not [*Path(environment["WORKER_INIT_RUNTIME_DIR"]).iterdir()]


def test_the_status_of_several_says_what_is_worst() -> None:
    serving: dict[str, Any] = {"pid": 1, "state": "serving", "restarts": 0, "drivers": [{"slot": 1}]}
    down = {"pid": 2, "state": "down", "restarts": 3, "last_error": "it hangs"}
    found = together([serving, serving | {"drivers": [{"slot": 0}], "restarts": 1}, down])
    assert (found["state"], found["restarts"], found["last_error"]) == ("down", 4, "it hangs")
    assert [driver["slot"] for driver in found["drivers"]] == [0, 1]
    assert [host["state"] for host in found["hosts"]] == ["serving", "serving", "down"]


@pytest.mark.neo4j
def test_the_tasks_of_a_celery_worker_are_served_by_both(server: Neo4jServer, redis: str, tmp_path: Path) -> None:
    with celery_worker(server, redis, tmp_path, tmp_path, "-c", "4", WORKER_INIT_HOSTS="2") as worker:
        results = worker.run(worker.tasks.forked, list(range(40)))
        assert [result["value"] for result in results] == [str(number) for number in range(40)]
        stats = worker.stats()
        assert len({host["pid"] for host in stats["hosts"]}) == 2
        # An execute_query of a driver of its own for each: one transaction.
        assert sum(driver["leases"] for driver in stats["drivers"]) >= 40
        assert sum(driver["connections"]["opened"] for driver in stats["drivers"]) <= 4
        assert len([driver for driver in stats["drivers"] if driver["processes"]]) == 4
        pids = [host["pid"] for host in stats["hosts"]]
        worker.process.terminate()
        assert worker.process.wait(LIMIT) == 0
    wait_until(lambda: not any(map(is_alive, pids)), "no host outlives its worker")
