"""How ``core.parallelism`` affects CeleryExecutor's makespan: as many as the worker has processes, or twice that.

CeleryExecutor counts a task towards ``core.parallelism`` from handing it out until its scheduler has seen the result.
If that limit equals the number of pool processes, a process that has finished waits until the scheduler looks again.
With a higher limit, it takes the next task from Redis. DAG runs alternate between the two limits and, for comparison,
LocalExecutor. They use one stack, whose scheduler and worker are restarted before each DAG run::

    python -m benchmarks.parallelism --runs 3
"""

import argparse
import statistics
import sys

from benchmarks.on_airflow import console, keep, moment, on_a_stack, run_dag
from patterns.facts import DAG_OF_PATTERN, QUERY_TASK, Executor
from rig.settings import Settings
from rig.stack.native import NativeStack
from worker_init.arguments import whole

DAG = DAG_OF_PATTERN["improved"]
EQUAL, TWICE, LOCAL = "CeleryExecutor, as many as slots", "CeleryExecutor, twice the slots", "LocalExecutor"
CASES: dict[str, tuple[Executor, int]] = {
    EQUAL: ("CeleryExecutor", 1), TWICE: ("CeleryExecutor", 2), LOCAL: ("LocalExecutor", 1)}


def makespan(stack: NativeStack, executor: Executor, tasks: int) -> float:
    """Run the DAG on an executor that has just started; return the seconds from first queued to last ended."""
    state = stack.switch(executor)
    with stack.api(state) as api, api.paused(DAG, False):
        found = api.task_instances(DAG, run_dag(stack, api, DAG, {"tasks": tasks, "calls": 3, "hold": 2}), QUERY_TASK)
    seconds = [(moment(one, "queued_when"), moment(one, "end_date")) for one in found]
    return max(ended for _, ended in seconds) - min(queued for queued, _ in seconds)


def measure(stack: NativeStack, config: Settings, options: argparse.Namespace) -> None:
    """Alternate between the cases, print each makespan and the ratios, and write them all to a file."""
    found: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(options.runs):
        for name, (executor, times) in CASES.items():
            stack.settings = config.model_copy(update={"parallelism": times * config.slots})
            found[name].append(makespan(stack, executor, options.tasks))
            console.print(f"{name}: {found[name][-1]:.1f} s")
    for name, baseline in ((EQUAL, LOCAL), (TWICE, LOCAL), (EQUAL, TWICE)):
        ratios = [one / other for one, other in zip(found[name], found[baseline], strict=True)]
        console.print(f"[bold]{name} / {baseline}: {statistics.median(ratios):.2f} "
                      f"({min(ratios):.2f} to {max(ratios):.2f})")
    keep(config, "parallelism", {"slots": config.slots, "makespan_seconds": found})


def main() -> int:
    """Start a stack, measure, and stop the stack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=whole(1), default=3, help="DAG runs of each case (default 3)")
    parser.add_argument("--tasks", type=whole(1), default=100, help="tasks of each run (default 100)")
    options = parser.parse_args()
    return on_a_stack("parallelism", lambda stack, config: measure(stack, config, options))


if __name__ == "__main__":
    sys.exit(main())
