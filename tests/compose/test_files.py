"""The compose files as compose reads them, compared with Airflow's own. Nothing is started."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from airflow.api_fastapi.core_api.datamodels.monitor import (
    BaseInfoResponse,
    DagProcessorInfoResponse,
    HealthInfoResponse,
    SchedulerInfoResponse,
    TriggererInfoResponse,
)

from rig.settings import PROJECT
from tests.compose.deployment import CELERY, LOCAL, Deployment
from tests.compose.official import SERVICES
from worker_init.settings import PREFIX, VARIABLES
from worker_init.targets import parse_connection

EXECUTOR = "AIRFLOW__CORE__EXECUTOR"
RUNS_TASKS = {"airflow-scheduler", "airflow-worker", "flower"}
AIRFLOW = {name for name, service in SERVICES.items() if name.startswith("airflow-") or name == "flower"}
ANY_EXECUTOR = ("airflow-apiserver", "airflow-dag-processor", "airflow-triggerer", "postgres", "neo4j")
CHEAPER = {"airflow-scheduler", "airflow-dag-processor", "airflow-triggerer", "airflow-worker"}
SECRETS = {"AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET", "NEO4J_PASSWORD", "FLOWER_PASSWORD"}
MAY_BE_EMPTY = {"AIRFLOW_CONN_NEO4J_DEFAULT", "_PIP_ADDITIONAL_REQUIREMENTS", "NEO4J_WORKER_URI", "NEO4J_IS_ELSEWHERE"}

PASSWORD = 'p@ss/w#rd%41"\\'

Services = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def local(compose_files: Deployment) -> Services:
    services: Services = compose_files.config(LOCAL)["services"]
    return services


@pytest.fixture(scope="module")
def celery(compose_files: Deployment) -> Services:
    services: Services = compose_files.config(CELERY)["services"]
    return services


def waits_for(service: dict[str, Any]) -> dict[str, str]:
    return {name: rule["condition"] for name, rule in service.get("depends_on", {}).items()}


# --- against Airflow's own -----------------------------------------------------------------------------------------


def test_the_overlay_has_every_service_of_the_official_topology_and_neo4j(celery: Services) -> None:
    assert set(celery) == set(SERVICES) | {"neo4j"}


def test_local_has_the_same_services_but_celerys(local: Services) -> None:
    assert set(local) == (set(SERVICES) | {"neo4j"}) - {"redis", "airflow-worker", "flower"}


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"redis"}))
def test_commands_are_the_official_ones(celery: Services, name: str) -> None:
    assert (celery[name].get("command") or None) == SERVICES[name].command


@pytest.mark.parametrize("name", sorted(set(SERVICES) - CHEAPER))
def test_health_is_asked_as_the_official_file_asks_it(celery: Services, name: str) -> None:
    assert celery[name].get("healthcheck", {}).get("test") == SERVICES[name].health


@pytest.mark.parametrize("name", sorted(CHEAPER))
def test_no_health_check_starts_all_of_airflow(celery: Services, name: str) -> None:
    """They pile up on a busy machine, until the API server answers too late and is called unhealthy."""
    command = " ".join(celery[name]["healthcheck"]["test"])
    assert not re.search(r"airflow jobs|airflow\.providers", command)


@pytest.mark.parametrize("name", sorted(name for name, service in SERVICES.items() if service.timing))
def test_health_is_asked_as_often_as_officially_and_a_start_may_take_no_less(celery: Services, name: str) -> None:
    ours, official = celery[name]["healthcheck"], SERVICES[name].timing
    assert official
    assert (ours["interval"], ours["retries"]) == (official["interval"], official["retries"])
    assert ours["start_period"] == ("5m0s" if name in AIRFLOW else official["start_period"])


@pytest.mark.parametrize("part", ["dag_processor", "triggerer"])
def test_the_api_servers_answer_is_read_for_what_has_no_port_of_its_own(celery: Services, part: str) -> None:
    fields: dict[str, Any] = {"dag_processor": DagProcessorInfoResponse, "triggerer": TriggererInfoResponse}
    def answer(status: str) -> str:
        health: dict[str, Any] = {name: of.model_validate({"status": status if name == part else "healthy",
                                                           f"latest_{name}_heartbeat": "2026-11-27"})
                                  for name, of in fields.items()}
        return HealthInfoResponse(metadatabase=BaseInfoResponse(status="healthy"), scheduler=SchedulerInfoResponse(
            status="healthy", latest_scheduler_heartbeat=None), **health).model_dump_json()
    _, command = celery[f"airflow-{part.replace('_', '-')}"]["healthcheck"]["test"]
    look = command.split(" | ")[1]
    assert subprocess.run(["sh", "-c", look], input=answer("healthy"), text=True, check=False).returncode == 0
    assert subprocess.run(["sh", "-c", look], input=answer("unhealthy"), text=True, check=False).returncode == 1


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_waits_for_what_the_official_one_waits_for(celery: Services, name: str) -> None:
    assert waits_for(celery[name]) == SERVICES[name].waits_for


@pytest.mark.parametrize("name", sorted(AIRFLOW - {"airflow-init"}))
def test_airflows_services_run_as_the_users_id_and_start_again_by_themselves(celery: Services, name: str) -> None:
    assert celery[name]["user"] == "50000:0"
    assert celery[name]["restart"] == "always"
    assert celery[name]["environment"]["AIRFLOW__CORE__AUTH_MANAGER"].endswith("FabAuthManager")


@pytest.mark.parametrize("name", sorted(AIRFLOW))
def test_dags_logs_config_and_plugins_are_mounted_as_in_the_official_file(celery: Services, name: str) -> None:
    mounted = {mount["target"]: mount["type"] for mount in celery[name]["volumes"]}
    assert mounted == {f"/opt/airflow/{folder}": "bind" for folder in ("dags", "logs", "config", "plugins")}


def test_stores_keep_their_data_in_named_volumes(celery: Services) -> None:
    assert [mount["source"] for mount in celery["postgres"]["volumes"]] == ["postgres-db-volume"]
    assert [mount["source"] for mount in celery["neo4j"]["volumes"]] == ["neo4j-data", "neo4j-logs"]
    assert [mount["source"] for mount in celery["redis"]["volumes"]] == ["redis-data"]


def test_tasks_that_wait_in_redis_outlive_its_restart(celery: Services) -> None:
    assert celery["redis"]["command"] == ["redis-server", "--appendonly", "yes", "--save", ""]


def test_every_service_that_goes_on_has_a_health_check(compose_files: Deployment) -> None:
    services = compose_files.config(CELERY, "worker-driver")["services"]
    assert {name for name, service in services.items() if "healthcheck" not in service} == {"airflow-init"}


# --- what the overlay changes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ANY_EXECUTOR)
def test_the_overlay_leaves_the_other_services_as_they_are(local: Services, celery: Services, name: str) -> None:
    assert local[name] == celery[name]


def test_only_what_runs_tasks_knows_the_executor(local: Services, celery: Services) -> None:
    assert {name: service["environment"].get(EXECUTOR) for name, service in local.items()
            if EXECUTOR in service["environment"]} == {"airflow-scheduler": "LocalExecutor"}
    assert {name: service["environment"][EXECUTOR] for name, service in celery.items()
            if EXECUTOR in service.get("environment", {})} == dict.fromkeys(RUNS_TASKS, "CeleryExecutor")


def test_all_that_speak_to_the_broker_name_the_same_one(celery: Services) -> None:
    for key in ("AIRFLOW__CELERY__BROKER_URL", "AIRFLOW__CELERY__RESULT_BACKEND"):
        assert len({celery[name]["environment"][key] for name in RUNS_TASKS}) == 1


def test_slots_are_the_same_on_both_executors(compose_files: Deployment) -> None:
    slots = {"RIG_SLOTS": "7"}
    worker = compose_files.config(CELERY, **slots)["services"]["airflow-worker"]["environment"]
    scheduler = compose_files.config(LOCAL, **slots)["services"]["airflow-scheduler"]["environment"]
    assert worker["AIRFLOW__CELERY__WORKER_CONCURRENCY"] == "7"
    assert {scheduler[key] for key in ("AIRFLOW__CORE__PARALLELISM", "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG",
                                       "AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY")} == {"7"}


@pytest.mark.parametrize(("given", "expected"), [({}, "32"), ({"RIG_PARALLELISM": "9"}, "9")])
def test_the_scheduler_of_celery_hands_out_more_than_a_worker_runs(given: dict[str, str], expected: str,
                                                                   compose_files: Deployment) -> None:
    services = compose_files.config(CELERY, **given)["services"]
    assert services["airflow-scheduler"]["environment"]["AIRFLOW__CORE__PARALLELISM"] == expected
    assert services["airflow-worker"]["environment"]["AIRFLOW__CELERY__WORKER_CONCURRENCY"] == "16"


def test_more_workers_may_run_more_tasks_than_one(compose_files: Deployment) -> None:
    services = compose_files.config(CELERY, RIG_SLOTS="8", AIRFLOW__CORE__PARALLELISM="16")["services"]
    assert services["airflow-scheduler"]["environment"]["AIRFLOW__CORE__PARALLELISM"] == "16"
    assert services["airflow-worker"]["environment"]["AIRFLOW__CELERY__WORKER_CONCURRENCY"] == "8"


def test_a_worker_stops_warmly_and_loads_worker_init_by_one_setting(celery: Services) -> None:
    worker = celery["airflow-worker"]
    assert worker["environment"]["DUMB_INIT_SETSID"] == "0"
    assert json.loads(worker["environment"]["AIRFLOW__CELERY__EXTRA_CELERY_CONFIG"]) == {
        "imports": ["worker_init.hooks"], "worker_direct": True}
    assert worker["stop_grace_period"] == "10m0s"
    assert "container_name" not in worker, "it could not be scaled"


def test_every_setting_of_worker_init_reaches_the_worker(compose_files: Deployment) -> None:
    names = {PREFIX + variable.name for variable in VARIABLES} - {f"{PREFIX}RUNTIME_DIR"}
    worker = compose_files.config(CELERY, **dict.fromkeys(names, "7"))["services"]["airflow-worker"]["environment"]
    assert {name for name, value in worker.items() if name.startswith(PREFIX) and value == "7"} == names


def test_neo4j_is_given_the_time_that_a_clean_stop_takes(local: Services) -> None:
    assert local["neo4j"]["stop_grace_period"] == "1m0s"


@pytest.mark.parametrize("setting", ["dbms_usage__report", "dbms_fleet__manager", "server_fleet__discovery"])
def test_neo4j_reports_to_nobody_and_announces_itself_nowhere(local: Services, setting: str) -> None:
    assert local["neo4j"]["environment"][f"NEO4J_{setting}_enabled"] == "false"


# --- worker-driver -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("files", "executor", "flower"), [
    (LOCAL, "LocalExecutor", None), (CELERY, "CeleryExecutor", "http://flower:5555")])
def test_locust_is_there_on_request_and_knows_what_it_drives(
        compose_files: Deployment, files: tuple[str, ...], executor: str, flower: str | None) -> None:
    assert "locust" not in compose_files.config(files)["services"]
    locust = compose_files.config(files, "loadtest")["services"]["locust"]
    environment = locust["environment"]
    assert environment["LOADTEST_AIRFLOW_URL"] == "http://airflow-apiserver:8080"
    assert (environment["LOADTEST_EXECUTOR"], environment.get("LOADTEST_FLOWER_URL")) == (executor, flower)
    assert (environment["NEO4J_URI"], environment["LOADTEST_NEO4J_IS_ELSEWHERE"]) == ("bolt://neo4j:7687", "")
    (port,) = locust["ports"]
    assert (port["host_ip"], port["published"], port["target"]) == ("127.0.0.1", "8089", 8089)
    assert locust["healthcheck"]["interval"] == "30s"
    assert not {"command", "entrypoint"} & {name for name, value in locust.items() if value}, "arguments can be read"


def test_on_another_server_locust_does_not_claim_to_be_alone(compose_files: Deployment) -> None:
    locust = compose_files.config(LOCAL, "loadtest", NEO4J_URI="bolt://db:7687")["services"]["locust"]["environment"]
    assert (locust["NEO4J_URI"], locust["LOADTEST_NEO4J_IS_ELSEWHERE"]) == ("bolt://db:7687", "yes")


def test_the_image_of_the_load_test_is_locked_as_the_rest_is() -> None:
    def locked(name: str) -> set[str]:
        return set(re.findall(r"^[a-z0-9._-]+==\S+", (PROJECT / "requirements" / name).read_text(), re.MULTILINE))
    assert locked("loadtest.txt") <= locked("rig.txt")


def test_worker_driver_lives_on_the_loopback_of_the_tasks_and_they_know_its_login(compose_files: Deployment) -> None:
    settings = {"NEO4J_WORKER_ADDRESS": "127.0.0.1:7688"}
    services = compose_files.config(LOCAL, "worker-driver", **settings)["services"]
    host, tasks = services["worker-driver"], services["airflow-scheduler"]["environment"]
    assert host["network_mode"] == "service:airflow-scheduler"
    assert tasks["NEO4J_WORKER_URI"] == f"bolt://127.0.0.1:{host['command'][-1]}"
    for name in ("NEO4J_WORKER_USERNAME", "NEO4J_WORKER_PASSWORD"):
        assert tasks[name] == host["environment"][name]


def test_without_its_setting_the_tasks_are_sent_to_no_driver(local: Services) -> None:
    tasks = local["airflow-scheduler"]["environment"]
    assert tasks["NEO4J_WORKER_URI"] == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may leave a network")
def test_worker_driver_ends_with_its_network_and_not_before(tmp_path: Path) -> None:
    script, ended = PROJECT / "docker" / "while-in-a-network", tmp_path / "ended"
    environment = {"PATH": os.environ["PATH"], "WAIT_FOR_THE_OTHER": "0"}
    assert subprocess.run([script, "sh", "-c", "sleep 1.5; exit 7"], env=environment, check=False).returncode == 7
    assert subprocess.run([script, "--check"], env=environment, check=False).returncode == 0
    alone = ["unshare", "--net", str(script)]        # loopback is all there is
    assert subprocess.run([*alone, "--check"], env=environment, check=False).returncode == 1
    done = subprocess.run([*alone, "sh", "-c", f"trap 'touch {ended}; exit' TERM; while :; do sleep 0.1; done"],
                          env=environment, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert "The network is gone" in done.stderr
    assert ended.exists(), "it was not asked to end"


def test_worker_drivers_health_is_asked_in_the_network_of_the_tasks(compose_files: Deployment) -> None:
    host = compose_files.config(LOCAL, "worker-driver")["services"]["worker-driver"]
    assert "while-in-a-network --check && worker-driver status" in host["healthcheck"]["test"][1]
    assert host["entrypoint"][-2:] == ["while-in-a-network", "worker-driver"]
    assert host["restart"] == "always", "nothing else starts it again in the new network"


# --- neo4j_default -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "uri"), [
    ({"NEO4J_URI": "bolt://neo4j:7687"}, "bolt://neo4j:7687"),
    ({"NEO4J_URI": "neo4j+s://x.databases.neo4j.io"}, "neo4j+s://x.databases.neo4j.io:7687"),
    ({"NEO4J_URI": "bolt+ssc://[fd00::1]:7688"}, "bolt+ssc://[fd00::1]:7688"),
    ({"NEO4J_URI": "neo4j://db", "NEO4J_WORKER_URI": "bolt://127.0.0.1:7688", "NEO4J_WORKER_USERNAME": "ann",
      "NEO4J_WORKER_PASSWORD": PASSWORD}, "bolt://127.0.0.1:7688")])
def test_airflows_connection_is_made_of_the_settings_whatever_the_password_holds(
        given: dict[str, str], uri: str) -> None:
    settings = {"NEO4J_USERNAME": "ann", "NEO4J_PASSWORD": PASSWORD, "NEO4J_DATABASE": "sales", **given}
    parsed = parse_connection(connection_of(settings))
    assert (parsed.target.uri, parsed.login, parsed.password, parsed.schema) == (uri, "ann", PASSWORD, "sales")


def test_a_connection_that_the_user_has_set_stays_as_it_is() -> None:
    assert connection_of({"NEO4J_URI": "bolt://db", "AIRFLOW_CONN_NEO4J_DEFAULT": "neo4j://own"}) == "neo4j://own"


def connection_of(settings: dict[str, str]) -> str:
    """Return the connection that a command finds in a container of these settings."""
    done = subprocess.run([PROJECT / "docker" / "with-neo4j-connection", "sh", "-c",
                           'printf %s "$AIRFLOW_CONN_NEO4J_DEFAULT"'], env={"PATH": os.environ["PATH"], **settings},
                          capture_output=True, text=True, check=True)
    return done.stdout


# --- another Neo4j -------------------------------------------------------------------------------------------------


def test_no_neo4j_is_started_where_another_one_is_named(compose_files: Deployment) -> None:
    services = compose_files.config(CELERY, NEO4J_URI="neo4j+s://x.databases.neo4j.io")["services"]
    assert "neo4j" not in services
    assert services["airflow-worker"]["environment"]["NEO4J_URI"] == "neo4j+s://x.databases.neo4j.io"
    assert services["airflow-init"]["environment"]["NEO4J_IS_ELSEWHERE"] == "yes"


# --- who may reach what --------------------------------------------------------------------------------------------


def test_ports_are_published_on_loopback_alone_and_log_servers_never(celery: Services) -> None:
    published = {name: [(port["host_ip"], port["published"], port["target"]) for port in service["ports"]]
                 for name, service in celery.items() if "ports" in service}
    assert published == {"airflow-apiserver": [("127.0.0.1", "8080", 8080)], "flower": [("127.0.0.1", "5555", 5555)],
                         "neo4j": [("127.0.0.1", "7687", 7687)]}


def test_ports_can_be_others(compose_files: Deployment) -> None:
    services = compose_files.config(CELERY, RIG_AIRFLOW_PORT="18080", RIG_FLOWER_PORT="15555",
                                    RIG_NEO4J_PORT="17687")["services"]
    assert [services[name]["ports"][0]["published"] for name in ("airflow-apiserver", "flower", "neo4j")] \
        == ["18080", "15555", "17687"]


def test_neo4j_stays_on_loopback_whatever_airflow_listens_on(compose_files: Deployment) -> None:
    services = compose_files.config(CELERY, RIG_HOST="10.0.0.1")["services"]
    assert services["airflow-apiserver"]["ports"][0]["host_ip"] == "10.0.0.1"
    assert services["neo4j"]["ports"][0]["host_ip"] == "127.0.0.1"


def test_without_an_env_file_a_deployment_can_be_looked_at_and_taken_down(tmp_path: Path) -> None:
    nothing = Deployment(tmp_path)
    nothing.dotenv.touch()
    for files in (LOCAL, CELERY):
        said = nothing.compose("config", "--quiet", files=files).require().err
        assert said == "", "compose warns of each variable on a line of its own"


@pytest.mark.parametrize("files", [LOCAL, CELERY])
def test_all_secrets_that_are_missing_are_one_line_before_anything_else_starts(
        tmp_path: Path, files: tuple[str, ...]) -> None:
    nothing = Deployment(tmp_path)
    nothing.dotenv.touch()
    services = nothing.config(files)["services"]
    done = subprocess.run([PROJECT / "docker" / "airflow-init"], capture_output=True, text=True, check=False,
                          env={"PATH": os.environ["PATH"], **services["airflow-init"]["environment"]})
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert {name for name in SECRETS if name in line} == SECRETS - ({"FLOWER_PASSWORD"} if files == LOCAL else set())
    assert "run `make env`" in line
    assert {name for name, service in services.items() if "airflow-init" not in waits_for(service)
            and "airflow-apiserver" not in waits_for(service)} == {
        "airflow-init", "postgres", *(["redis"] if files == CELERY else [])}, "they hold no secret of .env"


def test_flower_asks_for_a_password(celery: Services) -> None:
    assert celery["flower"]["environment"]["AIRFLOW__CELERY__FLOWER_BASIC_AUTH"] == "airflow:flower_password"


def test_no_secret_stands_in_the_files() -> None:
    """Whatever is secret comes from .env: no value of it, and no default."""
    for file in (*CELERY, "docker/neo4j.yml"):
        text = (PROJECT / file).read_text()
        assert not re.search(rf"\$\{{({'|'.join(SECRETS)}):?-[^}}]", text), file


# --- the image -----------------------------------------------------------------------------------------------------


def test_the_image_is_built_once_and_used_by_all_of_airflow(celery: Services) -> None:
    assert len({celery[name]["image"] for name in AIRFLOW}) == 1
    assert [name for name, service in celery.items() if "build" in service] == ["airflow-init"]


def test_the_version_of_airflow_is_the_locked_one(celery: Services) -> None:
    locked = re.search(r"^apache-airflow==(\S+)", (PROJECT / "requirements/rig.txt").read_text(), re.MULTILINE)
    assert locked
    assert celery["airflow-init"]["image"] == f"neo4j-airflow-connections:{locked[1]}"
    assert celery["airflow-init"]["build"]["args"]["AIRFLOW_IMAGE_NAME"] == f"apache/airflow:{locked[1]}"
    assert f"ARG AIRFLOW_IMAGE_NAME=apache/airflow:{locked[1]}" in (PROJECT / "docker/Dockerfile").read_text()


@pytest.mark.parametrize("name", ["Dockerfile", "loadtest.Dockerfile"])
def test_what_an_image_copies_is_there_and_let_in(name: str) -> None:
    lines = re.findall(r"^COPY (?!--from)(.*)$", (PROJECT / "docker" / name).read_text(), re.MULTILINE)
    copied = [word for line in lines for word in line.split()[:-1] if not word.startswith("--")]
    let_in = {line.removeprefix("!") for line in (PROJECT / ".dockerignore").read_text().splitlines()}
    assert copied
    assert [path for path in copied if not (PROJECT / path).exists() or path not in let_in] == []


def test_another_version_is_another_image(compose_files: Deployment) -> None:
    services = compose_files.config(LOCAL, AIRFLOW_VERSION="3.4.0")["services"]
    assert services["airflow-scheduler"]["image"].endswith(":3.4.0")
    assert services["airflow-init"]["build"]["args"]["AIRFLOW_IMAGE_NAME"] == "apache/airflow:3.4.0"


def test_packages_for_a_quick_try_are_still_installed_at_start(compose_files: Deployment) -> None:
    services = compose_files.config(CELERY, _PIP_ADDITIONAL_REQUIREMENTS="cowsay==6.1")["services"]
    wanted = {name: services[name]["environment"]["_PIP_ADDITIONAL_REQUIREMENTS"] for name in AIRFLOW}
    assert wanted == {name: "" if name == "airflow-init" else "cowsay==6.1" for name in AIRFLOW}


def test_only_what_may_be_empty_is_empty(celery: Services) -> None:
    # None is a variable that is not there unless .env has it.
    empty = {key for service in celery.values() for key, value in service.get("environment", {}).items() if value == ""}
    assert empty <= MAY_BE_EMPTY
