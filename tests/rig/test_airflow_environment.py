"""Airflow's configuration: equal on both executors, on loopback, and with no password where all can read it."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from patterns.facts import MOST_TASKS
from rig.airflow_api import AirflowApi
from rig.settings import PROJECT, Settings
from rig.stack import airflow, neo4j, postgres, redis, state
from rig.stack.native import AIRFLOW_FIRST, NativeStack
from rig.stack.service import Service
from rig.stack.state import Secrets, StackState
from tests.rig.plain_settings import PlainSettings

EXECUTOR = "AIRFLOW__CORE__EXECUTOR"
PARALLELISM = "AIRFLOW__CORE__PARALLELISM"
PORTS = {"airflow": 18080, "flower": 15555, "postgres": 15432, "redis": 16379, "neo4j": 17687}
# What Airflow itself makes of the environment: misspelt names are unknown to it, and would be ignored in silence.
AIRFLOWS_VIEW = """
import json, os
from airflow.configuration import conf
names = [name.split("__")[1:] for name in os.environ if name.startswith("AIRFLOW__")]
known = {(section, option) for section, it in conf.configuration_description.items() for option in it["options"]}
print(json.dumps({"unknown": [name for name in names if (name[0].lower(), name[1].lower()) not in known],
                  "values": {"__".join(name): conf.get(name[0], name[1]) for name in names}}))
"""


class Deployment(NamedTuple):
    """All that Airflow's services are made from."""

    settings: Settings
    state: StackState
    home: Path

    @property
    def env(self) -> dict[str, str]:
        """Return the configuration that every process of Airflow has."""
        return airflow.environment(self.settings, self.state, self.home)

    def services(self) -> dict[str, Service]:
        """Return every service of the stack."""
        env, folder, secrets = self.env, self.home.parent, self.secrets()
        api = AirflowApi(f"http://127.0.0.1:{PORTS['airflow']}", "airflow", self.state.secrets.airflow)
        made = [
            airflow.migration(env, self.home), airflow.api_server(env, self.home, api),
            airflow.dag_processor(env, self.home, api), airflow.worker(env, self.home, self.state),
            airflow.scheduler({**env, **airflow.of_scheduler(self.settings, self.state)}, self.home, api,
                              self.state.executor, since=0),
            airflow.flower(env, self.home, self.settings, self.state),
            neo4j.service(folder / "neo4j", folder, PORTS["neo4j"], heap="512m", password=secrets["neo4j"], env=env),
            postgres.service(folder / "postgres", None, PORTS["postgres"], secrets["postgres"], env),
            redis.service(folder / "redis", PORTS["redis"], secrets["redis"], env),
        ]
        return {service.name: service for service in made}

    def secrets(self) -> dict[str, str]:
        """Return every password and key by its name."""
        return {name: getattr(self.state.secrets, name).get_secret_value() for name in Secrets.model_fields}

    def on(self, **changes: object) -> "Deployment":
        """Return it with some of its state changed."""
        return self._replace(state=self.state.model_copy(update=changes))


@pytest.fixture(scope="module")
def airflows_view(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what Airflow, asked once, makes of the environment."""
    env = deployment_in(tmp_path_factory.mktemp("view")).env
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", AIRFLOWS_VIEW], capture_output=True, text=True,
                          check=True, env={"PATH": os.environ["PATH"], **env})
    view: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**view, "given": env}


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return deployment_in(tmp_path)


def deployment_in(folder: Path) -> Deployment:
    """Return a deployment as the rig makes one of its defaults."""
    made = StackState(executor="LocalExecutor", slots=16, ports=PORTS, neo4j_uri="bolt://127.0.0.1:17687",
                      neo4j_username="neo4j", neo4j_database="neo4j", own_neo4j=True,
                      temporary=folder / "temporary", secrets=state.random_secrets(airflow=None, neo4j=None))
    return Deployment(PlainSettings(data_dir=folder), made, folder / "airflow")


def test_the_executor_is_not_in_it(deployment: Deployment) -> None:
    assert EXECUTOR not in deployment.env
    assert deployment.env == deployment.on(executor="CeleryExecutor").env


def test_the_executor_is_all_that_differs_between_two_schedulers(deployment: Deployment) -> None:
    local = deployment.services()["airflow-scheduler"]
    celery = deployment.on(executor="CeleryExecutor").services()["airflow-scheduler"]
    assert set(local.env.items()) ^ set(celery.env.items()) == {
        (EXECUTOR, "LocalExecutor"), (PARALLELISM, "16"), (EXECUTOR, "CeleryExecutor"), (PARALLELISM, "32")}
    assert local.command == celery.command
    assert deployment.services()["airflow-worker"].env == {**celery.env, PARALLELISM: "16"}


def test_the_setting_decides_what_the_scheduler_of_celery_hands_out(deployment: Deployment) -> None:
    given = deployment._replace(settings=PlainSettings(data_dir=deployment.home, parallelism=5))
    assert given.on(executor="CeleryExecutor").services()["airflow-scheduler"].env[PARALLELISM] == "5"
    assert given.services()["airflow-scheduler"].env[PARALLELISM] == "16"


@pytest.mark.parametrize("slots", [1, 16, 32, 1000])
def test_slots_are_equal_everywhere_and_nothing_else_is_the_limit(slots: int, deployment: Deployment) -> None:
    env = deployment.on(slots=slots).env
    assert {env[f"AIRFLOW__{name}"] for name in (
        "CORE__PARALLELISM", "CORE__MAX_ACTIVE_TASKS_PER_DAG", "CELERY__WORKER_CONCURRENCY")} == {str(slots)}
    assert int(env["AIRFLOW__CORE__DEFAULT_POOL_TASK_SLOT_COUNT"]) >= slots
    assert int(env["AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY"]) >= slots
    assert int(env["AIRFLOW__CORE__MAX_MAP_LENGTH"]) >= MOST_TASKS


def test_airflow_knows_every_option(airflows_view: dict[str, Any]) -> None:
    assert airflows_view["unknown"] == []


def test_airflow_reads_back_what_was_meant(airflows_view: dict[str, Any]) -> None:
    meant = {name: value for name, value in airflows_view["given"].items() if name != "AIRFLOW_HOME"}
    assert {f"AIRFLOW__{name}": value for name, value in airflows_view["values"].items()} == meant


def test_no_password_is_in_the_arguments_of_any_service(deployment: Deployment) -> None:
    services = deployment.services()
    assert set(AIRFLOW_FIRST) | {"neo4j", "postgres", "redis", "airflow-init"} == set(services)
    arguments = {name: " ".join(map(str, service.command)) for name, service in services.items()}
    assert not [(service, secret) for service, line in arguments.items()
                for secret, value in deployment.secrets().items() if value in line]


def test_no_password_is_in_the_text_or_the_address_of_any_service(deployment: Deployment) -> None:
    texts = [f"{service!r} {service} {service.url}" for service in deployment.services().values()]
    assert not [secret for secret, value in deployment.secrets().items() for text in texts if value in text]


def test_files_with_passwords_are_private(deployment: Deployment) -> None:
    deployment.services()
    airflow.prepare(deployment.home, deployment.settings, deployment.state)
    files = [path for path in deployment.home.parent.rglob("*") if path.is_file()]
    holding = [path for path in files if any(value in path.read_text() for value in deployment.secrets().values())]
    assert {path.name for path in holding} == {airflow.PASSWORDS_FILE, "redis.conf"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in holding} == {0o600}


def test_the_one_user_has_the_stacks_password(deployment: Deployment) -> None:
    airflow.prepare(deployment.home, deployment.settings, deployment.state)
    passwords = json.loads(Path(deployment.env["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"]).read_text())
    assert passwords == {"airflow": deployment.secrets()["airflow"]}
    assert deployment.env["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"] == "airflow:admin"


def test_the_user_can_be_another(deployment: Deployment, tmp_path: Path) -> None:
    named = deployment._replace(settings=PlainSettings(data_dir=tmp_path, airflow_username="ann"))
    airflow.prepare(named.home, named.settings, named.state)
    assert list(json.loads((named.home / airflow.PASSWORDS_FILE).read_text())) == ["ann"]
    assert named.env["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"] == "ann:admin"
    assert named.env["AIRFLOW__CELERY__FLOWER_BASIC_AUTH"] == f"ann:{named.secrets()['flower']}"


def test_everything_is_on_loopback_unless_the_user_says_otherwise(deployment: Deployment, tmp_path: Path) -> None:
    assert deployment.env["AIRFLOW__API__HOST"] == "127.0.0.1"
    flower = deployment.services()["flower"]
    assert flower.command[flower.command.index("--hostname") + 1] == "127.0.0.1"
    opened = deployment._replace(settings=PlainSettings(data_dir=tmp_path, host="0.0.0.0"))    # noqa: S104 - as a user may
    assert opened.env["AIRFLOW__API__HOST"] == "0.0.0.0"    # noqa: S104 - as above
    assert opened.env["AIRFLOW__API__BASE_URL"] == "http://127.0.0.1:18080", "that is where tasks reach it"
    assert opened.services()["flower"].url == "http://127.0.0.1:15555"


def test_log_servers_stay_off(deployment: Deployment) -> None:
    for name in ("airflow-scheduler", "airflow-worker"):
        assert "--skip-serve-logs" in deployment.services()[name].command


def test_the_dags_are_the_projects_and_begin_paused(deployment: Deployment) -> None:
    assert deployment.env["AIRFLOW__CORE__DAGS_FOLDER"] == str(PROJECT / "dags")
    assert deployment.env["AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION"] == "True"
    assert deployment.env["AIRFLOW__CORE__LOAD_EXAMPLES"] == "False"


def test_only_celery_has_a_worker_and_flower(deployment: Deployment) -> None:
    assert {name for name, service in deployment.services().items()
            if service.env.get(EXECUTOR) == "CeleryExecutor"} == {"airflow-worker", "flower"}


def test_the_rig_asks_airflow_where_it_listens(deployment: Deployment, tmp_path: Path) -> None:
    with NativeStack(PlainSettings(data_dir=tmp_path, host="127.0.0.2")).api(deployment.state) as api:
        assert api.url == f"http://127.0.0.2:{PORTS['airflow']}"
