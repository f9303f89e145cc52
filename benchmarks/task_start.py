"""What Airflow does between the start of a task and the task's first line, with and without preloaded modules.

DAG runs alternate between a worker that has imported what tasks need and one that has not. The worker is restarted
before each run, and a first run, for which nothing is warm, is not counted::

    python -m benchmarks.task_start --runs 3 --tasks 100

On LocalExecutor (``--executor LocalExecutor``) the scheduler imports the modules, with the plugin in
:mod:`worker_init.airflow_plugin`. Each task queries Neo4j once through the stock hook. ``--imports`` lists what the
tasks had to import by themselves in spite of the preloaded modules: add the expensive ones to
``worker_init.preload.MODULES``.
"""

import argparse
import statistics
import sys
from collections import Counter
from typing import Any, get_args

from benchmarks.on_airflow import console, keep, moment, on_a_stack_with_dags, run_dag
from patterns.facts import Executor
from rig.settings import Settings
from rig.stack.native import NativeStack
from worker_init.arguments import whole

DAG = "benchmark_task_start"
TASK = "start"
CASES = {"preload on": True, "preload off": False}
FIGURES = {
    "wall time to the first line": ("start_seconds", "s", 1),
    "processor time to the first line": ("processor_seconds", "s", 1),
    "wall time of the first query, with its imports": ("asked_seconds", "s", 1),
    "processor time of it": ("asked_processor_seconds", "s", 1),
    "PSS of a task process": ("task_pss_bytes", "MB", 1e6),
    "PSS of a pool process": ("pool_process_pss_bytes", "MB", 1e6),
}

Rows = list[dict[str, Any]]


def run_once(stack: NativeStack, executor: Executor, case: str, tasks: int) -> Rows:
    """Restart the worker or the scheduler, run the DAG twice, and return the second run's rows."""
    state = stack.switch(executor, "process", preload=CASES[case])
    with stack.api(state) as api, api.paused(DAG, False):
        run_dag(stack, api, DAG, {"tasks": stack.state().slots * 2})
        run_id = run_dag(stack, api, DAG, {"tasks": tasks})
        instances = {one["map_index"]: one for one in api.task_instances(DAG, run_id, TASK)}
        rows: Rows = api.returned(DAG, run_id, TASK, sorted(instances))
    for index, row in zip(sorted(instances), rows, strict=True):
        row["start_seconds"] = row["first_line"] - moment(instances[index], "start_date")
    return rows


def measure(stack: NativeStack, config: Settings, options: argparse.Namespace) -> None:
    """Alternate between the cases, print the figures, and write every row to a file."""
    stack.require_preload(options.executor)
    found: dict[str, list[Rows]] = {case: [] for case in CASES}
    for number in range(options.runs):
        for case in CASES:
            found[case].append(run_once(stack, options.executor, case, options.tasks))
            console.print(f"run {number + 1}, {case}: first line after "
                          f"{_median(found[case][-1], 'start_seconds'):.2f} s (median of {options.tasks} tasks)")
    for name, (key, unit, scale) in FIGURES.items():
        on, off = ([_median(rows, key) / scale for rows in found[case]] for case in CASES)
        ratios = [one / other for one, other in zip(on, off, strict=True)]
        console.print(f"[bold]{name}: on {_spread(on)} {unit}, off {_spread(off)} {unit}, on / off {_spread(ratios)}")
    if options.imports:
        _print_imports(found["preload on"][-1])
    keep(config, f"task_start-{options.executor}", {"slots": config.slots, "rows": found})


def _median(rows: Rows, key: str) -> float:
    return float(statistics.median(row[key] for row in rows))


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def _print_imports(rows: Rows) -> None:
    counted = Counter(name for row in rows for name in row["imported"])
    console.print(f"imported by the tasks themselves, of {len(rows)}:")
    for name, times in sorted(counted.items()):
        console.print(f"  {times:4d}  {name}")


def main() -> int:
    """Start a stack with the benchmark's DAG in addition to the project's, measure, and stop the stack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=whole(1), default=3, help="DAG runs of each case (default 3)")
    parser.add_argument("--tasks", type=whole(1), default=100, help="tasks of each run (default 100)")
    parser.add_argument("--executor", choices=get_args(Executor), default="CeleryExecutor",
                        help="where tasks run (default: %(default)s)")
    parser.add_argument("--imports", action="store_true", help="list what the tasks had to import by themselves")
    options = parser.parse_args()
    return on_a_stack_with_dags("task_start", lambda stack, config: measure(stack, config, options))


if __name__ == "__main__":
    sys.exit(main())
