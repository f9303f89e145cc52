"""A DAG for ``python -m benchmarks.task_end``: tasks that do nothing."""

from airflow.sdk import DAG, Param, get_current_context, task

with DAG("benchmark_task_end", schedule=None, catchup=False, is_paused_upon_creation=True, max_active_tasks=1000,
         params={"tasks": Param(24, type="integer")}, default_args={"retries": 0}):

    @task
    def plan() -> list[int]:
        """Return one number for each task of the run."""
        return list(range(get_current_context()["params"]["tasks"]))

    @task
    def nothing(index: int) -> int:
        """Return the number."""
        return index

    nothing.expand(index=plan())
