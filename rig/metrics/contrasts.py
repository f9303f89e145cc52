"""Contrasts of cells: each pattern with ``problematic``, and CeleryExecutor with LocalExecutor."""

from collections.abc import Iterator, Sequence

from rig.metrics import intervals
from rig.metrics.intervals import Number
from rig.metrics.model import CellSummary, Contrast, MetricSummary, Side
from rig.metrics.registry import METRICS, Between, Metric

BASELINE_PATTERN = "problematic"
BASELINE_EXECUTOR = "LocalExecutor"


def contrasts(cells: Sequence[CellSummary], seed: int) -> list[Contrast]:
    """Return every contrast of the run, pairs in the order of the cells."""
    return [_contrast(metric, between, baseline, contender, seed)
            for between, baseline, contender in _pairs(cells)
            for metric in METRICS if between in metric.contrasts]


def _pairs(cells: Sequence[CellSummary]) -> Iterator[tuple[Between, CellSummary, CellSummary]]:
    alike = [(a, b) for a in cells for b in cells if a is not b and _work(a) == _work(b)]
    for a, b in alike:
        if a.executor == b.executor and (a.pattern, a.relay) == (BASELINE_PATTERN, "none"):
            yield "patterns", a, b
    for a, b in alike:
        if _way(a) == _way(b) and a.executor == BASELINE_EXECUTOR != b.executor:
            yield "executors", a, b


def _way(cell: CellSummary) -> tuple[object, ...]:
    return cell.pattern, cell.relay, cell.warm


def _work(cell: CellSummary) -> tuple[object, ...]:
    return cell.tasks, cell.calls_per_task, cell.hold_seconds, cell.driver


def _contrast(metric: Metric, between: Between, baseline: CellSummary, contender: CellSummary,
              seed: int) -> Contrast:
    a, b = baseline.metrics[metric.name], contender.metrics[metric.name]
    reason = _why_not(a, b)
    key = (seed, metric.name, *side(baseline).model_dump().values(), *side(contender).model_dump().values())
    interval = None if reason else intervals.of_ratio(known(b.raw), known(a.raw), intervals.generator(*key))
    return Contrast(
        metric=metric.name, unit=metric.unit, better=metric.better, between=between,
        baseline=side(baseline), contender=side(contender),
        baseline_median=a.median, contender_median=b.median,
        difference=_difference(a, b), ratio=None if reason else _ratio(a, b), reason=reason,
        ci95=None if interval is None else (round(interval[0], 4), round(interval[1], 4)),
        ci95_reason=None if interval else reason or _why_no_interval(a, b))


def side(cell: CellSummary) -> Side:
    """Return what names a cell."""
    return Side(executor=cell.executor, pattern=cell.pattern, relay=cell.relay,
                driver=cell.driver, warm=cell.warm)


def known(raw: Sequence[Number | None]) -> list[Number]:
    """Return the repeats that were measured."""
    return [value for value in raw if value is not None]


def _why_not(baseline: MetricSummary, contender: MetricSummary) -> str | None:
    if baseline.median is None:
        return "the baseline was not measured"
    if contender.median is None:
        return "the contender was not measured"
    if baseline.lower_bound or contender.lower_bound:
        return "only a lower bound is known"
    return "the baseline is 0" if baseline.median == 0 else None


def _why_no_interval(baseline: MetricSummary, contender: MetricSummary) -> str:
    least = min(len(known(baseline.raw)), len(known(contender.raw)))
    if least < intervals.LEAST_REPEATS:
        return intervals.too_few(least)
    return "the baseline was 0 in a repeat"


def _difference(baseline: MetricSummary, contender: MetricSummary) -> Number | None:
    if baseline.median is None or contender.median is None or baseline.lower_bound or contender.lower_bound:
        return None
    return round(contender.median - baseline.median, 6)


def _ratio(baseline: MetricSummary, contender: MetricSummary) -> float | None:
    if baseline.median is None or contender.median is None:
        return None
    return round(contender.median / baseline.median, 4)
