"""The examples run as they are, through a shared driver on a real Neo4j."""

import os
import subprocess
import sys
from pathlib import Path

import neo4j
import yaml

from rig.settings import PROJECT
from testing.servers import Neo4jServer, Serving

# The tasks' functions, in a process that has what a task of a worker finds in its environment.
RUN = """
from examples import dag_stock_hook, dag_taskflow
names = [dag_taskflow.write_person.function(name) for name in ("Ada", "Grace", "Katherine")]
print(dag_taskflow.read_people.function(names), dag_stock_hook.count_nodes.function("Person"))
"""


def test_the_dags_of_the_examples_go_through_the_shared_driver(
        server: Neo4jServer, host: Serving, direct: neo4j.Driver, tmp_path: Path) -> None:
    direct.execute_query("MATCH (p:Person) DETACH DELETE p")
    user, password = host.auth
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "AIRFLOW_HOME": str(tmp_path),
                   "NEO4J_WORKER_URI": host.uri, "NEO4J_WORKER_USERNAME": user, "NEO4J_WORKER_PASSWORD": password,
                   "AIRFLOW_CONN_NEO4J_DEFAULT": f"neo4j://{user}:{password}@127.0.0.1:{host.port}"}
    done = subprocess.run([sys.executable, "-c", RUN], env=environment, cwd=tmp_path, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "3 3"
    direct.execute_query("MATCH (p:Person) DETACH DELETE p")


def test_the_values_for_helm_turn_it_on() -> None:
    values = yaml.safe_load((PROJECT / "examples" / "helm-values.yaml").read_text(encoding="utf-8"))
    (setting,) = values["env"]
    assert setting == {"name": "AIRFLOW__CELERY__EXTRA_CELERY_CONFIG", "value": '{"imports": ["worker_init.hooks"]}'}
    assert {one["name"] for one in values["workers"]["env"]} == {"NEO4J_URI", "NEO4J_USERNAME", "NEO4J_PASSWORD"}
