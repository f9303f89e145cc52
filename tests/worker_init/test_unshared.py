"""Servers that speak too little Bolt to be shared: tasks connect to them by themselves, until they are upgraded."""

from pathlib import Path
from typing import Any

import neo4j
import pytest
from neo4j.exceptions import DatabaseError

from rig.stack import drivers
from testing.servers import Neo4jServer, Serving, serving
from testing.waiting import wait_until
from testing.workers import celery_worker
from tests.worker_init.faults import proxy
from tests.worker_init.hosted import opened, status_of
from tests.worker_init.scripted import Member, Servers, servers
from tests.worker_init.test_upstream_faults import AUTH, both, value
from worker_init.address_request import AddressRequest, NoAddress, ask
from worker_init.bolt import Tag
from worker_init.control import find_folders, read_status
from worker_init.handshake import Version
from worker_init.lifecycle import Worker
from worker_init.targets import Target

OLD, NEW = Version(4, 3), Version(5, 8)
WORKS = "Neo4j 4.4 and newer can (Bolt 4.4 and newer)"
# How often a server is asked again, in seconds.
SOON = "1"


class Changing(Member):
    """A server of Bolt 4.3, until ``servers.is_new`` is set. A query has the column ``value``."""

    def __init__(self, running: Servers, number: int) -> None:
        super().__init__(running, number)
        self.offers = (NEW if getattr(running, "is_new", False) else OLD,)

    def answer(self, tag: int, body: bytes) -> None:
        if tag == Tag.RUN:
            self.succeed(fields=["value"])
        else:
            super().answer(tag, body)


def change(running: Servers, *, is_new: bool) -> None:
    running.is_new = is_new     # type: ignore[attr-defined]
    running.hang_up()


def lines(worker: Worker) -> list[str]:
    """Return what the worker says at its start of tasks that connect by themselves."""
    return [note for _, note in worker._notes if "by themselves" in note]


def asked(task: dict[str, str]) -> Any:
    """Return the answer to a query that a task asks with what is in its environment."""
    return answer_at(task["NEO4J_WORKER_URI"], task["NEO4J_WORKER_USERNAME"], task["NEO4J_WORKER_PASSWORD"])


def answer_at(uri: str, username: str, password: str) -> Any:
    with neo4j.GraphDatabase.driver(uri, auth=(username, password), max_transaction_retry_time=0) as driver:
        return value(driver)


@pytest.mark.host
@both
def test_a_worker_leaves_an_old_server_to_its_tasks_and_shares_it_once_it_is_upgraded(
        members: int, environment: dict[str, str]) -> None:
    with servers(Changing, members) as running:
        environment |= {"NEO4J_URI": running.uri(), "WORKER_INIT_LIVENESS_CHECK": SOON}
        with opened(environment) as (worker, supervisor):
            assert lines(worker) == [f"tasks connect by themselves: {running.uri()} speaks Bolt 4.3, which cannot be "
                                     f"shared: {WORKS}"]
            assert not [note for _, note in worker._notes if "tasks connect through" in note]
            task = {"NEO4J_URI": running.uri(), "NEO4J_WORKER_DATABASE": "own"}
            worker.enter(0, task)
            assert "NEO4J_WORKER_URI" not in task
            driver = status_of(worker)["drivers"][0]
            assert (driver["state"], WORKS in driver["last_error"]) == ("off", True)
            change(running, is_new=True)
            wait_until(lambda: not supervisor.unshared, "it is asked again")
            worker.before_task()
            assert asked(task) == 0
            change(running, is_new=False)
            wait_until(lambda: not status_of(worker)["drivers"][0]["connections"]["open"], "its connections are gone")
            with pytest.raises(DatabaseError, match=r"speaks Bolt 4\.3"):
                asked(task)
            wait_until(lambda: supervisor.unshared, "it is old again")
            worker.before_task()
            assert task == {"NEO4J_URI": running.uri(), "NEO4J_WORKER_DATABASE": "own"}
            worker.leave()


@pytest.mark.host
def test_the_rig_does_not_take_tasks_that_connect_by_themselves_for_those_of_a_relay(
        environment: dict[str, str], runtime_dir: Path) -> None:
    with servers(Changing) as running:
        environment |= {"NEO4J_URI": running.uri(), "WORKER_INIT_LIVENESS_CHECK": SOON}
        with opened(environment):
            (folder,) = find_folders(runtime_dir)
            assert not drivers.is_sharing(folder)
            change(running, is_new=True)
            wait_until(lambda: drivers.is_sharing(folder), "it is asked again")


@pytest.mark.host
def test_an_old_server_keeps_no_other_from_being_shared(agreeing: str, environment: dict[str, str]) -> None:
    with servers(Changing) as running:
        own = f"neo4j://u:p@127.0.0.1:{running.ports[0]}"
        environment |= {"NEO4J_URI": agreeing, "AIRFLOW_CONN_GRAPH": own, "WORKER_INIT_CONNECTION_IDS": "graph"}
        with opened(environment) as (worker, _):
            assert len(lines(worker)) == 1
            task = {**environment}
            worker.enter(0, task)
            assert task["NEO4J_WORKER_URI"]
            assert task["AIRFLOW_CONN_GRAPH"] == own
            worker.leave()


@pytest.mark.host
@both
def test_a_task_that_asks_for_an_old_server_gets_no_address_until_it_is_upgraded(members: int, agreeing: str,
                                                                                tmp_path: Path) -> None:
    with (servers(Changing, members) as running,
          serving(tmp_path, agreeing, AUTH, liveness_check=SOON) as host):
        (folder,) = find_folders(host.folder)
        request = AddressRequest(0, Target(running.uri(), *AUTH))
        for _ in range(3):
            with pytest.raises(NoAddress, match=r"speaks Bolt 4\.3, which cannot be shared: Neo4j 4\.4 and newer can"):
                ask(folder, request)
        said = (tmp_path / "host.log").read_text()
        assert said.count("by themselves") == 1
        assert "by itself" not in said
        assert running.uri() not in [driver["upstream"] for driver in read_status(folder, 5.0)["drivers"]]
        change(running, is_new=True)
        assert wait_until(lambda: answer(folder, request), "it is shared") == "0"


def answer(folder: Path, request: AddressRequest) -> Any:
    """Return the answer to a query where a task is told to ask; None where it connects by itself."""
    try:
        address = ask(folder, request)
    except NoAddress:
        return None
    assert address
    return str(answer_at(f"bolt://{address.host}:{address.port}", *address.credentials))


@pytest.mark.host
@both
def test_who_is_there_when_a_server_turns_out_to_be_old_is_told_so(members: int, tmp_path: Path) -> None:
    """The clients of `worker-driver serve` were given its address when they were started: they cannot do without."""
    with (servers(Changing, members) as running,
          serving(tmp_path, running.uri(), AUTH) as host, host.driver(max_transaction_retry_time=0) as driver):
        with pytest.raises(DatabaseError, match=r"speaks Bolt 4\.3"):
            value(driver)
        found = driver_of(host)
        assert found["state"] == "off"
        assert "Bolt 4.3" in found["last_error"]
        assert found["connections"]["open"] == 0
        change(running, is_new=True)
        assert value(driver) == 0
        assert driver_of(host)["state"] == "up"


def driver_of(host: Serving) -> dict[str, Any]:
    found: dict[str, Any] = read_status(find_folders(host.folder)[0], 5.0)["drivers"][0]
    return found


@pytest.mark.neo4j
def test_a_server_whose_bolt_no_driver_knows_is_left_to_the_tasks_of_a_celery_worker(
        server: Neo4jServer, redis: str, tmp_path: Path) -> None:
    with proxy(server.port) as hop:
        hop.speaks = Version(2, 0)
        upstream = server._replace(uri=hop.uri)
        with celery_worker(upstream, redis, tmp_path, tmp_path, "-c", "2",
                           WORKER_INIT_LIVENESS_CHECK=SOON) as running:
            before = running.run(running.tasks.forked, list(range(4)))
            assert {result["uri"] for result in before} == {None}
            hop.speaks = None
            wait_until(lambda: running.drivers()[0]["state"] != "off", "it is asked again")
            after = running.run(running.tasks.forked, list(range(4)))
            assert [result["value"] for result in after] == ["0", "1", "2", "3"]
            assert None not in {result["uri"] for result in after}
            assert {result["pid"] for result in after} <= {result["pid"] for result in before} | {
                pid for driver in running.drivers() for pid in driver["processes"]}
            assert running.said().count("tasks connect by themselves") == 1
            assert WORKS in running.said()
