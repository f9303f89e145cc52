"""A DAG run's figures: each metric of the registry from the raw files of one DAG run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from rig import clock
from rig.metrics import gauges, leaks, machine, rows
from rig.metrics.counting import ids_count, seen_ids, still_open
from rig.metrics.gauges import all_tasks, times
from rig.metrics.intervals import Number
from rig.metrics.missing import Missing
from rig.metrics.raw import Repeat
from rig.metrics.registry import CONDITIONS, METRICS, Metric
from rig.percentile import least_for, percentile
from rig.records import DagRunRecord, TaskRecord

# All other figures are computed from times that were read from the wall clock, or from samples, which are in its order.
_CLOCKLESS = frozenset({
    "connections_opened", "connections_abandoned", "drivers_created", "first_result_seconds",
    "first_result_seconds_p90", "call_seconds", "call_seconds_p90", "tasks_wrong", "worker_processes", "load_mean",
    "cpu_steal", "cpu_unattributed", "cpu_per_task", *machine.SERVICES})

DIGITS = 6
"""Figures are rounded to the microsecond, although no clock here is that exact."""


@dataclass(frozen=True)
class Figure:
    """The value of one metric in one DAG run; None with its reason if there is none."""

    value: Number | None
    reason: str | None = None
    at_least: bool = False


def figures(repeat: Repeat) -> dict[str, Figure]:
    """Return every figure of a DAG run, however it ended."""
    return {metric.name: _figure(metric, repeat) for metric in METRICS + CONDITIONS}


def clock_problem(metric: str, repeat: Repeat) -> str | None:
    """Return why the clocks of a DAG run are not good enough for a metric, None if they are."""
    if repeat.clock_step is None or metric in _CLOCKLESS:
        return None
    return clock.was_set(repeat.clock_step, "DAG run")


def _figure(metric: Metric, repeat: Repeat) -> Figure:
    try:
        if problem := clock_problem(metric.name, repeat):
            raise Missing(problem)
        value = _MEASURES[metric.name](repeat)
    except Missing as missing:
        return Figure(None, str(missing))
    at_least = metric.name in _IS_EXACT and not _IS_EXACT[metric.name](_record(repeat))
    return Figure(round(value, DIGITS) if isinstance(value, float) else value, at_least=at_least)


def _record(repeat: Repeat) -> DagRunRecord:
    if repeat.record is None:
        raise Missing("the DAG run was not recorded")
    return repeat.record


def _opened(repeat: Repeat) -> Number:
    record = _record(repeat)
    if record.opened is None:
        raise Missing(record.opened_reason or "the count at the server is missing")
    return record.opened


def _closed(repeat: Repeat) -> Number:
    opened, record = _opened(repeat), _record(repeat)
    gauges.some_samples(repeat)
    # From samples alone, only connections that were seen can be known to be gone.
    total = opened if ids_count(record) else len(seen_ids(repeat, record))
    return total - still_open(repeat, record)


def _abandoned(_: Repeat) -> Number:
    raise Missing("nothing in front of the server records how a connection ended")


def _seconds(repeat: Repeat, start: Callable[[TaskRecord], float | None], start_name: str,
             end: Callable[[TaskRecord], float | None], end_name: str) -> list[float]:
    tasks = all_tasks(repeat)
    starts, ends = times(tasks, start, start_name), times(tasks, end, end_name)
    return [later - earlier for earlier, later in zip(starts, ends, strict=True)]


def _task_seconds(repeat: Repeat) -> list[float]:
    return _seconds(repeat, lambda t: t.started_at, "start", lambda t: t.ended_at, "end")


def _queued_seconds(repeat: Repeat) -> list[float]:
    return _seconds(repeat, lambda t: t.queued_at, "queued time", lambda t: t.started_at, "start")


def _scheduled_seconds(repeat: Repeat) -> list[float]:
    return _seconds(repeat, lambda t: t.scheduled_at, "scheduled time", lambda t: t.started_at, "start")


def _start_seconds(repeat: Repeat) -> list[float]:
    return _seconds(repeat, lambda t: t.started_at, "start", _first_line, "first line")


def _first_line(task: TaskRecord) -> float | None:
    return task.row.get("started") if task.row else None


def _kept(repeat: Repeat) -> Number:
    return gauges.idle_seconds_kept(repeat, leaks.kept_by_a_shared_driver(repeat))


def _mean_concurrency(repeat: Repeat) -> Number:
    window = gauges.makespan_window(repeat)
    if window.seconds <= 0:
        raise Missing("the makespan window has no length")
    return sum(_task_seconds(repeat)) / window.seconds


def _concurrency(repeat: Repeat) -> int:
    """Return the most tasks between start and end at one moment. A task that ends as another starts is over."""
    tasks = all_tasks(repeat)
    steps = sorted([(start, 1) for start in times(tasks, lambda t: t.started_at, "start")]
                   + [(end, -1) for end in times(tasks, lambda t: t.ended_at, "end")])
    now = most = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most


def _wrong(repeat: Repeat) -> int:
    if not repeat.tasks:
        raise Missing("no task was recorded")
    return sum(rows.is_wrong(task.row) for task in repeat.tasks)


def _over(statistic: Callable[[Sequence[Number]], Number], values: Callable[[Repeat], Sequence[Number]],
          ) -> Callable[[Repeat], Number]:
    return lambda repeat: statistic(values(repeat))


def _tail(values: Sequence[Number]) -> Number:
    if values and len(values) < least_for(90):
        raise Missing(f"{len(values)} of {least_for(90)} values needed for a 90th percentile")
    return percentile(values, 90)


def _first_results(repeat: Repeat) -> Sequence[Number]:
    return rows.numbers(repeat, "first_result_seconds")


# Of these there may be more than was counted. A tap counts what was opened, and does not say what is gone.
_IS_EXACT: Mapping[str, Callable[[DagRunRecord], bool]] = {
    "connections_opened": lambda record: record.opened_exact, "connections_closed": ids_count}

_MEASURES: Mapping[str, Callable[[Repeat], Number]] = {
    "connections_opened": _opened,
    "connections_closed": _closed,
    "connections_peak": lambda repeat: gauges.peak(repeat, gauges.open_),
    "connections_mean": lambda repeat: gauges.mean(repeat, gauges.open_),
    "connections_idle": lambda repeat: gauges.mean(repeat, gauges.idle),
    "connections_idle_peak": lambda repeat: gauges.peak(repeat, gauges.idle),
    "connections_running": lambda repeat: gauges.mean(repeat, gauges.running),
    "idle_connection_seconds": gauges.idle_seconds,
    "idle_connection_seconds_kept": _kept,
    "connections_left_5s": lambda repeat: leaks.left(repeat, 5),
    "connections_left_30s": lambda repeat: leaks.left(repeat, 30),
    "connections_abandoned": _abandoned,
    "drivers_created": lambda repeat: sum(rows.numbers(repeat, "drivers_created")),
    "start_seconds": _over(median, _start_seconds),
    "first_result_seconds": _over(median, _first_results),
    "first_result_seconds_p90": _over(_tail, _first_results),
    "call_seconds": _over(median, rows.later_calls),
    "call_seconds_p90": _over(_tail, rows.later_calls),
    "task_seconds": _over(median, _task_seconds),
    "tasks_wrong": _wrong,
    "scheduled_seconds": _over(median, _scheduled_seconds),
    "scheduled_seconds_p90": _over(_tail, _scheduled_seconds),
    "queued_seconds": _over(median, _queued_seconds),
    "queued_seconds_p90": _over(_tail, _queued_seconds),
    "makespan_seconds": lambda repeat: gauges.makespan_window(repeat).seconds,
    "concurrency_reached": _concurrency,
    "worker_processes": rows.worker_processes,
    "concurrency_mean": _mean_concurrency,
    **machine.MEASURES,
}
