"""The outcome of each DAG run: whether it counts as a measurement, and what failed in it."""

from collections import Counter
from collections.abc import Iterator, Mapping
from statistics import median

from rig.metrics import gauges, rows
from rig.metrics.figures import Figure
from rig.metrics.model import DagRunSummary, SamplerShare
from rig.metrics.raw import Repeat
from rig.metrics.redact import text
from rig.records import RunRecord


def failure(repeat: Repeat, run: RunRecord) -> str | None:
    """Return why a DAG run does not count as a measurement; None if it does."""
    record = repeat.record
    if record is not None and record.state == "success":
        return None
    if record is not None:
        return f"{record.state}: {record.reason or 'no reason recorded'}"
    if repeat.samples or repeat.tasks:
        return "the rig ended before this DAG run did"
    return f"not run: the run is {run.status}" + (f" ({run.reason})" if run.reason else "")


def dag_run(repeat: Repeat, run: RunRecord, figures: Mapping[str, Figure]) -> DagRunSummary:
    """Return the entry of one DAG run in the summary."""
    record, cell = repeat.record, repeat.cell
    reason = record.reason if record else failure(repeat, run)
    return DagRunSummary(
        executor=cell.executor, pattern=cell.pattern, relay=cell.relay, driver=cell.driver, warm=cell.warm,
        control=cell.control, preload=cell.preload, index=repeat.planned.index,
        block=repeat.planned.block, dag_run_id=record.dag_run_id if record else None,
        state=record.state if record else "not run", reason=text(reason) if reason else None,
        tasks=cell.tasks, tasks_recorded=len(repeat.tasks), tasks_succeeded=succeeded(repeat),
        tasks_wrong=wrong(repeat), tasks_retried=sum(task.try_number > 1 for task in repeat.tasks),
        task_failures=_task_failures(repeat), doubts=_doubts(repeat, figures),
        others=record.others if record else None, counted_by=record.counted_by if record else None,
        sampler=_sampler(repeat),
        figures={name: figure.value for name, figure in figures.items()},
        missing={name: figure.reason for name, figure in figures.items() if figure.reason})


def succeeded(repeat: Repeat) -> int:
    """Return how many tasks succeeded, according to Airflow."""
    return sum(task.state == "success" for task in repeat.tasks)


def wrong(repeat: Repeat) -> int:
    """Return how many tasks report a nonce that did not come back."""
    return sum(rows.is_wrong(task.row) for task in repeat.tasks)


def _task_failures(repeat: Repeat) -> dict[str, int]:
    """Return the reasons of the tasks that did not succeed, with the number of tasks for each."""
    failed = [task for task in repeat.tasks if task.state != "success"]
    reasons = Counter(f"{task.state or 'no state'}: {task.reason or 'no reason recorded'}" for task in failed)
    return {text(reason): count for reason, count in reasons.most_common()}


def _doubts(repeat: Repeat, figures: Mapping[str, Figure]) -> list[str]:
    """Return contradictions: each used driver has a connection, and the tap and the ids have the same count."""
    return [*_more_drivers(repeat, figures), *_past_the_tap(repeat)]


def _more_drivers(repeat: Repeat, figures: Mapping[str, Figure]) -> Iterator[str]:
    drivers, opened = figures["drivers_created"].value, figures["connections_opened"]
    if repeat.cell.relay != "none" or drivers is None or opened.value is None or opened.at_least:
        return
    if drivers > opened.value:
        counter = "tap" if repeat.record and repeat.record.counted_by == "tap" else "server"
        yield f"the tasks report {drivers} drivers, the {counter} counted {opened.value} connections"


def _past_the_tap(repeat: Repeat) -> Iterator[str]:
    record = repeat.record
    if record and record.counted_by == "tap" and record.ids_opened not in {None, record.opened}:
        yield (f"the tap counted {record.opened} connections, and by the server's ids it accepted {record.ids_opened}: "
               "others connect to it past the tap, or not all that the tap has opened came to the server")


def _sampler(repeat: Repeat) -> SamplerShare:
    probe = repeat.record.probe if repeat.record else None
    between = gauges.intervals(repeat.samples) if repeat.clock_step is None else []
    return SamplerShare(
        samples=len(repeat.samples),
        interval_median=_rounded(probe.interval_median if probe else median(between) if between else None),
        interval_p95=_rounded(probe.interval_p95 if probe else None),
        interval_longest=_rounded(max(between, default=None)),
        connections=probe.connections if probe else None, queries=probe.queries if probe else None,
        cpu_seconds=_rounded(probe.cpu_seconds if probe else None))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
