"""Real Celery workers: who starts the host, who uses it, and how each kind of end ends it."""

import functools
import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from testing.servers import Neo4jServer
from testing.waiting import LIMIT, wait_until
from testing.workers import CHECKOUT, StartWorker, Worker, celery_worker
from worker_init.control import find_folders

pytestmark = pytest.mark.neo4j


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keep results in files: one in Redis that nobody reads complains when it is collected."""
    return tmp_path_factory.mktemp("results")


@pytest.fixture
def worker(server: Neo4jServer, redis: str, results: Path, tmp_path: Path) -> StartWorker:
    return functools.partial(celery_worker, server, redis, results, tmp_path)


def opened(stats: Any) -> int:
    return sum(driver["connections"]["opened"] for driver in stats["drivers"])


@pytest.mark.parametrize("kind", ["plain", "forked"])
def test_a_process_has_one_driver_and_its_tasks_share_it(worker: StartWorker, kind: str) -> None:
    with worker("-c", "3") as running:
        task = getattr(running.tasks, kind)
        results = running.run(task, list(range(30)))
        assert [str(result["value"]) for result in results] == [str(number) for number in range(30)]
        pids = {result["pid"] for result in results}
        assert len({result["uri"] for result in results}) == len(pids)
        stats = running.stats()
        assert opened(stats) == len(pids)
        running.run(task, list(range(30)))
        assert opened(running.stats()) == len({*pids} | used(running.stats()))


def used(stats: Any) -> set[int]:
    """Return the pids whose drivers have connections."""
    return {driver["processes"][0] for driver in stats["drivers"] if driver["connections"]["opened"]}


def test_a_worker_can_have_one_driver_for_all(worker: StartWorker) -> None:
    with worker("-c", "4", WORKER_INIT_SCOPE="shared", WORKER_INIT_MAX_SIZE="2") as running:
        results = running.run(running.tasks.forked, list(range(60)))
        assert [result["value"] for result in results] == [str(number) for number in range(60)]
        stats = running.stats()
        assert len({result["uri"] for result in results}) == len(stats["drivers"]) == 1
        assert opened(stats) <= 2
        assert len(stats["drivers"][0]["processes"]) == 4


def test_the_log_says_that_a_scope_has_another_name_now(worker: StartWorker) -> None:
    with worker("-c", "2", WORKER_INIT_SCOPE="worker") as running:
        assert running.log.count("WORKER_INIT_SCOPE=worker is an earlier name: use WORKER_INIT_SCOPE=shared") == 1
        assert running.stats()["scope"] == "shared"


def test_the_plain_task_keeps_its_process_driver(worker: StartWorker) -> None:
    with worker("-c", "1") as running:
        results = running.run(running.tasks.plain, list(range(5)))
        assert all(result["kept"] for result in results)
        assert running.stats()["drivers"][0]["clients"]["total"] == 1


def test_a_process_that_is_replaced_has_the_same_slot(worker: StartWorker) -> None:
    with worker("-c", "1", "--max-tasks-per-child", "2") as running:
        results = running.run(running.tasks.forked, list(range(8)))
        assert [result["value"] for result in results] == [str(number) for number in range(8)]
        assert len({result["pid"] for result in results}) == 4
        assert len({result["uri"] for result in results}) == 1


def test_a_pool_that_grows_has_a_driver_for_each_process(worker: StartWorker) -> None:
    with worker("-c", "1") as running:
        running.app.control.pool_grow(2)
        wait_until(lambda: len(running.drivers()) == 3, "there are three slots")
        assert len(in_transactions_at_once(running, 3)) == 3
        assert opened(running.stats()) == 3


def test_a_pool_that_scales_itself_has_a_driver_for_each_process(worker: StartWorker) -> None:
    with worker("--autoscale", "3,1") as running:
        assert len(in_transactions_at_once(running, 3)) == 3
        assert len(running.drivers()) == 3
        assert opened(running.stats()) == 3


def test_a_pool_that_is_restarted_has_the_same_host(worker: StartWorker) -> None:
    with worker("-c", "2") as running:
        before, pids = running.stats(), in_transactions_at_once(running, 2)
        running.app.control.broadcast("pool_restart")
        # Celery 5.6 does not replace all of them.
        wait_until(lambda: pids - {pid for driver in running.drivers() for pid in driver["processes"]},
                   "a process is gone")
        assert pids != in_transactions_at_once(running, 2)
        after = running.stats()
        assert (after["pid"], after["restarts"]) == (before["pid"], 0)
        assert [driver["address"] for driver in after["drivers"]] == [
            driver["address"] for driver in before["drivers"]]


def in_transactions_at_once(running: Worker, tasks: int) -> set[int]:
    """Have so many tasks in a transaction at the same time; return the pids that they ran in."""
    release = running.folder / "release"
    results = [running.tasks.in_transaction.delay(str(release)) for _ in range(tasks)]
    wait_until(lambda: running.in_use() == tasks, f"{tasks} tasks are in a transaction")
    release.touch()
    answers = [result.get(timeout=LIMIT) for result in results]
    assert [answer["answer"] for answer in answers] == [2] * tasks
    release.unlink()
    return {answer["pid"] for answer in answers}


def test_a_killed_host_is_replaced_at_the_same_addresses(worker: StartWorker) -> None:
    with worker("-c", "2") as running:
        before = running.stats()
        addresses = [driver["address"] for driver in before["drivers"]]
        results = [running.tasks.forked.delay(number) for number in range(40)]
        os.kill(before["pid"], signal.SIGKILL)
        wait_until(lambda: (now := running.stats())["pid"] != before["pid"] and "drivers" in now, "another host serves")
        after = running.stats()
        assert [driver["address"] for driver in after["drivers"]] == addresses
        assert after["restarts"] == 1
        # A commit whose answer was lost may not be retried: the driver says so, with and without a relay.
        said = [result.get(timeout=LIMIT)["value"] for result in results]
        assert all(value == str(number) or "IncompleteCommit" in value for number, value in enumerate(said))


def test_a_killed_pool_process_gives_its_connections_back(worker: StartWorker) -> None:
    with worker("-c", "1") as running:
        pid = running.run(running.tasks.plain, [1])[0]["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: pid not in running.drivers()[0]["processes"], "the host has seen it")
        assert running.drivers()[0]["connections"]["open"] == 0
        assert running.run(running.tasks.plain, [2])[0]["value"] == 2


@pytest.mark.parametrize(("number", "ends_by_itself"), [(signal.SIGTERM, True), (signal.SIGQUIT, False),
                                                        (signal.SIGKILL, False)])
def test_the_host_ends_with_its_worker(worker: StartWorker, number: int, ends_by_itself: bool) -> None:
    with worker("-c", "1") as running:
        host = running.stats()["pid"]
        release = running.folder / "release"
        result = running.tasks.in_transaction.delay(str(release))
        wait_until(lambda: running.in_use() == 1, "the task is in a transaction")
        running.process.send_signal(number)
        if ends_by_itself:
            wait_until(lambda: not running.app.control.ping(timeout=0.5), "the worker is stopping")
            release.touch()
            assert result.get(timeout=LIMIT)["answer"] == 2
        running.process.wait(LIMIT)
        wait_until(lambda: not Path(f"/proc/{host}").exists(), "the host is gone")
        assert not find_folders(running.folder)


def test_it_can_be_turned_off(worker: StartWorker) -> None:
    with worker("-c", "1", WORKER_INIT_DISABLED="1") as running:
        assert running.stats() == {"state": "off"}
        assert running.run(running.tasks.forked, [1])[0] | {"pid": 0} == {"pid": 0, "value": "1", "uri": None}


def test_its_tasks_have_what_it_preloaded_and_what_it_could_not_preload_is_one_line(worker: StartWorker) -> None:
    with worker("-c", "1", WORKER_INIT_PRELOAD="nowhere.to_be_found") as running:
        wait_until(lambda: "WORKER_INIT_PRELOAD: nowhere.to_be_found cannot be imported" in running.log, "it is said")
        running.run(running.tasks.forked, [1])
        assert running.log.count("WORKER_INIT_PRELOAD") == 1
        assert running.run(running.tasks.imported, ["neo4j"]) == [False]


def test_preloading_can_be_turned_off(worker: StartWorker) -> None:
    with worker("-c", "1", WORKER_INIT_PRELOAD="none") as running:
        assert running.run(running.tasks.imported, ["airflow.dag_processing.dagbag"]) == [True]


def test_a_worker_can_preload_and_have_no_driver_host(worker: StartWorker) -> None:
    settings = {"TEST_HOOKS": "worker_init.preload_hooks", "WORKER_INIT_PRELOAD": "nowhere.to_be_found"}
    with worker("-c", "1", **settings) as running:
        wait_until(lambda: "WORKER_INIT_PRELOAD: nowhere.to_be_found cannot be imported" in running.log, "it is said")
        assert running.run(running.tasks.imported, ["airflow.dag_processing.dagbag"]) == [False]
        assert running.run(running.tasks.forked, [1])[0]["uri"] is None
        assert not find_folders(running.folder)


def test_without_an_upstream_the_worker_works_as_before(worker: StartWorker) -> None:
    with worker("-c", "1", NEO4J_URI="") as running:
        assert running.stats() == {"state": "off"}
        assert running.log.count("tasks connect by themselves") == 1


def change_the_drivers_inside(folder: Path) -> None:
    """Let a host that is started from now on find a driver such as does not exist yet."""
    (folder / "sitecustomize.py").write_text(
        "import sys\nif 'worker_init.host_process' in sys.orig_argv:\n"
        "    import neo4j._deadline as inside\n    del inside.Deadline\n")


def test_where_no_other_host_can_serve_clients_are_refused_and_do_not_wait(worker: StartWorker,
                                                                         tmp_path: Path) -> None:
    with worker("-c", "1", PYTHONPATH=f"{tmp_path}:{CHECKOUT}") as running:
        before = running.stats()
        host, port = before["drivers"][0]["address"].split(":")
        change_the_drivers_inside(tmp_path)
        os.kill(before["pid"], signal.SIGKILL)
        wait_until(lambda: running.stats()["state"] == "off", "the worker has given up")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)))
        assert "cannot be shared" in running.stats()["last_error"]
        assert running.log.count("restart the worker") == 1


def test_a_driver_with_another_inside_is_said_once_and_left_alone(worker: StartWorker, tmp_path: Path) -> None:
    change_the_drivers_inside(tmp_path)
    with worker("-c", "1", PYTHONPATH=f"{tmp_path}:{CHECKOUT}") as running:
        assert running.log.count("cannot be shared") == 1
        assert running.run(running.tasks.forked, [1])[0]["value"] == "1"
        assert running.stats() == {"state": "off"}


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_pools_without_processes_share_one_driver(worker: StartWorker, pool: str) -> None:
    with worker("-P", pool, "-c", "2") as running:
        results = running.run(running.tasks.plain, list(range(10)))
        assert [result["value"] for result in results] == list(range(10))
        assert len({result["uri"] for result in results} - {None}) == 1


def test_green_threads_are_left_alone_which_is_said_once(worker: StartWorker) -> None:
    pytest.importorskip("gevent", reason="gevent is not installed")
    with worker("-P", "gevent", "-c", "2") as running:
        assert running.said().count("the pool celery.concurrency.gevent.TaskPool is not supported") == 1
        results = running.run(running.tasks.plain, list(range(4)))
        assert [(result["value"], result["uri"]) for result in results] == [(number, None) for number in range(4)]


@pytest.mark.parametrize(("uri", "said"), [
    ("http://127.0.0.1:7474", "NEO4J_URI begins with none of bolt://"),             # seen by the worker
    ("neo4j://127.0.0.1?a=1&a=2", "the upstream neo4j://127.0.0.1?a=1&a=2 cannot")])    # by the driver
def test_an_upstream_that_cannot_be_one_is_said_once(uri: str, said: str, worker: StartWorker) -> None:
    with worker("-c", "1", NEO4J_URI=uri) as running:
        assert running.stats() == {"state": "off"}
        assert running.said().count(f"tasks connect by themselves: {said}") == 1
        assert running.tasks.environment.delay().get(timeout=LIMIT).get("NEO4J_WORKER_URI") is None


def test_airflows_connections_lead_to_the_driver(worker: StartWorker, server: Neo4jServer) -> None:
    extra = {"certs_self_signed": True, "other": 1}
    connection = {"conn_type": "neo4j", "host": "127.0.0.1", "port": server.port, "login": server.username,
                  "password": server.password, "schema": "neo4j", "extra": extra}
    with worker("-c", "1", AIRFLOW_CONN_NEO4J_DEFAULT=json.dumps(connection)) as running:
        seen = running.tasks.environment.delay().get(timeout=LIMIT)
        exported = json.loads(seen["AIRFLOW_CONN_NEO4J_DEFAULT"])
        assert exported["extra"] == {"other": 1}
        assert exported["schema"] == "neo4j"
        assert exported["password"] != server.password
        # Another scheme is another upstream, so it has an address of its own.
        assert seen["NEO4J_WORKER_URI"] != f"bolt://127.0.0.1:{exported['port']}"


def test_no_password_shows_in_a_worker(worker: StartWorker, server: Neo4jServer) -> None:
    with worker("-c", "1") as running:
        running.run(running.tasks.plain, [1])
        stats = running.stats()
        shown = json.dumps(stats) + running.said() + Path(f"/proc/{stats['pid']}/cmdline").read_text()
        assert server.password not in shown


def test_forked_tasks_with_recycled_connections(worker: StartWorker) -> None:
    """Connections are replaced all the time, hosts are not; 20,000 of these are the benchmark's business."""
    with worker("-c", "4", WORKER_INIT_MAX_LIFETIME="0.05") as running:
        results = running.run(running.tasks.forked, list(range(500)))
        assert [result["value"] for result in results] == [str(number) for number in range(500)]
        stats = running.stats()
        assert opened(stats) > 4 * 3    # connections were replaced meanwhile, the host was not
        assert stats["restarts"] == 0
