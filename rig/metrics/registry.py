"""Every metric, defined once: the names that the summary, the report and ``docs/method.md`` use."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram", "scalar"]
Better = Literal["lower", "higher"]
Group = Literal["database", "tasks", "executor", "conditions"]
Between = Literal["patterns", "executors"]


@dataclass(frozen=True)
class Metric:
    """One figure of a DAG run.

    ``better`` is the good direction, None where there is none. ``contrasts`` says between which cells a
    ratio of this metric means something. ``of_failed_runs`` is set where the figure also stands for a
    DAG run that did not succeed. ``counted_by_id`` is set where it is a lower bound as soon as others share
    the server.
    """

    name: str
    label: str
    group: Group
    kind: Kind
    unit: str
    better: Better | None
    definition: str
    contrasts: frozenset[Between] = frozenset()
    of_failed_runs: bool = False
    counted_by_id: bool = False


_BOTH: frozenset[Between] = frozenset({"patterns", "executors"})
# Task latencies vary by a factor of two from DAG run to DAG run: between patterns they would have to
# alternate within one DAG run to be compared. Between executors there is no other way.
_EXECUTORS: frozenset[Between] = frozenset({"executors"})

_DATABASE = (
    Metric("connections_opened", "opened", "database", "counter", "connections", "lower",
           "Bolt connections that the server accepted between the two marker connections, by their ids, less "
           "the probe's own. A lower bound from sampling where other users share the server.", _BOTH,
           counted_by_id=True),
    Metric("connections_closed", "closed", "database", "counter", "connections", None,
           "Of the connections opened, those gone in the last sample.", counted_by_id=True),
    Metric("connections_peak", "open, peak", "database", "gauge", "connections", "lower",
           "The most connections open in any one sample.", _BOTH),
    Metric("connections_mean", "open, mean", "database", "gauge", "connections", "lower",
           "Open connections, time-weighted mean over the makespan window.", _BOTH),
    Metric("connections_idle", "idle, mean", "database", "gauge", "connections", "lower",
           "Connections open and not in a transaction, time-weighted mean over the makespan window.", _BOTH),
    Metric("connections_idle_peak", "idle, peak", "database", "gauge", "connections", "lower",
           "The most connections open and not in a transaction in any one sample.", _BOTH),
    Metric("connections_running", "in a transaction, mean", "database", "gauge", "connections", None,
           "Connections open and in a transaction, time-weighted mean over the makespan window."),
    Metric("idle_connection_seconds", "idle connection-seconds", "database", "counter", "s", "lower",
           "Integral of idle connections over time, from the start of the makespan window to the last "
           "sample, 5 s after the window's end at most.", _BOTH),
    Metric("connections_left_5s", "left, 5\N{NO-BREAK SPACE}s", "database", "gauge", "connections", "lower",
           "Connections still open 5 s after the task that owns them ended.", _BOTH),
    Metric("connections_left_30s", "left, 30\N{NO-BREAK SPACE}s", "database", "gauge", "connections", "lower",
           "Connections still open 30 s after the task that owns them ended.", _BOTH),
    Metric("connections_abandoned", "abandoned", "database", "counter", "connections", "lower",
           "Connections that ended without GOODBYE, where a relay or a tap in front of the server sees it."),
)
_TASKS = (
    Metric("drivers_created", "drivers created", "tasks", "counter", "drivers", "lower",
           "Drivers that the tasks report to have made, summed over the tasks."),
    Metric("first_result_seconds", "first result, median", "tasks", "histogram", "s", "lower",
           "From asking the pattern for a driver to the first result consumed, imports excluded; median over "
           "the tasks.", _EXECUTORS),
    Metric("first_result_seconds_p90", "first result, p90", "tasks", "histogram", "s", "lower",
           "The 90th percentile over the tasks of the same times as first_result_seconds."),
    Metric("call_seconds", "later call, median", "tasks", "histogram", "s", "lower",
           "Each call after a task's first, session opened to closed; median over all these calls.",
           _EXECUTORS),
    Metric("call_seconds_p90", "later call, p90", "tasks", "histogram", "s", "lower",
           "The 90th percentile of the same times as call_seconds."),
    Metric("task_seconds", "task, median", "tasks", "histogram", "s", "lower",
           "Airflow's start of a task to its end; median over the tasks.", _EXECUTORS),
    Metric("tasks_wrong", "wrong tasks", "tasks", "counter", "tasks", "lower",
           "Tasks whose nonce did not come back. Any other value than 0 fails the run.",
           of_failed_runs=True),
)
_EXECUTOR = (
    Metric("queued_seconds", "queued, median", "executor", "histogram", "s", "lower",
           "Queued to started, the executor's own cost; median over the tasks.", _EXECUTORS),
    Metric("queued_seconds_p90", "queued, p90", "executor", "histogram", "s", "lower",
           "The 90th percentile over the tasks of the same times as queued_seconds."),
    Metric("makespan_seconds", "makespan", "executor", "scalar", "s", "lower",
           "First mapped task queued to last mapped task ended: the makespan window.", _BOTH),
)

METRICS: tuple[Metric, ...] = _DATABASE + _TASKS + _EXECUTOR

CONDITIONS: tuple[Metric, ...] = (
    Metric("concurrency_reached", "tasks at once", "conditions", "scalar", "tasks", None,
           "The most tasks between start and end at one moment."),
    Metric("worker_processes", "worker processes", "conditions", "scalar", "processes", None,
           "Distinct parent processes of the tasks, by host and process id."),
)

BY_NAME: dict[str, Metric] = {metric.name: metric for metric in METRICS + CONDITIONS}
