"""The time to a task's first result in Airflow, with a shared driver and without one.

The latencies of tasks vary by a factor of two from DAG run to DAG run, so only tasks that alternate within one run can
be compared. This runs ``neo4j_stress_test`` with the patterns ``improved`` and ``worker`` in turn, on CeleryExecutor,
for each scope of the shared drivers. It starts a stack and stops it at the end::

    python -m benchmarks.alternating --runs 5 --tasks 200
"""

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from benchmarks.on_airflow import console, keep, on_a_stack, run_dag
from patterns.facts import QUERY_TASK, STRESS_DAG
from rig.airflow_api import AirflowApi
from rig.percentile import percentile
from rig.records import Relay
from rig.settings import Settings
from rig.stack.native import NativeStack
from rig.stack.state import StackState
from worker_init.arguments import real, whole

SCOPES: tuple[Relay, ...] = ("process", "shared")
PATTERNS = ("improved", "worker")


class Run(NamedTuple):
    """One DAG run: for each pattern, its tasks' seconds to the first result."""

    scope: str
    seconds: dict[str, list[float]]

    def ratio(self, statistic: Any) -> float:
        """Return the ratio of ``worker`` to ``improved`` in a statistic."""
        return float(statistic(self.seconds["worker"]) / statistic(self.seconds["improved"]))


def measure(stack: NativeStack, scope: Relay, options: argparse.Namespace) -> Iterator[Run]:
    """Yield the runs of one scope, except the first one, for which nothing is warm."""
    state = stack.switch("CeleryExecutor", scope)
    with stack.api(state) as api, api.paused(STRESS_DAG, False):
        for number in range(options.runs + 1):
            rows = _rows(stack, api, {"tasks": options.tasks, "calls": 3, "hold": options.hold,
                                      "patterns": list(PATTERNS)})
            if number:
                yield Run(scope, {pattern: [row["first_result_seconds"] for row in rows if row["pattern"] == pattern]
                                  for pattern in PATTERNS})


def _rows(stack: NativeStack, api: AirflowApi, conf: dict[str, Any]) -> list[dict[str, Any]]:
    run_id = run_dag(stack, api, STRESS_DAG, conf)
    rows: list[dict[str, Any]] = api.returned(STRESS_DAG, run_id, QUERY_TASK, list(range(conf["tasks"])))
    return rows


def main() -> int:
    """Print a line for each run and write them all to a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=whole(1), default=5, help="DAG runs of each scope that are counted (default 5)")
    parser.add_argument("--tasks", type=whole(2), default=100,
                        help="tasks of each run, half for each pattern (default 100)")
    parser.add_argument("--hold", type=real(0), default=0.5, help="seconds a task holds its driver (default 0.5)")
    parser.add_argument("--scopes", nargs="+", choices=SCOPES, default=SCOPES, help="scopes to measure (default both)")
    options = parser.parse_args()

    def measured(stack: NativeStack, config: Settings) -> None:
        runs = [run for scope in options.scopes for run in _told(measure(stack, scope, options))]
        concluded(runs, stack.state(), config)
    return on_a_stack("alternating", measured)


def tail(values: Sequence[float]) -> float:
    """Return the 90th percentile."""
    return percentile(values, 90)


def _told(runs: Iterator[Run]) -> Iterator[Run]:
    for run in runs:
        console.print(f"scope {run.scope}: first result, worker / improved: median {run.ratio(statistics.median):.2f}, "
                      f"p90 {run.ratio(tail):.2f}")
        yield run


def _spread(name: str, ratios: list[float]) -> str:
    return f"{name} {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def concluded(runs: list[Run], state: StackState, config: Settings) -> None:
    """Print the medians over the runs, and write what was measured."""
    for scope in dict.fromkeys(run.scope for run in runs):
        of = [run for run in runs if run.scope == scope]
        middle, tails = ([run.ratio(statistic) for run in of] for statistic in (statistics.median, tail))
        console.print(f"[bold]scope {scope}, {len(of)} runs, {state.slots} slots: {_spread('median', middle)}, "
                      f"{_spread('p90', tails)}")
    keep(config, "alternating", {"slots": state.slots, "runs": [run._asdict() for run in runs]})


if __name__ == "__main__":
    sys.exit(main())
