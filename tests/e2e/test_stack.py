"""A running stack: what serves, who may see what, the DAGs on both executors, and the switch between these."""

import json
import os
import re
import signal
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import httpx
import neo4j
import psutil
import pytest
from neo4j.exceptions import AuthError

from patterns.facts import EXECUTORS
from rig.airflow_api import AirflowApi
from rig.records import DagRunRecord
from rig.stack import ports
from testing.alive import is_alive
from testing.waiting import eventually
from tests.e2e.conftest import listening
from tests.e2e.rig_command import Result, Rig, Running

pytestmark = pytest.mark.stack

ALWAYS = {"neo4j", "postgres", "redis", "airflow-apiserver", "airflow-dag-processor", "airflow-scheduler"}
CELERY_ONLY = {"airflow-worker", "flower"}
SMALL = {"tasks": 3, "calls": 2, "hold": 0.5}
LONG = {"tasks": 2, "calls": 1, "hold": 25}      # on a busy machine, `rig` needs up to ten seconds to start

# The seed's README, "Expected logs": to the letter.
PROBLEMATIC_LINES = ("🍌 DEBUG: about to create NEW driver for alias 'root' (THIS IS THE PROBLEM!)🍌🍌🍌",
                     "🍌 Problematic: created new driver for alias 'root'")
IMPROVED_LINE = "🍌 Improved: reusing existing sync driver for root"


@dataclass(frozen=True)
class Services:
    """What ``rig status --json`` says at one moment."""

    executor: str
    services: dict[str, dict[str, Any]]

    @classmethod
    def of(cls, stack: Rig) -> "Services":
        shown = json.loads(stack.run("status", "--json").require().out)
        return cls(shown["executor"], shown["services"])

    def pid(self, name: str) -> int:
        return int(self.services[name]["pid"])


@dataclass(frozen=True)
class DagRun:
    """A DAG run that ``rig dag`` has made, and what Airflow knows of it."""

    api: AirflowApi
    dag_id: str
    result: Result

    @property
    def run_id(self) -> str:
        found = re.search(r"run (\S+), on", self.result.out)
        assert found, self.result.out
        return found[1]

    @property
    def executor(self) -> str:
        return self.result.out.split(", on ")[1].split()[0]

    @cached_property
    def tasks(self) -> list[dict[str, Any]]:
        return [task for task in self.api.task_instances(self.dag_id, self.run_id, "query") if task["map_index"] >= 0]

    @cached_property
    def rows(self) -> list[Any]:
        return self.api.returned(self.dag_id, self.run_id, "query", [task["map_index"] for task in self.tasks])

    def log(self, task_id: str, map_index: int = -1) -> list[str]:
        """Return the messages in the task's log, as Airflow's page shows them."""
        path = f"/api/v2/dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances/{task_id}/logs/1"
        lines = self.api._send("GET", path, params={"map_index": map_index, "full_content": "true"})["content"]
        return [line if isinstance(line, str) else line["event"] for line in lines]


@pytest.fixture(scope="module")
def api(stack: Rig) -> Iterator[AirflowApi]:
    with stack.api() as made:
        yield made


# --- what serves -----------------------------------------------------------------------------------------------------


def test_every_service_says_its_pid_and_that_it_serves(stack: Rig) -> None:
    shown = Services.of(stack)
    assert shown.executor == "LocalExecutor"
    assert set(shown.services) == ALWAYS
    for name, service in shown.services.items():
        assert service["healthy"], (name, service["problem"])
        assert psutil.pid_exists(service["pid"])
    assert shown.services["airflow-apiserver"]["url"].startswith("http://127.0.0.1:")
    assert shown.services["neo4j"]["url"].startswith("bolt://127.0.0.1:")


def test_the_login_that_status_shows_opens_airflow(stack: Rig) -> None:
    shown = stack.run("status").require().out
    found = re.search(r"Airflow: (\S+)  user (\S+), password (\S+)", shown)
    assert found, shown
    url, user, password = found.groups()
    token = httpx.post(f"{url}/auth/token", json={"username": user, "password": password}, trust_env=False)
    token.raise_for_status()
    me = httpx.get(f"{url}/api/v2/dags", headers={"Authorization": f"Bearer {token.json()['access_token']}"},
                   trust_env=False)
    assert me.json()["total_entries"] == 6
    assert all(dag["is_paused"] for dag in me.json()["dags"])
    refused = httpx.post(f"{url}/auth/token", json={"username": user, "password": "guess"}, trust_env=False)
    assert refused.status_code == 401


def test_the_login_that_status_shows_opens_neo4j_and_no_other_does(stack: Rig) -> None:
    found = re.search(r"Neo4j: +(\S+)  user (\S+), password (\S+)", stack.run("status").require().out)
    assert found
    uri, user, password = found.groups()
    with neo4j.GraphDatabase.driver(uri, auth=(user, password)) as driver:
        assert driver.execute_query("RETURN 1 AS one").records[0]["one"] == 1
    with neo4j.GraphDatabase.driver(uri, auth=(user, "neo4j")) as driver, pytest.raises(AuthError):
        driver.verify_connectivity()


def test_the_pool_of_the_stress_dag_has_room_for_what_runs_and_what_waits(api: AirflowApi) -> None:
    assert api._send("GET", "/api/v2/pools/neo4j_stress_test")["slots"] == 8


def test_the_log_of_a_service_can_be_read(stack: Rig) -> None:
    assert len(stack.run("logs", "airflow-scheduler", "-n", "3").require().out.splitlines()) == 3


def test_the_log_of_a_service_that_is_none_names_those_there_are(stack: Rig) -> None:
    stack.run("logs", "mysql").require_one_line("'mysql'", "airflow-scheduler", "neo4j")


def test_everything_listens_on_the_loopback_interface_only(stack: Rig) -> None:
    _require_loopback_only(stack)


def _require_loopback_only(stack: Rig) -> None:
    """Ask the kernel for every socket of every process of the stack: where it listens, and whom it speaks to."""
    ours = {process.pid for process in stack.processes()}
    sockets = [each for each in psutil.net_connections("inet") if each.pid in ours]
    listen = {each.laddr.port for each in sockets if each.laddr and each.status == psutil.CONN_LISTEN}
    assert listen >= {stack.state().ports[name] for name in ("airflow", "neo4j", "postgres", "redis")}
    places = {place.ip.removeprefix("::ffff:") for each in sockets for place in (each.laddr, each.raddr) if place}
    assert places <= {"127.0.0.1", "::1"}, sockets


def test_a_second_stack_beside_it_is_refused_in_one_line(stack: Rig) -> None:
    before = Services.of(stack)
    stack.run("up").require_one_line("a stack is running here already", "`rig down`")
    assert Services.of(stack) == before


# --- DAGs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("conf", "said"), [
    ({"tasks": 0}, "0 is less than the minimum of 1"), ({"driver": "x"}, "'x' is not one of ['sync', 'async']"),
    ({"calls": "many"}, "'many' is not of type 'integer'"), ({"hold": -1}, "-1 is less than the minimum of 0")])
def test_a_parameter_that_a_dag_refuses_is_said_in_one_line(stack: Rig, conf: dict[str, Any], said: str) -> None:
    stack.run("dag", "neo4j_stress_test", "--conf", json.dumps(conf)).require_one_line("neo4j_stress_test", said)


def test_a_dag_that_is_not_there_names_those_there_are(stack: Rig) -> None:
    stack.run("dag", "neo4j_missing_pattern").require_one_line("'neo4j_missing_pattern'", "neo4j_stress_test")


def _all_dags(stack: Rig, api: AirflowApi) -> dict[str, DagRun]:
    """Run the four DAGs beside each other, to their ends."""
    confs: dict[str, dict[str, Any]] = {
        "neo4j_problematic_pattern": SMALL, "neo4j_improved_pattern": SMALL, "neo4j_connection_monitor": {},
        "neo4j_stress_test": {**SMALL, "tasks": 4, "driver": "async", "patterns": ["problematic", "improved"]}}
    started = {dag_id: stack.start("dag", dag_id, "--conf", json.dumps(conf)) for dag_id, conf in confs.items()}
    return {dag_id: DagRun(api, dag_id, running.end()) for dag_id, running in started.items()}


@pytest.fixture(scope="module")
def dags_on_local(stack: Rig, api: AirflowApi) -> dict[str, DagRun]:
    return _all_dags(stack, api)


@pytest.fixture(scope="module")
def dags_on_celery(stack: Rig, api: AirflowApi, on_celery: "Switched") -> dict[str, DagRun]:
    return _all_dags(stack, api)


@pytest.fixture(scope="module", params=EXECUTORS)
def dags(request: pytest.FixtureRequest) -> dict[str, DagRun]:
    name = "dags_on_local" if request.param == "LocalExecutor" else "dags_on_celery"
    made: dict[str, DagRun] = request.getfixturevalue(name)
    assert {run.executor for run in made.values()} == {request.param}
    return made


@pytest.mark.parametrize("dag_id", ["neo4j_problematic_pattern", "neo4j_improved_pattern", "neo4j_stress_test",
                                    "neo4j_connection_monitor"])
def test_a_dag_succeeds_with_all_its_tasks(dags: dict[str, DagRun], dag_id: str) -> None:
    run = dags[dag_id]
    run.result.require()
    assert "success after" in run.result.out
    assert {task["state"] for task in run.tasks} <= {"success"}
    assert len(run.tasks) == {"neo4j_stress_test": 4, "neo4j_connection_monitor": 0}.get(dag_id, 3)


@pytest.mark.parametrize("pattern", ["problematic", "improved"])
def test_every_task_returns_its_row_and_no_answer_is_wrong(dags: dict[str, DagRun], pattern: str) -> None:
    rows = dags[f"neo4j_{pattern}_pattern"].rows
    assert [(row["pattern"], row["driver"], row["calls"], row["wrong"], row["map_index"]) for row in rows] == [
        (pattern, "sync", 2, 0, index) for index in range(3)]
    assert {row["drivers_created"] for row in rows} == {2 if pattern == "problematic" else 1}
    assert len({row["pid"] for row in rows}) == 3, "every task is a process of its own"


def test_the_patterns_of_the_stress_dag_alternate_task_by_task(dags: dict[str, DagRun]) -> None:
    rows = dags["neo4j_stress_test"].rows
    assert [row["pattern"] for row in rows] == ["problematic", "improved"] * 2
    assert [(row["driver"], row["wrong"], row["drivers_created"]) for row in rows] == [
        ("async", 0, 2), ("async", 0, 1)] * 2


def test_the_problematic_pattern_logs_the_lines_of_the_seed(dags: dict[str, DagRun]) -> None:
    log = dags["neo4j_problematic_pattern"].log("query", 0)
    assert [line for line in log if "🍌" in line] == list(PROBLEMATIC_LINES) * 2


def test_the_improved_pattern_logs_the_line_of_the_seed(dags: dict[str, DagRun]) -> None:
    log = dags["neo4j_improved_pattern"].log("query", 0)
    assert log.count(IMPROVED_LINE) == 1


def test_the_monitor_logs_and_returns_what_the_server_has_open(dags: dict[str, DagRun]) -> None:
    run = dags["neo4j_connection_monitor"]
    assert any(line.startswith("🍌 Monitor: ") for line in run.log("monitor"))
    (summary,) = run.api.returned(run.dag_id, run.run_id, "monitor", [-1])
    assert summary["schema"] == 1
    assert summary["open"] == summary["idle"] + summary["running"]


# --- switching -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Switched:
    """A switch refused during the DAG run ``monitored`` sees, then asked to wait for another one, ``dag_run``."""

    before: Services
    after: Services
    runs_before: set[str]
    runs_after: set[str]
    refused: Result
    monitored: DagRun
    seen: DagRun
    drained: Result
    dag_run: DagRun


def _dag_runs(api: AirflowApi) -> set[str]:
    return {run["dag_run_id"] for run in api._pages("/api/v2/dags/~/dagRuns", "dag_runs")}


@pytest.fixture(scope="module")
def on_celery(stack: Rig, api: AirflowApi, dags_on_local: dict[str, DagRun]) -> Switched:
    before, runs_before = Services.of(stack), _dag_runs(api)
    busy = _start_long_dag_run(stack)
    monitored = DagRun(api, "neo4j_connection_monitor", stack.run("dag", "neo4j_connection_monitor"))
    seen = DagRun(api, "neo4j_stress_test", busy.end())
    busy = _start_long_dag_run(stack)   # another one: on a busy machine the first may have ended by now
    refused = stack.run("switch", "celery")
    drained = stack.run("switch", "celery", "--drain")
    dag_run = DagRun(api, "neo4j_stress_test", busy.end())
    return Switched(before, Services.of(stack), runs_before, _dag_runs(api), refused, monitored, seen, drained, dag_run)


def _start_long_dag_run(stack: Rig) -> Running:
    started = stack.start("dag", "neo4j_stress_test", "--conf", json.dumps(LONG))
    started.wait_for("running 2")
    return started


def test_a_switch_with_a_dag_run_in_progress_is_refused(on_celery: Switched) -> None:
    on_celery.refused.require_one_line("neo4j_stress_test/manual__", "--drain")


def test_the_dag_run_in_progress_goes_on_unharmed(on_celery: Switched) -> None:
    on_celery.dag_run.result.require()
    assert on_celery.dag_run.executor == "LocalExecutor"
    assert [(task["state"], task["try_number"]) for task in on_celery.dag_run.tasks] == [("success", 1)] * 2
    assert [row["wrong"] for row in on_celery.dag_run.rows] == [0, 0]


def test_the_monitor_says_which_drivers_the_worker_processes_hold(on_celery: Switched) -> None:
    on_celery.monitored.result.require()
    (summary,) = on_celery.monitored.api.returned("neo4j_connection_monitor", on_celery.monitored.run_id,
                                                  "monitor", [-1])
    seen = {(row["task"], row["pattern"], row["client"]) for worker in summary["workers"] for row in worker["drivers"]}
    assert seen == {(row["pid"], "problematic", "127.0.0.1") for row in on_celery.seen.rows}


def test_draining_waits_for_the_dag_run_and_then_switches(on_celery: Switched) -> None:
    assert "waiting for neo4j_stress_test/" in on_celery.drained.require().out
    assert on_celery.after.executor == "CeleryExecutor"


def test_the_switch_brings_worker_and_flower_and_a_new_scheduler(on_celery: Switched) -> None:
    assert set(on_celery.after.services) == ALWAYS | CELERY_ONLY
    assert all(service["healthy"] for service in on_celery.after.services.values())
    assert on_celery.after.pid("airflow-scheduler") != on_celery.before.pid("airflow-scheduler")


def test_the_switch_leaves_api_server_metadata_and_neo4j_alone(on_celery: Switched) -> None:
    for name in ALWAYS - {"airflow-scheduler"}:
        assert on_celery.after.pid(name) == on_celery.before.pid(name), name
    assert on_celery.runs_before < on_celery.runs_after


def test_switching_to_the_same_executor_changes_nothing(stack: Rig, on_celery: Switched) -> None:
    stack.run("switch", "celery").require()
    assert Services.of(stack) == on_celery.after


def test_the_login_that_status_shows_opens_flower_which_lists_the_worker_with_its_processes(
        stack: Rig, dags_on_celery: dict[str, DagRun]) -> None:
    found = re.search(r"Flower: +(\S+)  user (\S+), password (\S+)", stack.run("status").require().out)
    assert found
    url, user, password = found.groups()
    assert httpx.get(f"{url}/api/workers", trust_env=False).status_code == 401
    answer = httpx.get(f"{url}/api/workers", params={"refresh": "1"}, auth=(user, password), timeout=30,
                       trust_env=False)
    answer.raise_for_status()
    (worker,) = answer.json().values()
    pool = worker["stats"]["pool"]
    assert pool["max-concurrency"] == 4
    assert len(pool["processes"]) == 4
    parents = {row["parent_pid"] for run in dags_on_celery.values() for row in run.rows}
    assert parents <= set(pool["processes"]), "the tasks ran in the worker's own processes"


# --- who may see what ------------------------------------------------------------------------------------------------


def test_everything_listens_on_the_loopback_interface_only_on_celery_too(stack: Rig, on_celery: Switched) -> None:
    _require_loopback_only(stack)


def test_only_the_owner_can_read_the_state_and_the_logs(stack: Rig, on_celery: Switched) -> None:
    assert stat.S_IMODE(stack.stack_dir.stat().st_mode) == 0o700
    for name in ("state.json", "airflow/passwords.json", "redis/redis.conf", "neo4j/conf/neo4j.conf",
                 *(f"logs/{path.name}" for path in (stack.stack_dir / "logs").iterdir())):
        assert stat.S_IMODE((stack.stack_dir / name).stat().st_mode) == 0o600, name


def test_no_password_is_in_a_command_line_or_a_log(
        stack: Rig, dags_on_celery: dict[str, DagRun], on_celery: Switched) -> None:
    passwords = [value.encode() for value in stack.state().secrets.model_dump(mode="json").values()]
    texts = {str(path): path.read_bytes() for path in stack.stack_dir.rglob("*.log")}
    assert len(texts) > 10
    texts |= {f"process {process.pid}": " ".join(process.info["cmdline"] or []).encode()
              for process in psutil.process_iter(["cmdline"])}
    texts |= {"status --json": stack.run("status", "--json").require().out.encode()}
    for where, text in texts.items():
        assert not any(password in text for password in passwords), where


# --- back again ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def back_on_local(stack: Rig, dags_on_celery: dict[str, DagRun]) -> Services:
    # An earlier test has started the monitor, which has a schedule.
    stack.run("switch", "local", "--drain").require()
    return Services.of(stack)


def test_switching_back_takes_worker_and_flower_away(
        stack: Rig, on_celery: Switched, back_on_local: Services) -> None:
    assert (back_on_local.executor, set(back_on_local.services)) == ("LocalExecutor", ALWAYS)
    for name in CELERY_ONLY:
        assert not psutil.pid_exists(on_celery.after.pid(name)), name
    eventually(lambda: stack.state().ports["flower"] not in listening(), limit=5)


def test_switching_back_keeps_the_api_server_and_the_history(
        api: AirflowApi, on_celery: Switched, dags_on_celery: dict[str, DagRun], back_on_local: Services) -> None:
    assert back_on_local.pid("airflow-apiserver") == on_celery.before.pid("airflow-apiserver")
    assert {run.run_id for run in dags_on_celery.values()} <= _dag_runs(api)


# --- faults: a comparison on the stack that is up, while its services fail -------------------------------------------


@dataclass(frozen=True)
class Faulty:
    """A comparison of four DAG runs: in all but the last one something was made to fail."""

    result: Result
    records: list[DagRunRecord]
    summary: dict[str, Any]
    before: Services
    after: Services


def _fail_service(stack: Rig, name: str, sign: signal.Signals) -> None:
    """Let the DAG run in progress come to its tasks, then send the signal to a service."""
    with stack.api() as api:
        eventually(lambda: any(api.task_counts(*run.split("/", 1))["success"] for run in api.active_runs()), limit=120)
    os.kill(stack.state().services[name].process.pid, sign)


@pytest.fixture(scope="module")
def faulty(stack: Rig, back_on_local: Services) -> Faulty:
    running = stack.start("compare", "--profile", "quick", "--executors", "local", "--repeats", "2", "--tasks", "4",
                          "--patterns", "problematic,improved", "--hold", "3", "--calls", "2", RIG_RUN_TIMEOUT="40")
    faults = [("airflow-scheduler", signal.SIGKILL), ("neo4j", signal.SIGKILL), ("airflow-scheduler", signal.SIGSTOP)]
    for number, (name, sign) in enumerate(faults, 1):
        running.wait_for(f"{number} of 4: ")
        _fail_service(stack, name, sign)
    result = running.end()
    return Faulty(result, stack.dag_runs(), json.loads((stack.runs()[-1] / "summary.json").read_text("utf-8")),
                  back_on_local, Services.of(stack))


def test_a_comparison_in_which_something_failed_ends_with_1_and_writes_its_report(stack: Rig, faulty: Faulty) -> None:
    assert faulty.result.code == 1, faulty.result
    (line,) = faulty.result.err.strip().splitlines()
    assert line.startswith("rig: DAG runs that did not succeed: 2 error, 1 hung")
    assert "report.html" in faulty.result.out
    assert faulty.summary["status"] == "complete"
    assert (stack.runs()[-1] / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize(("index", "name"), [(0, "airflow-scheduler"), (1, "neo4j")])
def test_a_service_that_dies_is_named_with_its_log_and_what_that_says_of_the_reason(
        stack: Rig, faulty: Faulty, index: int, name: str) -> None:
    record = faulty.records[index]
    assert (record.state, record.opened_exact) == ("error", index == 0), "a Neo4j that was dead has counted nothing"
    assert record.reason is not None
    log = stack.stack_dir / f"logs/{name}.log"
    first, *why = record.reason.splitlines()
    assert first == f"{name} has ended by itself; its log: {log} — `rig down`, then start again"
    assert len(why) <= 5
    text = log.read_text(encoding="utf-8")
    assert all(line in text and "INFO" not in line for line in why), why
    assert f"{name} has ended by itself" in faulty.result.out
    assert name in faulty.summary["dag_runs"][index]["reason"]


def test_a_dag_run_that_hangs_is_recorded_as_hung_with_the_reason(faulty: Faulty) -> None:
    record = faulty.records[2]
    assert record.state == "hung"
    assert record.reason is not None
    assert "had not ended after 40 s" in record.reason
    assert "RIG_RUN_TIMEOUT" in record.reason


def test_the_dag_run_after_the_faults_succeeds_and_is_counted_exactly(faulty: Faulty) -> None:
    assert len(faulty.records) == 4
    record = faulty.records[3]
    cell = faulty.summary["dag_runs"][3]
    assert (record.state, record.opened_exact) == ("success", True)
    assert record.opened == (8 if cell["pattern"] == "problematic" else 4)
    assert (cell["tasks_succeeded"], cell["tasks_wrong"]) == (4, 0)


def test_what_had_failed_was_started_again_and_nothing_of_it_is_left(stack: Rig, faulty: Faulty) -> None:
    assert set(faulty.after.services) == ALWAYS, "the user's own stack stays up"
    assert all(service["healthy"] for service in faulty.after.services.values())
    for name in ("neo4j", "airflow-scheduler"):
        assert faulty.after.pid(name) != faulty.before.pid(name)
    assert faulty.after.pid("airflow-apiserver") == faulty.before.pid("airflow-apiserver")
    known = {None, *(service["pid"] for service in faulty.after.services.values())}
    eventually(lambda: not [process for process in stack.processes() if _session(process) not in known], limit=10)


def _session(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except ProcessLookupError:
        return None


def test_no_password_is_in_the_results(stack: Rig, faulty: Faulty) -> None:
    passwords = [value.encode() for value in stack.state().secrets.model_dump(mode="json").values()]
    files = [path for path in stack.runs()[-1].iterdir() if path.is_file()]
    assert len(files) >= 6
    for path in files:
        assert not any(password in path.read_bytes() for password in passwords), path


# --- last: these break the stack -------------------------------------------------------------------------------------


def test_what_died_and_what_is_stopped_is_told_in_time_from_what_is_only_not_known(stack: Rig, api: AirflowApi) -> None:
    services = stack.state().services
    postmaster = psutil.Process(services["postgres"].process.pid)
    for process in (postmaster, *postmaster.children()):
        process.suspend()
    os.kill(services["redis"].process.pid, signal.SIGKILL)
    eventually(lambda: not is_alive(services["redis"].process.pid), limit=10)
    began = time.monotonic()
    shown = json.loads(stack.run("status", "--json").require(1).out)["services"]
    assert time.monotonic() - began < 15
    problems = {name: service["problem"] for name, service in shown.items()}
    assert problems.pop("redis") == "it has ended by itself"
    assert problems.pop("postgres").startswith("it is stopped; `kill -CONT ")
    assert problems.pop("neo4j") is None
    assert set(problems.values()) == {"not known: postgres does not serve"}, problems
    port = str(ports.choose(0, variable="a test"))
    for command in (("dag", "neo4j_stress_test"), ("switch", "celery"), ("load", "--headless", "--port", port)):
        began = time.monotonic()
        stack.run(*command).require_one_line("redis has ended by itself; its log: ", code=1)
        assert time.monotonic() - began < 15, command
