"""An Airflow of the tests' own: a home, a database in it, and the DAGs as it reads them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from testing.neo4j_server import StartedNeo4j

ROOT = Path(__file__).parents[2]

# Its types are Airflow's, which must not be imported before it has its home.
DagBag = Any


class Ended(NamedTuple):
    """A DAG run that ended: the states and return values of its tasks, and the log of all."""

    state: str
    tasks: list[dict[str, Any]]
    xcoms: list[dict[str, Any]]
    log: str

    def states(self, task: str) -> list[str]:
        """Return the state of each instance of a task."""
        return [found["state"] for found in self.tasks if found["task"] == task]

    def returned(self, task: str) -> list[Any]:
        """Return what each instance of a task returned."""
        return [found["value"] for found in self.xcoms if (found["task"], found["key"]) == (task, "return_value")]


@pytest.fixture(scope="session")
def airflow_environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {**os.environ, "AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow")),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags")}


@pytest.fixture(scope="session")
def dag_bag(airflow_environ: dict[str, str]) -> Iterator[DagBag]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AIRFLOW_HOME", "AIRFLOW__CORE__LOAD_EXAMPLES"):
            patch.setenv(name, airflow_environ[name])
        from airflow.dag_processing.dagbag import DagBag

        yield DagBag(ROOT / "dags")


@pytest.fixture(scope="session")
def migrated(airflow_environ: dict[str, str]) -> dict[str, str]:
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], env=airflow_environ, check=True,
                   capture_output=True)
    return airflow_environ


@pytest.fixture
def run_dag(migrated: dict[str, str], neo4j_server: StartedNeo4j) -> Callable[..., Ended]:
    environ = migrated | {
        "NEO4J_URI": neo4j_server.uri, "NEO4J_USERNAME": neo4j_server.username,
        "NEO4J_PASSWORD": neo4j_server.password, "NEO4J_DATABASE": neo4j_server.database}

    def run(dag_id: str, conf: dict[str, Any], **changes: str) -> Ended:
        command = [sys.executable, str(Path(__file__).with_name("run_dag.py")), dag_id, json.dumps(conf)]
        ended = subprocess.run(command, env=environ | changes, capture_output=True, text=True, check=False)
        log = ended.stdout + ended.stderr
        assert ended.returncode == 0, log
        # Whatever closes at the end of the process may write after it.
        answer = next(line for line in reversed(ended.stdout.splitlines()) if line.startswith('{"state"'))
        return Ended(**json.loads(answer), log=log)

    return run
