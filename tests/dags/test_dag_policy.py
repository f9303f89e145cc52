"""What every DAG of the folder keeps to, as Airflow reads it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from patterns import facts
from tests.dags.conftest import ROOT, DagBag

FILES = sorted((ROOT / "dags").glob("*.py"))
WORKLOADS = {"neo4j_problematic_pattern": 100, "neo4j_improved_pattern": 100, "neo4j_worker_pattern": 100,
             "neo4j_stress_test": 50}
MONITOR, CLIENTS = facts.MONITOR_DAG, facts.CLIENTS_DAG
DAGS = [*WORKLOADS, MONITOR, CLIENTS]

PARSE = """
import runpy, sys
for path in sys.argv[1:]:
    runpy.run_path(path)
sys.exit("neo4j" in sys.modules)
"""


def test_the_folder_has_these_dags_and_no_errors(dag_bag: DagBag) -> None:
    assert dag_bag.import_errors == {}
    assert dag_bag.captured_warnings == {}
    assert sorted(dag_bag.dags) == sorted(DAGS)
    assert tuple(sorted(dag_bag.dags)) == facts.DAG_IDS


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_has_one_dag_of_its_name(dag_bag: DagBag, path: Path) -> None:
    assert [dag_id for dag_id, dag in dag_bag.dags.items() if Path(dag.fileloc) == path] == [path.stem]


def test_reading_the_dags_does_not_import_the_driver(airflow_environ: dict[str, str]) -> None:
    # An operator of the provider is made where the DAG is, and brings the driver with it.
    files = [str(path) for path in FILES if path.stem != CLIENTS]
    parsed = subprocess.run([sys.executable, "-c", PARSE, *files], env=airflow_environ, check=False,
                            capture_output=True, text=True)
    assert (parsed.returncode, parsed.stderr) == (0, "")


@pytest.mark.parametrize("dag_id", DAGS)
def test_a_dag_is_documented(dag_bag: DagBag, dag_id: str) -> None:
    dag = dag_bag.dags[dag_id]
    assert len(dag.doc_md) > 400
    assert dag.description == dag.doc_md.splitlines()[0]
    assert all(dag.params.get_param(name).description and dag.params.get_param(name).schema["title"]
               for name in dag.params)


@pytest.mark.parametrize("dag_id", DAGS)
def test_a_dag_is_paused_at_creation_and_tries_once(dag_bag: DagBag, dag_id: str) -> None:
    dag = dag_bag.dags[dag_id]
    assert dag.is_paused_upon_creation is True
    assert dag.catchup is False
    assert {task.retries for task in dag.tasks} == {0}


@pytest.mark.parametrize(("dag_id", "schedule", "runs"), [
    ("neo4j_problematic_pattern", None, 1), ("neo4j_improved_pattern", None, 1),
    ("neo4j_worker_pattern", None, 1), (CLIENTS, None, 1), ("neo4j_stress_test", None, 16),
    (MONITOR, "* * * * *", 1)])
def test_only_the_monitor_has_a_schedule_and_only_the_stress_test_runs_at_once(
        dag_bag: DagBag, dag_id: str, schedule: str | None, runs: int) -> None:
    assert (dag_bag.dags[dag_id].schedule, dag_bag.dags[dag_id].max_active_runs) == (schedule, runs)


@pytest.mark.parametrize("dag_id", WORKLOADS)
def test_a_workload_is_a_plan_and_a_mapped_query(dag_bag: DagBag, dag_id: str) -> None:
    dag = dag_bag.dags[dag_id]
    assert [(task.task_id, task.is_mapped) for task in dag.topological_sort()] == [
        ("plan", False), (facts.QUERY_TASK, True)]


@pytest.mark.parametrize("dag_id", WORKLOADS)
def test_nothing_but_the_executor_limits_a_run(dag_bag: DagBag, dag_id: str) -> None:
    dag = dag_bag.dags[dag_id]
    assert dag.max_active_tasks >= dag.params.get_param("tasks").schema["maximum"] == 10_000
    assert {(task.max_active_tis_per_dag, task.max_active_tis_per_dagrun) for task in dag.tasks} == {(None, None)}


@pytest.mark.parametrize("dag_id", DAGS)
def test_the_stress_test_has_a_pool_of_its_own_and_says_how_it_is_made(dag_bag: DagBag, dag_id: str) -> None:
    dag = dag_bag.dags[dag_id]
    pool = facts.STRESS_POOL if dag_id == facts.STRESS_DAG else "default_pool"
    assert {task.pool for task in dag.tasks} == {pool}
    assert (f"airflow pools set {pool} 16 " in dag.doc_md) == (pool != "default_pool")


@pytest.mark.parametrize(("dag_id", "tasks"), WORKLOADS.items())
def test_the_parameters_have_these_defaults(dag_bag: DagBag, dag_id: str, tasks: int) -> None:
    several = {"patterns": ["problematic"]} if dag_id == "neo4j_stress_test" else {}
    assert dag_bag.dags[dag_id].params.dump() == {
        "tasks": tasks, "calls": 3, "hold": 2, "driver": "sync", "alias": "root"} | several


def test_the_monitor_takes_an_alias(dag_bag: DagBag) -> None:
    assert dag_bag.dags[MONITOR].params.dump() == {"alias": "root"}


@pytest.mark.parametrize(("name", "good", "bad"), [
    ("tasks", [1, 10_000], [0, 10_001, 1.5, "many"]),
    ("calls", [1, 1000], [0, 1001, 2.5]),
    ("hold", [0, 0.5, 3600], [-1, 3601, "long"]),
    ("driver", ["sync", "async"], ["both", None]),
    ("alias", ["root", "Reports_2"], ["", "2nd", "a-b", "a b"]),
    ("patterns", [["problematic"], ["improved", "problematic"], ["improved", "improved"]], [[], ["none"], "improved"]),
])
def test_a_parameter_is_checked_before_the_run(dag_bag: DagBag, name: str, good: list[Any], bad: list[Any]) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    parameter = dag_bag.dags["neo4j_stress_test"].params.get_param(name)
    for value in good:
        assert parameter.resolve(value) == value
    for value in bad:
        with pytest.raises(ParamValidationError):
            parameter.resolve(value)
