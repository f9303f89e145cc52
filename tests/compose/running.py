"""What the tests ask of a running deployment: Airflow's API, its database, Neo4j, Flower and the engine itself."""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar, cast

import httpx
import neo4j
from pydantic import SecretStr

from rig import env_file
from rig.airflow_api import AirflowApi, ApiError
from testing import waiting
from tests.compose.deployment import CELERY, Deployment

ENDED = {"success", "failed"}
QUERY = "query"
COUNTS = ("SELECT (SELECT count(*) FROM dag_run), (SELECT count(*) FROM task_instance), "
          "(SELECT count(*) FROM ab_user), (SELECT count(*) FROM connection)")
OPEN = ("CALL dbms.listConnections() YIELD userAgent, clientAddress WHERE userAgent <> $agent "
        "RETURN userAgent, clientAddress")
AGENT = "compose-test"
SERVICE = "com.docker.compose.service"
STOPPING = 120      # seconds that a worker may take for its running tasks
T = TypeVar("T")


class Counts(NamedTuple):
    """What the metadata database holds."""

    dag_runs: int
    task_instances: int
    users: int
    connections: int


def eventually(question: Callable[[], T], limit: float = 60, every: float = 0.5) -> T:
    """Wait as elsewhere, but ask an API server again that answers too late, as on a loaded machine."""
    return waiting.eventually(lambda: _answered(question), limit, every)


def _answered(question: Callable[[], T]) -> T:
    try:
        return question()
    except ApiError as error:
        if error.status is None:
            return cast("T", None)
        raise


@dataclass
class Running:
    """A deployment that is up, with the files and settings that it was brought up with last."""

    deployment: Deployment
    files: tuple[str, ...] = CELERY
    settings: dict[str, str] = field(default_factory=dict)

    def compose(self, *arguments: str) -> str:
        """Run a command of compose, which must succeed; return what it said."""
        return self.deployment.compose(*arguments, files=self.files, settings=self.settings).require().out

    def container(self, service: str) -> str:
        """Return the id of a service's one container."""
        return self.compose("ps", "-q", service).strip()

    def containers(self, *services: str) -> list[dict[str, Any]]:
        """Return what the engine says of the containers of these services, or of all."""
        return inspect(self.compose("ps", "-aq", *services).split())

    def health(self) -> dict[str, str]:
        """Return the health of each service, or how it ended where it has no health."""
        return {container["Config"]["Labels"][SERVICE]: _health(container["State"]) for container in self.containers()}

    def address(self, service: str, port: int) -> str:
        """Return where a port of a service is reached on this machine."""
        return self.compose("port", service, str(port)).strip()

    @contextmanager
    def api(self) -> Iterator[AirflowApi]:
        """Log in as the documented user."""
        with AirflowApi(f"http://{self.address('airflow-apiserver', 8080)}", "airflow", SecretStr("airflow")) as api:
            yield api

    def counts(self) -> Counts:
        """Return what the metadata database holds."""
        row = self.compose("exec", "-T", "postgres", "psql", "-U", "airflow", "-At", "-F", " ", "-c", COUNTS)
        return Counts(*map(int, row.split()))

    def neo4j(self) -> neo4j.Driver:
        """Return a driver for the deployment's own Neo4j, as a client on this machine."""
        return neo4j.GraphDatabase.driver(f"bolt://{self.address('neo4j', 7687)}",
                                          auth=("neo4j", self._secret("NEO4J_PASSWORD")), user_agent=AGENT)

    def open_connections(self) -> list[tuple[str, str]]:
        """Return user agent and host of every connection that is open at Neo4j but the test's own."""
        with self.neo4j() as driver:
            rows = driver.execute_query(OPEN, agent=AGENT).records
        return [(row["userAgent"], row["clientAddress"].rpartition(":")[0]) for row in rows]

    def drivers(self) -> list[list[dict[str, Any]]]:
        """Return what Flower shows of each worker's shared drivers."""
        answer = httpx.get(f"http://{self.address('flower', 5555)}/api/workers", params={"refresh": "1"}, timeout=60,
                           auth=("airflow", self._secret("FLOWER_PASSWORD")), trust_env=False).raise_for_status()
        return [worker["stats"]["neo4j"]["drivers"] for worker in answer.json().values()]

    def _secret(self, name: str) -> str:
        return env_file.values(self.deployment.dotenv.read_text())[name]


def inspect(ids: list[str]) -> list[dict[str, Any]]:
    """Return what the engine knows of these containers."""
    found: list[dict[str, Any]] = json.loads(_docker("inspect", *ids))
    return found


def kill(container: str) -> None:
    """Kill one container, as ``docker compose kill`` does with all of a service."""
    _docker("kill", container)


def stop(container: str) -> None:
    """Stop one container as ``docker compose stop`` does, and wait for its end."""
    _docker("stop", "--time", str(STOPPING), container)


def of_project(kind: str, name: str) -> list[str]:
    """Return the containers, networks or volumes that carry a project's label."""
    command = {"container": ("ps", "-aq"), "network": ("network", "ls", "-q"), "volume": ("volume", "ls", "-q")}[kind]
    return _docker(*command, "--filter", f"label=com.docker.compose.project={name}").split()


def run_all(api: AirflowApi, confs: dict[str, dict[str, Any]], limit: float = 300) -> dict[str, str]:
    """Run these DAGs at the same time and return how each ended."""
    for dag_id in confs:
        api.set_paused(dag_id, False)
    runs = {dag_id: api.trigger(dag_id, conf) for dag_id, conf in confs.items()}

    def ended() -> dict[str, str]:
        states = {dag_id: api.run_state(dag_id, run_id) for dag_id, run_id in runs.items()}
        return states if set(states.values()) <= ENDED else {}
    states = eventually(ended, limit)
    for dag_id in confs:
        api.set_paused(dag_id, True)
    eventually(lambda: not api.active_runs())   # what its schedule has started
    return states


def _docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout


def _health(state: dict[str, Any]) -> str:
    return str(state["Health"]["Status"]) if "Health" in state else f"{state['Status']} {state['ExitCode']}"
