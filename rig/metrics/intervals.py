"""Intervals by bootstrap over DAG runs, reproducible by the run's seed.

The tasks of one DAG run share its luck, so it is DAG runs that are drawn again, never tasks.
"""

from collections.abc import Callable, Sequence
from random import Random
from statistics import median

from rig.percentile import percentile

LEAST_REPEATS = 3
RESAMPLES = 2000

Number = int | float
Interval = tuple[float, float]


def generator(*key: object) -> Random:
    """Return a generator of its own for one figure: a metric that is added leaves the others as they were."""
    return Random("|".join(map(str, key)))  # noqa: S311 - statistics, no secret


def too_few(measured: int) -> str:
    """Return why there is no interval."""
    return f"{measured} of {LEAST_REPEATS} repeats needed"


def of_median(values: Sequence[Number], random: Random) -> Interval | None:
    """Return the 95 % percentile interval of the median, None with fewer than three repeats."""
    if len(values) < LEAST_REPEATS:
        return None
    return _percentiles(lambda: median(_again(values, random)))


def of_ratio(contender: Sequence[Number], baseline: Sequence[Number], random: Random) -> Interval | None:
    """Return the 95 % interval of the ratio of medians, the two cells drawn independently of each other.

    None with fewer than three repeats in a cell, and where a baseline of 0 can be drawn.
    """
    if min(len(contender), len(baseline)) < LEAST_REPEATS or min(baseline) <= 0:
        return None
    return _percentiles(lambda: median(_again(contender, random)) / median(_again(baseline, random)))


def _again(values: Sequence[Number], random: Random) -> Sequence[Number]:
    return random.choices(values, k=len(values))


def _percentiles(draw: Callable[[], Number]) -> Interval:
    drawn = [draw() for _ in range(RESAMPLES)]
    return percentile(drawn, 2.5), percentile(drawn, 97.5)
