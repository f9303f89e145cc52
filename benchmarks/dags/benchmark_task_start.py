"""A DAG for ``python -m benchmarks.task_start``: each task reports what its process did before its first line."""

from airflow.sdk import DAG, Param, get_current_context, task

with DAG("benchmark_task_start", schedule=None, catchup=False, is_paused_upon_creation=True, max_active_tasks=1000,
         params={"tasks": Param(100, type="integer")}, default_args={"retries": 0}):

    @task
    def plan() -> list[int]:
        """Return one number for each task of the run."""
        return list(range(get_current_context()["params"]["tasks"]))

    @task
    def start(index: int) -> dict[str, object]:
        """Note the time, query Neo4j once through the stock hook, and return what that took and imported."""
        import os  # noqa: PLC0415 - a task imports what it needs by itself, as users' DAGs do
        import time  # noqa: PLC0415

        first_line, processor_seconds = time.time(), time.process_time()
        from airflow.providers.neo4j.hooks.neo4j import Neo4jHook  # noqa: PLC0415
        answer = Neo4jHook().run("RETURN $index AS index", {"index": index})
        asked, asked_processor = time.time(), time.process_time()
        import psutil  # noqa: PLC0415

        from worker_init.preload import imported_since  # noqa: PLC0415
        return {"index": answer[0]["index"], "first_line": first_line, "processor_seconds": processor_seconds,
                "asked_seconds": asked - first_line, "asked_processor_seconds": asked_processor - processor_seconds,
                "imported": imported_since(), "task_pss_bytes": psutil.Process().memory_full_info().pss,
                "pool_process_pss_bytes": psutil.Process(os.getppid()).memory_full_info().pss}

    start.expand(index=plan())
