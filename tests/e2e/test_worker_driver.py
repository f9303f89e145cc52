"""The shared driver under the real Airflow: what tasks of both executors open, what is shown, what breaks."""

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import neo4j
import psutil
import pytest

from rig.airflow_api import AirflowApi
from rig.stack import redis
from testing.waiting import eventually
from tests.e2e.rig_command import SLOTS, Result, Rig, a_rig
from worker_init import takes_tasks
from worker_init.control import find_folders, read_status

pytestmark = pytest.mark.stack

CLIENTS = ["driver", "async_driver", "environment", "hook"]


@pytest.fixture(scope="module")
def api(celery: Rig) -> Iterator[AirflowApi]:
    with celery.api() as made:
        yield made


def drivers(rig: Rig) -> dict[str, Any]:
    """Return the one worker's section of what ``rig workers --json`` says."""
    (section,) = json.loads(rig.run("workers", "--json").require().out).values()
    found: dict[str, Any] = section
    return found


class Served(NamedTuple):
    """What a driver host has served since its start, over all drivers."""

    clients: int
    calls: int


def served(folder: Path) -> Served:
    status = read_status(folder, 5.0)
    return Served(sum(driver["clients"]["total"] for driver in status["drivers"]),
                  sum(driver["leases"] for driver in status["drivers"]))


def every_slot_holds(folder: Path, before: Served, calls: int) -> bool:
    """Say whether there is a task in each slot since then, with so many calls behind it."""
    now = served(folder)
    return now.clients - before.clients == SLOTS and now.calls - before.calls == calls * SLOTS


def run_id_of(result: Result) -> str:
    found = re.search(r"run (\S+), on", result.out)
    assert found, result.out
    return found[1]


def answers(api: AirflowApi, result: Result) -> list[dict[str, Any]]:
    """Return what the clients' tasks returned."""
    return [api.returned("neo4j_worker_clients", run_id_of(result), client, [-1])[0] for client in CLIENTS]


def states(api: AirflowApi, result: Result, *tasks: str) -> list[str]:
    return [api.task_instances("neo4j_worker_clients", run_id_of(result), task)[0]["state"] for task in tasks]


# --- CeleryExecutor --------------------------------------------------------------------------------------------------


def test_status_says_by_what_tasks_reach_the_server(celery: Rig) -> None:
    assert "tasks reach Neo4j through shared drivers, scope process" in celery.run("status").require().out
    assert json.loads(celery.run("status", "--json").require().out)["relay"] == "process"


def test_every_client_goes_through_the_worker_with_no_change_to_it(celery: Rig, api: AirflowApi) -> None:
    result = celery.run("dag", "neo4j_worker_clients").require()
    assert states(api, result, *CLIENTS, "operator", "neomodel") == ["success"] * 5 + ["skipped"]
    assert [(one["client"], one["through_worker"]) for one in answers(api, result)] == [
        (client, True) for client in CLIENTS]


@pytest.fixture(scope="module")
def compared(celery: Rig) -> dict[str, dict[str, Any]]:
    """Compare ``worker`` and ``hook`` on the stack that is up; return the cells by what they run."""
    celery.run("compare", "--profile", "quick", "--tasks", "12", "--hold", "0.5", "--executors", "celery",
               "--patterns", "worker,hook", "--relays", "none,process").require()
    summary = json.loads((celery.runs()[-1] / "summary.json").read_text("utf-8"))
    assert all(run["state"] == "success" for run in summary["dag_runs"])
    return {f"{cell['pattern']} {cell['relay']}{' warm' * cell['warm']}": cell for cell in summary["cells"]}


def opened(cell: dict[str, Any]) -> int:
    (count,) = cell["metrics"]["connections_opened"]["raw"]
    assert cell["metrics"]["connections_opened"]["lower_bound"] is False
    return int(count)


def test_tasks_open_a_connection_for_each_pool_process_and_the_next_ones_none(
        compared: dict[str, dict[str, Any]]) -> None:
    cold, warm = compared["worker process"], compared["worker process warm"]
    assert opened(cold) == cold["worker_processes"] <= 4
    assert opened(warm) <= 4 - opened(cold), "a pool process that had run a task opened another connection"
    assert (cold["tasks_succeeded"], warm["tasks_succeeded"], cold["tasks_wrong"]) == (12, 12, 0)


def test_the_stock_hook_opens_one_for_each_task_and_behind_the_relay_one_for_each_process(
        compared: dict[str, dict[str, Any]]) -> None:
    assert opened(compared["hook none"]) == 12
    assert opened(compared["hook process"]) == compared["hook process"]["worker_processes"] <= 4


def test_the_stack_is_as_it_was_before_the_comparison(celery: Rig, compared: dict[str, dict[str, Any]]) -> None:
    state = celery.state()
    assert (state.executor, state.relay) == ("CeleryExecutor", "process")


def test_the_drivers_of_the_worker_are_shown_process_by_process(
        celery: Rig, api: AirflowApi, compared: dict[str, dict[str, Any]]) -> None:
    before = sum(driver["leases"] for driver in drivers(celery)["drivers"])
    result = celery.run("dag", "neo4j_worker_pattern", "--conf", json.dumps({"tasks": 8, "hold": 0})).require()
    rows = api.returned("neo4j_worker_pattern", run_id_of(result), "query", list(range(8)))
    section = drivers(celery)
    busy = {process for driver in section["drivers"] if driver["leases"] for process in driver["processes"]}
    assert {row["parent_pid"] for row in rows} <= busy
    assert sum(driver["leases"] for driver in section["drivers"]) - before == 8 * 3
    assert (section["state"], section["scope"], len(section["drivers"])) == ("serving", "process", 4)
    shown = celery.run("workers").require().out
    assert all(str(pid) in shown for pid in busy)
    assert "serving, scope process" in shown


def test_no_password_is_in_what_is_shown_of_the_workers(celery: Rig) -> None:
    shown = celery.run("workers", "--json").require().out
    local = {value for process in celery.processes() for name, value in _environment(process).items()
             if name == "NEO4J_WORKER_PASSWORD"}
    # A pool process's environment is that of its start, for others to see: its driver's credentials are not in it.
    assert local == set()
    assert not any(secret in shown for secret in celery.state().secrets.model_dump(mode="json").values())


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


def test_a_driver_host_that_is_killed_is_replaced_and_no_task_fails(celery: Rig, api: AirflowApi) -> None:
    (folder,) = find_folders(celery.state().drivers_dir)
    pid, before = read_status(folder, 5.0)["pid"], served(folder)
    running = celery.start("dag", "neo4j_worker_pattern", "--conf", json.dumps({"tasks": 8, "hold": 10, "calls": 5}))
    # A query that is on its way fails with its server, and these tasks ask once: the host is killed while a task in
    # each slot holds its driver, so that no other one can be about to ask.
    eventually(lambda: every_slot_holds(folder, before, 5), what="not every slot has a task that holds its driver")
    os.kill(pid, signal.SIGKILL)
    result = running.end().require()
    assert "8 success" in result.out
    rows = api.returned("neo4j_worker_pattern", run_id_of(result), "query", list(range(8)))
    assert sum(row["wrong"] for row in rows) == 0
    assert drivers(celery)["restarts"] == 1


def test_a_worker_that_answers_and_takes_nothing_is_said_and_restarted(celery: Rig) -> None:
    state = celery.state()
    broker = redis.url(state.ports["redis"], state.secrets.redis.get_secret_value())
    with takes_tasks.app_of(broker, 5) as app:
        app.control.cancel_consumer("default", reply=True)
        assert app.control.ping(timeout=5, limit=1)
    shown = celery.run("status", "--json").require(1)
    services = json.loads(shown.out)["services"]
    assert {name: service["problem"] for name, service in services.items() if not service["healthy"]} == {
        "airflow-worker": "it answers a ping and takes no tasks: it has lost its queues"}
    celery.run("restart", "nobody").require_one_line("no service nobody", "airflow-worker")
    celery.run("restart", "airflow-worker").require()
    celery.run("status").require()


# Connections from wherever they live. Each names the server `localhost`, so that it is no upstream of the environment.


class Connections:
    """Neo4j connections in Airflow's database, made and changed as its web page does."""

    def __init__(self, rig: Rig, api: AirflowApi) -> None:
        state = rig.state()
        self._api = api
        self.port = urlsplit(state.neo4j_uri).port
        self.username, self.password = state.neo4j_username, state.secrets.neo4j.get_secret_value()
        self.uri = f"bolt://localhost:{self.port}"

    def fields(self, connection_id: str, **changes: Any) -> dict[str, Any]:
        return {"connection_id": connection_id, "conn_type": "neo4j", "host": "localhost", "port": self.port,
                "login": self.username, "password": self.password, "extra": json.dumps({"own": 1})} | changes

    def make(self, connection_id: str, **changes: Any) -> None:
        self._api._send("POST", "/api/v2/connections", json=self.fields(connection_id, **changes))

    def change(self, connection_id: str, **changes: Any) -> None:
        self._api._send("PATCH", f"/api/v2/connections/{connection_id}", json=self.fields(connection_id, **changes))

    def delete(self, connection_id: str) -> None:
        self._api._send("DELETE", f"/api/v2/connections/{connection_id}")


@pytest.fixture(scope="module")
def connections(celery: Rig, api: AirflowApi) -> Connections:
    return Connections(celery, api)


def run_hook(rig: Rig, alias: str, tasks: int = 2) -> Result:
    """Run tasks with the stock hook on the connection `neo4j_<alias>`, one query each."""
    return rig.run("dag", "neo4j_stress_test", "--conf", json.dumps(
        {"tasks": tasks, "calls": 1, "hold": 0, "patterns": ["hook"], "alias": alias}), limit=900)


def said(api: AirflowApi, result: Result, index: int = 0) -> str:
    """Return the log of a task."""
    path = f"/api/v2/dags/neo4j_stress_test/dagRuns/{run_id_of(result)}/taskInstances/query/logs/1"
    return json.dumps(api._send("GET", path, params={"map_index": index, "full_content": True}))


def on_demand(rig: Rig, connections: Connections) -> list[dict[str, Any]]:
    """Return the shared drivers that were opened because a task has asked."""
    return [driver for driver in drivers(rig)["drivers"] if driver["upstream"] == connections.uri]


def leases(rig: Rig, connections: Connections) -> int:
    return sum(driver["leases"] for driver in on_demand(rig, connections))


def test_the_stock_hook_with_its_connection_in_the_database_opens_one_for_each_process(
        celery: Rig, api: AirflowApi, connections: Connections) -> None:
    connections.make("neo4j_meta")
    result = run_hook(celery, "meta", tasks=24).require()
    rows = api.returned("neo4j_stress_test", run_id_of(result), "query", list(range(24)))
    processes = {row["parent_pid"] for row in rows}
    found = on_demand(celery, connections)
    assert sum(driver["leases"] for driver in found) == 24
    assert sum(driver["connections"]["opened"] for driver in found) == len(processes) <= 4


def test_a_connection_of_a_secrets_backend_is_shared_too(celery: Rig, connections: Connections) -> None:
    before = leases(celery, connections)
    fields = connections.fields("neo4j_files")
    del fields["connection_id"]
    celery.connections_file.write_text(json.dumps({"neo4j_files": fields}), encoding="utf-8")
    run_hook(celery, "files").require()
    assert leases(celery, connections) == before + 2


def test_a_connection_that_is_deleted_is_gone(celery: Rig, api: AirflowApi, connections: Connections) -> None:
    connections.make("neo4j_gone")
    run_hook(celery, "gone").require()
    connections.delete("neo4j_gone")
    result = run_hook(celery, "gone")
    assert result.code != 0
    assert "neo4j_gone` isn't defined" in said(api, result)


def test_a_rotated_password_is_used_by_the_next_task(celery: Rig, connections: Connections) -> None:
    auth = (connections.username, connections.password)
    with neo4j.GraphDatabase.driver(connections.uri, auth=auth) as driver:
        driver.execute_query("CREATE USER rotated SET PASSWORD 'first-password' CHANGE NOT REQUIRED",
                             database_="system")
        connections.make("neo4j_rotated", login="rotated", password="first-password")
        run_hook(celery, "rotated").require()
        driver.execute_query("ALTER USER rotated SET PASSWORD 'second-password'", database_="system")
    connections.change("neo4j_rotated", login="rotated", password="second-password")
    before = {driver["address"] for driver in on_demand(celery, connections)}
    run_hook(celery, "rotated").require()
    opened = [driver for driver in on_demand(celery, connections) if driver["address"] not in before]
    assert sum(driver["leases"] for driver in opened) == 2


def test_a_wrong_password_is_neo4js_own_error_with_the_servers_name(celery: Rig, api: AirflowApi,
                                                                    connections: Connections) -> None:
    connections.make("neo4j_wrong", password="wrong-password")
    result = run_hook(celery, "wrong", tasks=1)
    assert result.code != 0
    log = said(api, result)
    assert "Neo.ClientError.Security.Unauthorized" in log
    assert f"The upstream is {connections.uri}" in log
    assert "wrong-password" not in log


def test_a_denial_of_airflows_stays_a_denial(celery: Rig, api: AirflowApi, connections: Connections) -> None:
    connections.make("neo4j_denied")
    before = len(on_demand(celery, connections))
    result = run_hook(celery, "denied", tasks=1)
    assert result.code != 0
    log = said(api, result)
    assert "AirflowSecretsBackendAccessDenied" in log
    assert "neo4j_denied" in log
    assert len(on_demand(celery, connections)) == before


def test_a_connection_of_another_type_is_untouched(celery: Rig, connections: Connections) -> None:
    connections.make("neo4j_other", conn_type="generic")
    before = leases(celery, connections)
    run_hook(celery, "other").require()
    assert leases(celery, connections) == before


def test_an_existing_deployment_is_measured_as_it_is_and_left_alone(celery: Rig) -> None:
    state, services = celery.state(), celery.run("status", "--json").require().out
    url = f"http://127.0.0.1:{state.ports['airflow']}"
    login = {"username": "airflow", "password": state.secrets.airflow.get_secret_value()}
    token = httpx.post(f"{url}/auth/token", json=login, trust_env=False).raise_for_status().json()["access_token"]
    access = {"RIG_AIRFLOW_TOKEN": token, "NEO4J_URI": state.neo4j_uri, "NEO4J_USERNAME": state.neo4j_username,
              "NEO4J_PASSWORD": state.secrets.neo4j.get_secret_value()}
    with a_rig(settings=access) as visitor:
        visitor.run("compare", "--airflow-url", url, "--executors", "celery", "--relays", "process", "--patterns",
                    "improved,worker", "--profile", "quick", "--tasks", "4", "--hold", "1").require()
        summary = json.loads((visitor.runs()[-1] / "summary.json").read_text("utf-8"))
        assert token not in (visitor.runs()[-1] / "run.json").read_text("utf-8")
        assert visitor.leftovers() == []
    cells = {(cell["pattern"], cell["warm"]): cell for cell in summary["cells"]}
    assert {name: cell["tasks_succeeded"] for name, cell in cells.items()} == {
        ("improved", False): 4, ("worker", False): 4, ("worker", True): 4}
    # Somebody else may use that server: what a sample saw is all that can be said.
    assert all(cell["metrics"]["connections_opened"]["lower_bound"] for cell in cells.values())
    assert cells["improved", False]["metrics"]["connections_opened"]["median"] == 4
    assert celery.run("status", "--json").require().out == services


def test_a_cell_whose_shared_drivers_a_bad_setting_turns_off_fails_with_the_reason(celery: Rig) -> None:
    result = celery.run("compare", "--profile", "quick", "--executors", "celery", "--patterns", "worker", "--relays",
                        "process", "--tasks", "2", "--repeats", "1", WORKER_INIT_MAX_SIZE="abc").require(1)
    assert "the Celery worker has no shared drivers (relay process): WORKER_INIT_MAX_SIZE" in result.out
    assert {(record.state, record.dag_run_id) for record in celery.dag_runs()} == {("error", None)}


# --- LocalExecutor ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def local(celery: Rig) -> Rig:
    """Switch the stack to LocalExecutor, with a driver host beside it."""
    celery.run("switch", "local", "--relay", "shared", "--drain").require()
    return celery


def test_local_executor_has_a_driver_host_beside_it(local: Rig) -> None:
    services = json.loads(local.run("status", "--json").require().out)["services"]
    assert services["worker-driver"]["healthy"]
    assert "airflow-worker" not in services


def test_its_connections_go_through_the_host_from_wherever_they_live(local: Rig, connections: Connections) -> None:
    run_hook(local, "meta", tasks=4).require()
    run_hook(local, "files").require()
    (status,) = [read_status(folder, 5.0) for folder in find_folders(local.state().drivers_dir)]
    (driver,) = [driver for driver in status["drivers"] if driver["upstream"] == connections.uri]
    assert driver["leases"] == 6


def test_its_tasks_go_through_a_host_that_was_killed_and_started_again(
        local: Rig, api: AirflowApi, connections: Connections) -> None:
    (host,) = [read_status(folder, 5.0)["pid"] for folder in find_folders(local.state().drivers_dir)]
    os.kill(host, signal.SIGKILL)
    local.run("restart", "worker-driver").require()     # and not the scheduler
    run_hook(local, "meta").require()
    (status,) = [read_status(folder, 5.0) for folder in find_folders(local.state().drivers_dir)]
    assert status["pid"] != host
    assert [driver["leases"] for driver in status["drivers"] if driver["upstream"] == connections.uri] == [2]
    result = local.run("dag", "neo4j_worker_clients").require()
    assert all(one["through_worker"] for one in answers(api, result))
    assert states(api, result, "operator") == ["success"]


def test_it_has_no_workers_to_show(local: Rig) -> None:
    local.run("workers").require_one_line("LocalExecutor", "`rig switch celery`")


def test_without_a_host_every_client_reaches_the_server_by_itself(local: Rig, api: AirflowApi) -> None:
    local.run("switch", "local").require()
    result = local.run("dag", "neo4j_worker_clients").require()
    assert not any(one["through_worker"] for one in answers(api, result))
    assert "worker-driver" not in json.loads(local.run("status", "--json").require().out)["services"]
