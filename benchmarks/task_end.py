"""How long a task that has ended keeps its pool process busy, on CeleryExecutor.

Airflow's supervisor, which is the pool process, waits in ``select`` for its task's sockets. When the last one closes,
the task process may not have ended yet. The supervisor then waits without any socket, until ``[workers]
min_heartbeat_interval`` (5 s by default) has passed. DAG runs of tasks that do nothing alternate between 5 s and 1 s,
with the worker restarted before each::

    python -m benchmarks.task_end --runs 3 --tasks 24

The end of the task is Airflow's ``end_date``; the end of the pool process's work is Celery's ``date_done``.
"""

import argparse
import statistics
import sys

import psycopg2

from benchmarks.on_airflow import Configured, console, keep, on_a_stack_with_dags, run_dag
from rig.settings import Settings
from rig.stack import postgres
from rig.stack.native import NativeStack
from rig.stack.state import StackState
from testing.waiting import comes_true
from worker_init.arguments import whole

DAG = "benchmark_task_end"
SETTING = "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL"
INTERVALS = (5, 1)
# A task that is held by the interval is held for all of it, minus the time between the last heartbeat and its end.
NEARLY = 0.9
_HELD = """
    SELECT extract(epoch FROM done.date_done AT TIME ZONE 'utc') - extract(epoch FROM task.end_date)
    FROM task_instance AS task JOIN celery_taskmeta AS done ON done.task_id = task.external_executor_id::text
    WHERE task.dag_id = %s AND task.run_id = %s AND task.task_id = 'nothing' AND done.date_done IS NOT NULL"""


def run_once(stack: NativeStack, interval: int, tasks: int) -> list[float]:
    """Restart the worker, run the DAG, and return how many seconds each task's pool process was held."""
    Configured.extra = {SETTING: str(interval)}
    state = stack.switch("CeleryExecutor", "none")
    with stack.api(state) as api, api.paused(DAG, False):
        run_dag(stack, api, DAG, {"tasks": state.slots})
        return held(state, run_dag(stack, api, DAG, {"tasks": tasks}), tasks)


def held(state: StackState, run_id: str, tasks: int) -> list[float]:
    """Wait until Celery has recorded the end of each task; return the seconds between Airflow's end and Celery's."""
    url = postgres.url(state.ports["postgres"], state.secrets.postgres.get_secret_value(), "postgresql")
    connection = psycopg2.connect(url)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            def ended() -> list[float]:
                cursor.execute(_HELD, (DAG, run_id))
                return [float(row[0]) for row in cursor.fetchall()]
            comes_true(lambda: len(ended()) == tasks, every=0.5)
            return ended()
    finally:
        connection.close()


def measure(stack: NativeStack, config: Settings, runs: int, tasks: int) -> None:
    """Alternate between the intervals, print the figures, and write every value to a file."""
    seconds: dict[int, list[list[float]]] = {interval: [] for interval in INTERVALS}
    for _ in range(runs):
        for interval in INTERVALS:
            seconds[interval].append(run_once(stack, interval, tasks))
    for interval, found in seconds.items():
        every = sorted(value for run in found for value in run)
        long = sum(value >= NEARLY * interval for value in every)
        console.print(f"[bold]interval {interval} s: {long} of {len(every)} tasks held their pool process for it "
                      f"({[sum(value >= NEARLY * interval for value in run) for run in found]} by run); held in the "
                      f"median {statistics.median(every):.2f} s, at most {every[-1]:.2f} s", soft_wrap=True)
    keep(config, "task_end", {"slots": stack.state().slots, "held": seconds})


def main() -> int:
    """Start a stack with the benchmark's DAG in addition to the project's, measure, and stop the stack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=whole(1), default=3, help="DAG runs with each interval (default 3)")
    parser.add_argument("--tasks", type=whole(1), default=24, help="tasks of each run (default 24)")
    options = parser.parse_args()
    return on_a_stack_with_dags("task_end", lambda stack, config: measure(stack, config, options.runs, options.tasks),
                                kind=Configured)


if __name__ == "__main__":
    sys.exit(main())
