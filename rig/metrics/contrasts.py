"""Contrasts of cells: each pattern with ``problematic``, CeleryExecutor with LocalExecutor, preloaded or not, itself.

Cold cells are contrasted with cold ones and warm cells with warm ones, block by block. Preloaded cells are contrasted
with each other, and with their twins that are not; else what preloading saves would be credited to something else.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from patterns.facts import Executor
from rig.metrics import intervals
from rig.metrics.intervals import Interval, Number, Pair, Said
from rig.metrics.model import CellSummary, Contrast, Family, MetricSummary, Side
from rig.metrics.registry import METRICS, PRIMARY, Between, Metric

BASELINE_PATTERN = "problematic"
BASELINE_EXECUTOR = "LocalExecutor"
PRIMARY_WAYS = (("improved", "none"), ("worker", "process"), ("worker", "shared"))
"""What is compared with ``problematic`` in the primary contrasts: on CeleryExecutor ``worker`` by ``process`` alone."""


class Planned(NamedTuple):
    """A contrast in the plan, and the family with which it is corrected."""

    metric: Metric
    between: Between
    family: Family
    baseline: CellSummary
    contender: CellSummary


def contrasts(cells: Sequence[CellSummary]) -> list[Contrast]:
    """Return every contrast of the run, with pairs in the order of the cells.

    The families follow from the plan alone, so no measurement decides what is corrected together.
    """
    planned = [Planned(metric, between, _family(metric, between, contender), baseline, contender)
               for between, baseline, contender in _pairs(cells)
               for metric in METRICS if between in metric.contrasts]
    sizes = Counter(one.family for one in planned)
    found = [_contrast(one, sizes[one.family]) for one in planned]
    floors = {(one.metric, *_place(one.baseline)): one.range for one in found if one.between == "control"}
    return [one.model_copy(update={"noise_floor": _floor(one, floors)}) for one in found]


def _pairs(cells: Sequence[CellSummary]) -> Iterator[tuple[Between, CellSummary, CellSummary]]:
    pairs = [(a, b) for a in cells for b in cells if a is not b and _work(a) == _work(b) and not a.control]
    for between, is_meant in _CONTRASTED.items():
        yield from ((between, a, b) for a, b in pairs if is_meant(a, b))


def _are_patterns(a: CellSummary, b: CellSummary) -> bool:
    return _place(a) == _place(b) and not b.control and _way(a) == (BASELINE_PATTERN, "none")


def _are_executors(a: CellSummary, b: CellSummary) -> bool:
    return (_way(a) == _way(b) and a.preload == b.preload and not b.control
            and a.executor == BASELINE_EXECUTOR != b.executor)


def _are_preload(a: CellSummary, b: CellSummary) -> bool:
    return _way(a) == _way(b) and a.executor == b.executor and not b.control and b.preload and not a.preload


def _are_control(a: CellSummary, b: CellSummary) -> bool:
    return _way(a) == _way(b) and _place(a) == _place(b) and b.control


_CONTRASTED: Mapping[Between, Callable[[CellSummary, CellSummary], bool]] = {
    "patterns": _are_patterns, "executors": _are_executors, "preload": _are_preload, "control": _are_control}


def _way(cell: CellSummary) -> tuple[object, ...]:
    return cell.pattern, cell.relay


def _work(cell: CellSummary) -> tuple[object, ...]:
    return cell.tasks, cell.calls_per_task, cell.hold_seconds, cell.driver, cell.warm


def _family(metric: Metric, between: Between, contender: CellSummary) -> Family:
    if between in {"preload", "control"}:
        return between
    is_usual = contender.executor == BASELINE_EXECUTOR or contender.relay != "shared"
    named = between == "patterns" and _way(contender) in PRIMARY_WAYS and is_usual and contender.driver == "sync" \
        and not contender.preload
    return "primary" if named and metric.name in PRIMARY else "secondary"


def _contrast(planned: Planned, size: int) -> Contrast:
    metric, baseline, contender = planned.metric, planned.baseline, planned.contender
    a, b = baseline.metrics[metric.name], contender.metrics[metric.name]
    reason, pairs, level = _why_not(a, b), _by_block(baseline, contender, metric.name), intervals.corrected(size)
    found = None if reason else intervals.ratios(pairs)
    ends = intervals.of_ratio(found, level) if found else None
    said, why_silent = _verdict(a, b, pairs, ends, level)
    return Contrast(
        metric=metric.name, unit=metric.unit, better=metric.better, between=planned.between,
        family=planned.family, family_size=size, blocks=len(pairs),
        baseline=side(baseline), contender=side(contender), baseline_median=a.median, contender_median=b.median,
        difference=_difference(a, b), ratio=None if reason else _ratio(a, b, found), reason=reason,
        range=_rounded(intervals.range_of(found) if found else None), ci95=_rounded(ends), level=round(level, 6),
        ci95_reason=None if ends else reason or _why_no_interval(pairs),
        verdict=said and said.verdict, at_most=said and said.at_most, verdict_reason=why_silent, noise_floor=None)


def side(cell: CellSummary) -> Side:
    """Return the description of a cell as a side of a contrast."""
    return Side(executor=cell.executor, pattern=cell.pattern, relay=cell.relay,
                driver=cell.driver, warm=cell.warm, control=cell.control, preload=cell.preload)


def known(raw: Sequence[Number | None]) -> list[Number]:
    """Return the repeats that were measured."""
    return [value for value in raw if value is not None]


def _by_block(baseline: CellSummary, contender: CellSummary, metric: str) -> list[Pair]:
    """Return the contender and the baseline of each block in which both were measured."""
    before, after = (dict(zip(cell.blocks, cell.metrics[metric].raw, strict=True)) for cell in (baseline, contender))
    return [(b, a) for block in sorted(before.keys() & after.keys())
            if (a := before[block]) is not None and (b := after[block]) is not None]


def _verdict(baseline: MetricSummary, contender: MetricSummary, pairs: Sequence[Pair], ends: Interval | None,
             level: float) -> tuple[Said | None, str | None]:
    """Return the verdict, or why there is none; if a value is 0, it is based on differences."""
    if baseline.median is None or contender.median is None or baseline.lower_bound or contender.lower_bound:
        return None, _why_not(baseline, contender)
    if ends is not None:
        return intervals.verdict_of_ratio(ends), None
    difference = intervals.of_difference(pairs, level)
    if difference is None:
        return None, intervals.too_few(len(pairs), "complete blocks")
    return intervals.verdict_of_difference(difference), None


def _place(cell: Side) -> tuple[Executor, bool]:
    return cell.executor, cell.preload


def _floor(one: Contrast, floors: Mapping[tuple[str, Executor, bool], Interval | None]) -> float | None:
    """Return the larger of both sides' floors: the largest factor between a cell and itself, less 1."""
    ranges = [floors.get((one.metric, *place)) for place in {_place(one.baseline), _place(one.contender)}]
    of_each = [max(high, 1 / low) - 1 for low, high in filter(None, ranges)]
    return round(max(of_each), 4) if len(of_each) == len(ranges) else None


def _why_not(baseline: MetricSummary, contender: MetricSummary) -> str | None:
    if baseline.median is None:
        return "the baseline was not measured"
    if contender.median is None:
        return "the contender was not measured"
    if baseline.lower_bound or contender.lower_bound:
        return "only a lower bound is known"
    return "the baseline is 0" if baseline.median == 0 else None


def _why_no_interval(pairs: Sequence[Pair]) -> str:
    if len(pairs) < intervals.LEAST_BLOCKS:
        return intervals.too_few(len(pairs), "complete blocks")
    return "a value was 0 in a block"


def _difference(baseline: MetricSummary, contender: MetricSummary) -> Number | None:
    if baseline.median is None or contender.median is None or baseline.lower_bound or contender.lower_bound:
        return None
    return round(contender.median - baseline.median, 6)


def _ratio(baseline: MetricSummary, contender: MetricSummary, found: Sequence[float] | None) -> float | None:
    if found:
        return round(intervals.geometric_mean(found), 4)
    if baseline.median is None or contender.median is None:
        return None
    return round(contender.median / baseline.median, 4)


def _rounded(ends: Interval | None) -> Interval | None:
    return None if ends is None else (round(ends[0], 4), round(ends[1], 4))
