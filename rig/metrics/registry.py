"""The definition of every metric: the names that the summary, the report and ``docs/reference/metrics.md`` use."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram", "scalar"]
Better = Literal["lower", "higher"]
Group = Literal["database", "tasks", "executor", "machine", "conditions"]
Between = Literal["patterns", "executors", "preload", "control"]


@dataclass(frozen=True)
class Metric:
    """One figure of a DAG run.

    ``better`` is the good direction, None if there is none. ``contrasts`` says between which cells a ratio of this
    metric is meaningful. ``of_failed_runs`` is set if the figure also counts for a DAG run that did not succeed.
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


_BOTH: frozenset[Between] = frozenset({"patterns", "executors", "control"})
# Task latencies vary by a factor of two from DAG run to DAG run. To compare patterns, they would have to alternate
# within one DAG run. A comparison switches executors by a restart, so it has no other way for those.
_EXECUTORS: frozenset[Between] = frozenset({"executors", "control"})
_PRELOAD: frozenset[Between] = frozenset({"preload"})

PRIMARY = ("connections_opened", "idle_connection_seconds_kept", "makespan_seconds", "cpu_per_task")
"""The metrics of the primary contrasts: what a pattern opens and keeps, how long it takes, and what it costs."""

_DATABASE = (
    Metric("connections_opened", "opened", "database", "counter", "connections", "lower",
           "Bolt connections that the server accepted between the two marker connections, by their ids, less "
           "the probe's own. A lower bound from sampling where other users share the server. With --tap those that "
           "tasks and driver hosts opened through the tap.", _BOTH),
    Metric("connections_closed", "closed", "database", "counter", "connections", None,
           "Of the connections opened, those gone in the last sample."),
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
           "sample, 5 s after the window's end at most."),
    Metric("idle_connection_seconds_kept", "idle connection-seconds, to the idle timeout", "database", "counter", "s",
           "lower", "The same integral to the last sample, and for each connection that a shared driver still kept "
           "then the rest of its idle timeout, counted from the end of the makespan window.", _BOTH),
    Metric("connections_left_5s", "left, 5\N{NO-BREAK SPACE}s", "database", "gauge", "connections", "lower",
           "Connections still open 5 s after the task that owns them ended.", _BOTH),
    Metric("connections_left_30s", "left, 30\N{NO-BREAK SPACE}s", "database", "gauge", "connections", "lower",
           "Connections still open 30 s after the task that owns them ended.", _BOTH),
    Metric("connections_abandoned", "abandoned", "database", "counter", "connections", "lower",
           "Connections that ended without GOODBYE, if something in front of the server records that."),
)
_TASKS = (
    Metric("drivers_created", "drivers created", "tasks", "counter", "drivers", "lower",
           "Drivers that the tasks report to have made, summed over the tasks."),
    Metric("start_seconds", "start to first line, median", "tasks", "histogram", "s", "lower",
           "Airflow's start of a task to the first line of the workload, the import of the driver included; median "
           "over the tasks.", _PRELOAD),
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
    Metric("scheduled_seconds", "scheduled to started, median", "executor", "histogram", "s", "lower",
           "Scheduled (Airflow's scheduled_dttm) to started, the wait for a slot included; median over the tasks.",
           _EXECUTORS),
    Metric("scheduled_seconds_p90", "scheduled to started, p90", "executor", "histogram", "s", "lower",
           "The 90th percentile over the tasks of the same times as scheduled_seconds."),
    Metric("queued_seconds", "queued, median", "executor", "histogram", "s", "lower",
           "Queued to started; median over the tasks. The executors queue at different moments: no contrast."),
    Metric("queued_seconds_p90", "queued, p90", "executor", "histogram", "s", "lower",
           "The 90th percentile over the tasks of the same times as queued_seconds."),
    Metric("makespan_seconds", "makespan", "executor", "scalar", "s", "lower",
           "First mapped task queued to last mapped task ended: the makespan window.", _BOTH | _PRELOAD),
)



def _cpu(name: str, label: str, whose: str, contrasts: frozenset[Between] = frozenset()) -> Metric:
    return Metric(name, label, "machine", "counter", "s", "lower", f"Processor seconds of {whose}, per task.",
                  contrasts)


_MACHINE = (
    _cpu("cpu_per_task", "processor, all", "all services but Flower, and of the tasks", _BOTH | _PRELOAD),
    _cpu("cpu_tasks", "processor, tasks", "the task processes, from their fork to their end", _BOTH | _PRELOAD),
    _cpu("cpu_scheduler", "processor, scheduler", "the scheduler, with LocalExecutor's own processes", _BOTH),
    _cpu("cpu_api_server", "processor, API server", "the API server", _BOTH),
    _cpu("cpu_dag_processor", "processor, DAG processor", "the DAG processor"),
    _cpu("cpu_worker", "processor, worker", "the Celery worker and its pool, task processes and driver host apart"),
    _cpu("cpu_driver_host", "processor, driver host", "the driver host"),
    _cpu("cpu_neo4j", "processor, Neo4j", "Neo4j", _BOTH),
    _cpu("cpu_postgres", "processor, Postgres", "Postgres", _BOTH),
    _cpu("cpu_redis", "processor, Redis", "Redis"),
    _cpu("cpu_flower", "processor, Flower", "Flower, which is in no sum"),
    _cpu("cpu_probe", "processor, probe", "the rig itself, its probe, its tap and its polls, which are in no sum"),
)

METRICS: tuple[Metric, ...] = _DATABASE + _TASKS + _EXECUTOR + _MACHINE

CONDITIONS: tuple[Metric, ...] = (
    Metric("concurrency_reached", "tasks at once", "conditions", "scalar", "tasks", None,
           "The most tasks between start and end at one moment."),
    Metric("worker_processes", "worker processes", "conditions", "scalar", "processes", None,
           "Distinct parent processes of the tasks, by host and process id."),
    Metric("concurrency_mean", "tasks at once, mean", "conditions", "scalar", "tasks", None,
           "The tasks' seconds between start and end, summed and divided by the makespan window."),
    Metric("cpu_pressure", "waiting for a processor", "conditions", "gauge", "share", None,
           "The share of the time in which something on this machine waited for a processor (PSI)."),
    Metric("cpu_steal", "steal", "conditions", "gauge", "share", None,
           "The share of the processors' time that other guests of the host took."),
    Metric("load_mean", "load", "conditions", "gauge", "processes", None,
           "The load average over a minute, the mean of those before and after the DAG run."),
    Metric("cpu_unattributed", "processor, others", "conditions", "counter", "s", None,
           "Processor seconds of the machine that are in no service's: other programs, the kernel, and processes that "
           "nobody waited for."),
)

BY_NAME: dict[str, Metric] = {metric.name: metric for metric in METRICS + CONDITIONS}
