"""From the raw files to the summary."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from rig.metrics import intervals, rows
from rig.metrics.contrasts import contrasts, known
from rig.metrics.demo_claim import seed_claim
from rig.metrics.figures import DIGITS, Figure, figures
from rig.metrics.model import CellSummary, MetricSummary, Summary
from rig.metrics.outcome import dag_run, failure, succeeded, wrong
from rig.metrics.raw import RawRun, Repeat, load
from rig.metrics.redact import redacted, text
from rig.metrics.registry import CONDITIONS, METRICS, Metric
from rig.metrics.unsaid import unsaid
from rig.records import Cell, RunRecord

Figures = Mapping[int, dict[str, Figure]]


def summarise(folder: Path) -> Summary:
    """Return the summary of a run's folder. Raises BadInput if the folder contains no readable run."""
    return summary_of(load(folder))


def summary_of(raw: RawRun) -> Summary:
    """Return the summary of raw files that have been read already."""
    run = raw.record
    found = {repeat.planned.index: figures(repeat) for repeat in raw.repeats}
    drivers = rows.driver_versions(raw.repeats)
    cells = [_cell(cell, repeats, run, found) for cell, repeats in raw.cells().items()]
    return Summary(
        run=run.run, profile=run.profile, seed=run.seed, status=run.status,
        reason=text(run.reason) if run.reason else None, started_at=run.started_at, ended_at=run.ended_at,
        command=text(run.command), slots=run.slots, environment=redacted(run.environment),
        driver_versions=drivers,
        cells=cells, contrasts=contrasts(cells),
        dag_runs=[dag_run(repeat, run, found[repeat.planned.index]) for repeat in raw.repeats],
        unsaid=unsaid(run.plan), seed_claim=seed_claim(run, cells, drivers))


def _cell(cell: Cell, repeats: Sequence[Repeat], run: RunRecord, found: Figures) -> CellSummary:
    metrics = {metric.name: _metric(metric, repeats, run, found) for metric in METRICS}
    conditions = {metric.name: _metric(metric, repeats, run, found) for metric in CONDITIONS}
    return CellSummary(
        executor=cell.executor, pattern=cell.pattern, relay=cell.relay, driver=cell.driver, warm=cell.warm,
        control=cell.control, preload=cell.preload, purpose=cell.purpose,
        blocks=[repeat.planned.block for repeat in repeats],
        tasks=cell.tasks, calls_per_task=cell.calls, hold_seconds=cell.hold, repeats=len(repeats),
        repeats_measured=sum(failure(repeat, run) is None for repeat in repeats),
        tasks_succeeded=sum(map(succeeded, repeats)), tasks_wrong=sum(map(wrong, repeats)),
        worker_processes=conditions["worker_processes"].median,
        concurrency_reached=conditions["concurrency_reached"].median,
        conditions=conditions, metrics=metrics)


def _metric(metric: Metric, repeats: Sequence[Repeat], run: RunRecord, found: Figures) -> MetricSummary:
    of = [_counted(metric, repeat, run, found[repeat.planned.index][metric.name]) for repeat in repeats]
    values = known([figure.value for figure in of])
    at_least = any(figure.at_least for figure in of)
    interval = None if at_least else intervals.of_median(values)
    return MetricSummary(
        unit=metric.unit, better=metric.better, kind=metric.kind, raw=[figure.value for figure in of],
        median=_median(values), lower_bound=at_least, reason=_reasons(of), range=intervals.range_of(values),
        ci95=interval,
        ci95_reason=None if interval else _why_no_interval(values, at_least))


def _median(values: Sequence[intervals.Number]) -> intervals.Number | None:
    middle = median(values) if values else None
    return round(middle, DIGITS) if isinstance(middle, float) else middle


def _counted(metric: Metric, repeat: Repeat, run: RunRecord, figure: Figure) -> Figure:
    """Return the figure as it counts for its cell: a DAG run that failed is not a measurement."""
    reason = failure(repeat, run)
    stands = reason is None or (metric.of_failed_runs and figure.value is not None)
    return figure if stands else Figure(None, reason)


def _reasons(of: Sequence[Figure]) -> str | None:
    """Return why repeats are missing: once if the reason is the same for all, else for each repeat."""
    reasons = [text(figure.reason) if figure.reason else None for figure in of]
    if len(set(reasons)) == 1:
        return reasons[0]
    return "; ".join(f"repeat {number}: {reason}" for number, reason in enumerate(reasons, 1) if reason)


def _why_no_interval(values: Sequence[intervals.Number], at_least: bool) -> str:
    return "only a lower bound is known" if at_least else intervals.too_few(len(values))
