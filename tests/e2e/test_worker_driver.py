"""The shared driver under the real Airflow: what tasks of both executors open, what is shown, what breaks."""

import json
import os
import re
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest

from rig.airflow_api import AirflowApi
from tests.e2e.rig_command import Result, Rig, a_rig

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
    conf = json.dumps({"tasks": 16, "hold": 2, "calls": 5})
    running = celery.start("dag", "neo4j_worker_pattern", "--conf", conf)
    running.wait_for("running 4")
    os.kill(drivers(celery)["pid"], signal.SIGKILL)
    result = running.end().require()
    assert "16 success" in result.out
    rows = api.returned("neo4j_worker_pattern", run_id_of(result), "query", list(range(16)))
    assert sum(row["wrong"] for row in rows) == 0
    assert drivers(celery)["restarts"] == 1


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
    celery.run("switch", "local", "--relay", "shared").require()
    return celery


def test_local_executor_has_a_driver_host_beside_it(local: Rig) -> None:
    services = json.loads(local.run("status", "--json").require().out)["services"]
    assert services["worker-driver"]["healthy"]
    assert "airflow-worker" not in services


def test_its_tasks_go_through_the_host(local: Rig, api: AirflowApi) -> None:
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
