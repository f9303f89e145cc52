"""Both stacks, run for real: one deployment that is brought up, switched there and back, hurt, and taken down.

The tests stand in the order in which they are run: each leaves the deployment as the next one finds it.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from rig import env_file
from rig.airflow_api import AirflowApi
from rig.settings import PROJECT
from tests.compose.deployment import LOADED_CELERY, LOADED_LOCAL, Deployment
from tests.compose.running import (
    ENDED,
    QUERY,
    Running,
    eventually,
    inspect,
    kill,
    of_project,
    run_all,
    stop,
)

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]

SMALL = {"tasks": 3, "calls": 2, "hold": 0.2}
DAGS: dict[str, dict[str, Any]] = {
    "neo4j_problematic_pattern": SMALL, "neo4j_improved_pattern": SMALL, "neo4j_stress_test": SMALL,
    "neo4j_worker_pattern": SMALL, "neo4j_worker_clients": {}, "neo4j_connection_monitor": {}}
WORKER_DAG = "neo4j_worker_pattern"
CONNECTED = "✅ Neo4j connection successful!"
DRIVER = {"NEO4J_WORKER_ADDRESS": "127.0.0.1:7688"}
SLOTS = 4       # of each worker: the fixture's RIG_SLOTS
PROMISED = {"success", "failed"}


@pytest.fixture(scope="module")
def running(deployment: Deployment) -> Iterator[Running]:
    """Give the deployment, up on LocalExecutor at first; ``down -v`` at the end must leave nothing."""
    made = Running(deployment, LOADED_LOCAL)
    made.compose("up", "-d", "--wait", "--build")
    yield made
    made.files = LOADED_CELERY
    made.compose("--profile", "*", "down", "-v", "--remove-orphans", "--timeout", "20")
    assert {kind: of_project(kind, deployment.name) for kind in ("container", "network", "volume")} \
        == {"container": [], "network": [], "volume": []}


@pytest.fixture
def api(running: Running) -> Iterator[AirflowApi]:
    with running.api() as made:
        yield made


def healthy(*services: str) -> dict[str, str]:
    common = ("postgres", "neo4j", "airflow-apiserver", "airflow-scheduler", "airflow-dag-processor",
              "airflow-triggerer")
    return {**dict.fromkeys((*common, *services), "healthy"), "airflow-init": "exited 0"}


def executor_of(running: Running, service: str) -> str:
    return running.compose("exec", "-T", service, "printenv", "AIRFLOW__CORE__EXECUTOR").strip()


def untouched(running: Running) -> dict[str, tuple[str, str]]:
    """Return which container each service has that no executor concerns, and since when it runs."""
    return {service: (container, str(inspect([container])[0]["State"]["StartedAt"]))
            for service in ("airflow-apiserver", "airflow-dag-processor", "airflow-triggerer", "postgres", "neo4j")
            if (container := running.container(service))}


# --- LocalExecutor -------------------------------------------------------------------------------------------------


def test_up_and_wait_ends_with_every_service_healthy(running: Running) -> None:
    assert running.health() == healthy()


def test_ports_are_open_on_loopback_alone(running: Running) -> None:
    published = [binding for container in running.containers()
                 for bindings in container["NetworkSettings"]["Ports"].values() for binding in bindings or []]
    assert len(published) == 2
    assert {binding["HostIp"] for binding in published} == {"127.0.0.1"}


def test_airflow_runs_as_the_user_of_the_env_file_and_shares_folders_with_it(running: Running) -> None:
    uid = env_file.values(running.deployment.dotenv.read_text())["AIRFLOW_UID"]
    assert running.compose("exec", "-T", "airflow-scheduler", "id", "-u").strip() == uid
    for folder in ("logs", "config", "plugins"):
        assert str((running.deployment.home / folder).stat().st_uid) == uid


def test_the_dags_keep_their_owner(running: Running) -> None:
    dags = running.deployment.home / "dags"
    assert {path.stat().st_uid for path in (dags, *dags.glob("*.py"))} == {running.deployment.home.stat().st_uid}


def test_the_connectivity_check_of_the_manual_succeeds(running: Running) -> None:
    manual = (PROJECT / "docs/operations.md").read_text()
    found = re.search(r'exec airflow-scheduler python3 -c "\n(from neo4j.*?)\n"', manual, re.DOTALL)
    assert found
    assert CONNECTED in running.compose("exec", "-T", "airflow-scheduler", "python3", "-c", found[1])


def test_the_documented_login_opens_airflow_and_no_other_does(api: AirflowApi) -> None:
    assert set(api.dag_ids()) == set(DAGS)
    refused = httpx.post(f"{api.url}/auth/token", json={"username": "airflow", "password": "guess"}, trust_env=False)
    assert refused.status_code == 401


def test_the_dags_succeed_on_local_executor(running: Running, api: AirflowApi) -> None:
    assert executor_of(running, "airflow-scheduler") == "LocalExecutor"
    assert run_all(api, DAGS) == dict.fromkeys(DAGS, "success")


# --- there and back ------------------------------------------------------------------------------------------------


def test_switching_to_celery_keeps_history_and_every_container_but_the_schedulers(running: Running, api: AirflowApi,
                                                                                  ) -> None:
    api._send("POST", "/api/v2/connections", json={"connection_id": "kept", "conn_type": "neo4j", "password": "x"})
    api._send("POST", "/auth/fab/v1/users", json={
        "username": "ann", "first_name": "Ann", "last_name": "Other", "email": "ann@example.org",
        "password": "a-password", "roles": [{"name": "Viewer"}]})
    before, containers = running.counts(), untouched(running)
    assert before.users == 2
    assert before.connections == 1
    assert before.dag_runs >= len(DAGS)
    running.files = LOADED_CELERY
    running.compose("up", "-d", "--wait")
    assert running.health() == healthy("redis", "airflow-worker", "flower")
    assert running.counts() == before
    assert untouched(running) == containers
    assert executor_of(running, "airflow-scheduler") == executor_of(running, "airflow-worker") == "CeleryExecutor"


def test_the_dags_succeed_on_celery_executor(api: AirflowApi) -> None:
    assert run_all(api, DAGS) == dict.fromkeys(DAGS, "success")


def test_flower_asks_for_the_password_and_shows_the_drivers_of_the_worker(running: Running) -> None:
    url = f"http://{running.address('flower', 5555)}"
    assert httpx.get(url, trust_env=False).status_code == 401
    assert httpx.get(f"{url}/healthcheck", trust_env=False).status_code == 200
    drivers = running.drivers()
    assert len(drivers) == 1
    assert {driver["state"] for driver in drivers[0]} <= {"up", "new"}     # new: no task has used it yet
    assert "up" in {driver["state"] for driver in drivers[0]}


def test_every_volume_has_a_name_by_which_down_finds_it(running: Running) -> None:
    mounted = {mount["Name"] for container in running.containers() for mount in container["Mounts"]
               if mount["Type"] == "volume"}
    assert mounted == {f"{running.deployment.name}_{name}" for name in (
        "postgres-db-volume", "neo4j-data", "neo4j-logs", "redis-data")}


# --- workers -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_workers(running: Running) -> Running:
    running.settings["AIRFLOW__CORE__PARALLELISM"] = str(2 * SLOTS)
    running.compose("up", "-d", "--wait", "--scale", "airflow-worker=2")
    return running


def test_the_connections_of_two_workers_are_the_sum_of_their_pool_processes(two_workers: Running, api: AirflowApi,
                                                                            ) -> None:
    run_id = start(api, {"tasks": 8 * SLOTS, "calls": 1, "hold": 1})
    eventually(lambda: ended(api, run_id), 240)
    tasks = [task for task in api.task_instances(WORKER_DAG, run_id, QUERY) if task["map_index"] >= 0]
    assert {task["state"] for task in tasks} == {"success"}
    assert len({task["hostname"] for task in tasks}) == 2
    drivers = [driver for worker in two_workers.drivers() for driver in worker]
    assert len(drivers) == 2 * SLOTS
    opened = sum(driver["connections"]["open"] for driver in drivers)
    assert len(two_workers.open_connections()) == opened <= 2 * SLOTS


def test_a_killed_worker_costs_its_running_tasks_alone_and_no_connection(two_workers: Running, api: AirflowApi,
                                                                         ) -> None:
    run_id = start(api, {"tasks": 100, "calls": 3, "hold": 1})
    eventually(lambda: states(api, run_id).count("success") >= 10, 240)
    victim = two_workers.containers("airflow-worker")[0]
    address = next(iter(victim["NetworkSettings"]["Networks"].values()))["IPAddress"]
    kill(victim["Id"])
    eventually(lambda: address not in {host for _, host in two_workers.open_connections()}, 30)
    eventually(lambda: ended(api, run_id), 600, every=2)
    found = states(api, run_id)
    assert len(found) == 100
    assert set(found) <= PROMISED
    assert found.count("failed") <= SLOTS, "it lost more than it ran"


def test_a_worker_that_is_stopped_lets_its_tasks_end(two_workers: Running, api: AirflowApi) -> None:
    two_workers.compose("up", "-d", "--wait", "--scale", "airflow-worker=1")
    run_id = start(api, {"tasks": SLOTS, "calls": 1, "hold": 15})
    eventually(lambda: states(api, run_id).count("running") == SLOTS, 120)
    stop(two_workers.container("airflow-worker"))
    assert states(api, run_id) == ["success"] * SLOTS
    two_workers.compose("up", "-d", "--wait", "airflow-worker")


def test_locust_drives_the_stress_dag_from_its_container(running: Running) -> None:
    running.compose("--profile", "loadtest", "up", "-d", "--wait", "--build", "locust")
    page = f"http://{running.address('locust', 8089)}"
    form = {"user_count": "1", "spawn_rate": "1", "pattern": "worker", "tasks": "2", "hold": "0", "arrival_rate": "0.5",
            "duration": "4", "unpause": "true"}
    answer = httpx.post(f"{page}/swarm", data=form, trust_env=False).json()
    assert answer["success"], answer
    results = running.deployment.home / "logs" / "loadtest"
    (summary,) = eventually(lambda: [*results.glob("*-load/summary.json")], 180)
    found = json.loads(summary.read_text())
    assert (found["status"], found["broken"]) == ("complete", [])
    assert found["outcome"]["succeeded"] == 2
    running.compose("--profile", "loadtest", "rm", "-sf", "locust")


def start(api: AirflowApi, conf: dict[str, Any]) -> str:
    api.set_paused(WORKER_DAG, False)
    return api.trigger(WORKER_DAG, conf)


def ended(api: AirflowApi, run_id: str) -> bool:
    return api.run_state(WORKER_DAG, run_id) in ENDED


def states(api: AirflowApi, run_id: str) -> list[str]:
    return [task["state"] for task in api.task_instances(WORKER_DAG, run_id, QUERY) if task["map_index"] >= 0]


# --- back ----------------------------------------------------------------------------------------------------------


def test_switching_back_removes_what_only_celery_needs_and_keeps_the_rest(running: Running) -> None:
    running.settings.clear()
    before, containers = running.counts(), untouched(running)
    running.files = LOADED_LOCAL
    running.compose("up", "-d", "--wait", "--remove-orphans")
    assert running.health() == healthy()
    assert running.counts() == before
    assert untouched(running) == containers
    assert executor_of(running, "airflow-scheduler") == "LocalExecutor"


def test_worker_driver_is_what_the_tasks_of_local_executor_share(running: Running, api: AirflowApi) -> None:
    running.settings.update(DRIVER)
    running.compose("--profile", "worker-driver", "up", "-d", "--wait")
    assert running.health() == healthy("worker-driver")
    dags = {name: DAGS[name] for name in ("neo4j_worker_pattern", "neo4j_worker_clients")}
    assert run_all(api, dags) == dict.fromkeys(dags, "success")
    assert len(running.open_connections()) <= SLOTS
    assert {agent.split("/")[0] for agent, _ in running.open_connections()} == {"worker-init"}


# --- bad input, on a deployment that is up --------------------------------------------------------------------------


def test_a_wrong_password_of_another_neo4j_ends_the_start_with_one_line(running: Running) -> None:
    said = init(running, "-e", "NEO4J_IS_ELSEWHERE=yes", "-e", "NEO4J_PASSWORD=wrong-password")
    assert "ERROR!!!: Neo4j at bolt://neo4j:7687 refuses the user 'neo4j'" in said
    assert "fix NEO4J_USERNAME and NEO4J_PASSWORD in .env" in said
    assert "wrong-password" not in said


def test_a_neo4j_that_cannot_be_reached_ends_the_start_with_one_line(running: Running) -> None:
    said = init(running, "-e", "NEO4J_IS_ELSEWHERE=yes", "-e", "NEO4J_URI=bolt://neo4j:7699")
    assert "ERROR!!!: Neo4j at bolt://neo4j:7699 cannot be reached from the containers" in said
    assert "fix NEO4J_URI in .env" in said


def test_dags_that_airflow_may_not_read_end_the_start_with_one_line(running: Running) -> None:
    dags = running.deployment.home / "dags"
    dags.chmod(0o700)
    try:
        said = init(running)
    finally:
        dags.chmod(0o755)
    assert "ERROR!!!: the folder dags cannot be read by user 50000 (AIRFLOW_UID)" in said
    assert "chmod -R a+rX dags" in said


def test_too_little_memory_is_said_and_does_not_stop_the_start(running: Running) -> None:
    getconf = running.deployment.home / "getconf"
    getconf.write_text('#!/bin/sh\ncase $1 in _PHYS_PAGES) echo 500000 ;; *) echo 4096 ;; esac\n')
    getconf.chmod(0o755)
    said = init(running, "-v", f"{getconf}:/usr/local/bin/getconf:ro", code=0)
    assert "WARNING!!!: Not enough memory available for Docker." in said
    assert "At least 4GB of memory required. You have 1953MB." in said


def init(running: Running, *options: str, code: int = 1) -> str:
    result = running.deployment.compose("run", "--rm", "--no-deps", *options, "airflow-init",
                                        files=running.files, settings=running.settings)
    result.require(code)
    return result.out + result.err
