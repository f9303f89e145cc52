"""Where the time of a task goes on LocalExecutor and on CeleryExecutor, side by side in the same DAG runs.

The latencies of tasks vary by a factor of two from DAG run to DAG run. With separate DAG runs for each executor, a
comparison would need many of them. Airflow can load both executors at once. Here a DAG has the same mapped tasks twice,
once on each executor, and each may use half the slots. So whatever slows the machine down slows both down::

    python -m benchmarks.executors --runs 8 --tasks 100

Each task queries Neo4j once through the stock hook. The figures are the medians over the tasks of a DAG run. They are
compared run by run: the result is the geometric mean of the runs' ratios, with the interval of a paired t-test on their
logarithms, corrected for the number of figures. Intervals need six runs.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from benchmarks.on_airflow import console, keep, moment, on_a_stack_with_dags, run_dag
from patterns.facts import EXECUTORS
from rig.airflow_api import AirflowApi
from rig.metrics import intervals
from rig.settings import Settings
from rig.stack.airflow import WORKER
from rig.stack.native import NativeStack
from rig.stack.service import Service
from rig.stack.state import StackState
from worker_init.arguments import whole

DAG = "benchmark_executors"
LOADED = {"AIRFLOW__CORE__EXECUTOR": ",".join(EXECUTORS)}
# Each figure is the time from one of these moments to a later one.
FIGURES = {
    "scheduled to queued": ("scheduled", "queued"), "queued to started": ("queued", "started"),
    "started to first line": ("started", "first_line"), "first line to first result": ("first_line", "first_result"),
    "first result to end": ("first_result", "ended"), "scheduled to end": ("scheduled", "ended")}

Moments = dict[str, float]
Run = dict[str, list[Moments]]


class Both(NativeStack):
    """A stack whose scheduler has both executors.

    The worker has them too: its tasks read the DAG, and a DAG that names an executor that is not loaded is an error.
    """

    def _env(self, state: StackState) -> dict[str, str]:
        return {**super()._env(state), **LOADED, "BENCHMARK_AT_ONCE": str(max(1, state.slots // 2))}

    def _executor_services(self, state: StackState, api: AirflowApi) -> Iterator[Service]:
        for service in super()._executor_services(state, api):
            reads_dags = service.name in {"airflow-scheduler", WORKER}
            yield replace(service, env={**service.env, **LOADED}) if reads_dags else service


def run_once(stack: NativeStack, api: AirflowApi, tasks: int) -> Run:
    """Run the DAG once; return the moments of each task, by executor. Raises RigError if one is missing."""
    run_id = run_dag(stack, api, DAG, {"tasks": tasks})
    return {executor: list(_moments(api, run_id, executor)) for executor in EXECUTORS}


def _moments(api: AirflowApi, run_id: str, executor: str) -> Iterator[Moments]:
    instances = api.task_instances(DAG, run_id, executor)
    rows = api.returned(DAG, run_id, executor, [one["map_index"] for one in instances])
    for instance, row in zip(instances, rows, strict=True):
        yield {name: moment(instance, key) for name, key in (
            ("scheduled", "scheduled_when"), ("queued", "queued_when"), ("started", "start_date"),
            ("ended", "end_date"))} | row


def medians(run: Run, figure: str) -> list[float]:
    """Return the median over a run's tasks of a figure, in seconds, for each executor."""
    start, end = FIGURES[figure]
    return [median(moments[end] - moments[start] for moments in run[executor]) for executor in EXECUTORS]


def contrast(runs: Sequence[Run], figure: str) -> dict[str, Any]:
    """Return a figure's medians on both executors, and the ratio, CeleryExecutor's over LocalExecutor's."""
    pairs = [medians(run, figure) for run in runs]
    found = intervals.ratios([(celery, local) for local, celery in pairs]) or []
    ends = intervals.of_ratio(found, intervals.corrected(len(FIGURES)))
    return {"figure": figure, "runs": pairs, "medians": [median(side) for side in zip(*pairs, strict=True)],
            "ratio": intervals.geometric_mean(found) if found else None, "interval": ends,
            "verdict": str(intervals.verdict_of_ratio(ends)) if ends else intervals.too_few(len(found), "DAG runs")}


def sentence(found: dict[str, Any]) -> str:
    """Return a line for a contrast."""
    local, celery = found["medians"]
    ends = f" ({found['interval'][0]:.2f} to {found['interval'][1]:.2f})" if found["interval"] else ""
    ratio = "no ratio" if found["ratio"] is None else f"{found['ratio']:.2f}{ends}"
    return (f"{found['figure']:27} LocalExecutor {local:6.3f} s   CeleryExecutor {celery:6.3f} s   "
            f"Celery over Local {ratio}: {found['verdict']}")


def measure(stack: NativeStack, config: Settings, options: argparse.Namespace) -> None:
    """Run the DAG, print the contrasts, and write every moment to a file."""
    runs: list[Run] = []
    with stack.api(stack.state()) as api, api.paused(DAG, False):
        for number in range(options.runs + 1):
            run = run_once(stack, api, options.tasks)
            if number:      # the first one finds nothing warm
                runs.append(run)
                local, celery = medians(run, "scheduled to end")
                console.print(f"run {number} of {options.runs}: scheduled to end {local:.2f} s on LocalExecutor, "
                              f"{celery:.2f} s on CeleryExecutor (medians of {options.tasks} tasks)")
    contrasts = [contrast(runs, figure) for figure in FIGURES]
    for found in contrasts:
        console.print(sentence(found), soft_wrap=True, highlight=False)
    keep(config, "executors", {"slots": config.slots, "contrasts": contrasts, "runs": runs})


def main() -> int:
    """Start a stack with both executors and the benchmark's DAG, measure, and stop the stack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=whole(1), default=8, help="DAG runs that are counted (default 8)")
    parser.add_argument("--tasks", type=whole(1), default=50, help="tasks of each run on each executor (default 50)")
    options = parser.parse_args()
    return on_a_stack_with_dags("executors", lambda stack, config: measure(stack, config, options), kind=Both)


if __name__ == "__main__":
    sys.exit(main())
