"""A DAG for ``python -m chaos``: each task stores one row under a key of its try, and reads it back.

The row is stored by CREATE, so a write that is done twice shows as two rows. A task's retries last longer
than Neo4j needs to start: with them every task succeeds in the end, whatever has been killed meanwhile.
"""

from datetime import timedelta

from airflow.sdk import DAG, Param, get_current_context, task

with DAG("chaos_writes", schedule=None, catchup=False, is_paused_upon_creation=True, max_active_tasks=1000,
         params={"tasks": Param(20, type="integer"), "pattern": Param("worker", type="string"),
                 "hold": Param(1, type="number")},
         default_args={"retries": 4, "retry_delay": timedelta(seconds=5)}):

    @task
    def plan() -> list[int]:
        """Return one number for each task of the run."""
        return list(range(get_current_context()["params"]["tasks"]))

    @task
    def store(index: int) -> str:
        """Store a row, hold a transaction open, read the row back, and return its nonce."""
        from chaos.writes import store_and_read  # noqa: PLC0415 - it imports the driver

        context = get_current_context()
        return store_and_read(context["params"]["pattern"], context["run_id"], index, context["ti"].try_number,
                              context["params"]["hold"])

    store.expand(index=plan())
