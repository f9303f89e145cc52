"""A DAG for ``python -m benchmarks.executors``: the same tasks on both executors, side by side."""

import os

from airflow.sdk import DAG, Param, get_current_context, task

from patterns.facts import EXECUTORS

with DAG("benchmark_executors", schedule=None, catchup=False, is_paused_upon_creation=True, max_active_tasks=1000,
         params={"tasks": Param(50, type="integer")}, default_args={"retries": 0}):

    @task
    def plan() -> list[int]:
        """Return one number for each task of the run on one executor."""
        return list(range(get_current_context()["params"]["tasks"]))

    @task
    def query(index: int) -> dict[str, float]:
        """Query Neo4j once through the stock hook; return the moments of the first line and of the answer."""
        import time  # noqa: PLC0415 - a task imports what it needs by itself, as users' DAGs do

        first_line = time.time()
        from airflow.providers.neo4j.hooks.neo4j import Neo4jHook  # noqa: PLC0415
        if Neo4jHook().run("RETURN $index AS index", {"index": index}) != [{"index": index}]:
            raise ValueError(f"another answer than {index}")
        return {"first_line": first_line, "first_result": time.time()}

    planned = plan()
    for executor in EXECUTORS:
        # As many at once on either, so that both have the same part of the machine.
        query.override(task_id=executor, executor=executor,
                       max_active_tis_per_dagrun=int(os.environ.get("BENCHMARK_AT_ONCE", "8"))).expand(index=planned)
