"""DAGs for ``python -m benchmarks.connections``: the stock hook and the stock operator, one query a task."""

from typing import Any

from airflow.providers.neo4j.hooks.neo4j import Neo4jHook
from airflow.providers.neo4j.operators.neo4j import Neo4jOperator
from airflow.sdk import DAG, Param, get_current_context, task

CONNECTION = "graph"
OPTIONS: dict[str, Any] = {
    "schedule": None, "catchup": False, "is_paused_upon_creation": True, "max_active_tasks": 1000,
    "params": {"tasks": Param(100, type="integer")}, "default_args": {"retries": 0}}


@task
def plan() -> list[dict[str, int]]:
    """Return the parameters of each task's query."""
    return [{"index": index} for index in range(get_current_context()["params"]["tasks"])]


with DAG("benchmark_hook", **OPTIONS):

    @task(task_id="query")
    def by_hook(parameters: dict[str, int]) -> int:
        """Query Neo4j once; return the process that the task was forked from."""
        import os  # noqa: PLC0415

        answer = Neo4jHook(conn_id=CONNECTION).run("RETURN $index AS index", parameters)
        if answer != [parameters]:
            raise ValueError(f"asked for {parameters}, got {answer}")
        return os.getppid()

    by_hook.expand(parameters=plan())

with DAG("benchmark_operator", **OPTIONS):
    Neo4jOperator.partial(task_id="query", neo4j_conn_id=CONNECTION, sql="RETURN $index AS index").expand(
        parameters=plan())
