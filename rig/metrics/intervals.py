"""Intervals over DAG runs: exact under their assumptions, and the verdicts that they allow.

The tasks of one DAG run share its conditions, so the unit is always a DAG run, never a task. Cells are compared block
by block: what slows the machine down for a while slows down a whole block.
"""

from collections.abc import Sequence
from math import exp, log, sqrt
from statistics import mean, stdev
from typing import Literal, NamedTuple

from scipy import special

LEAST_BLOCKS = 6
"""The fewest values whose range contains their median with 95 %: 1 - 2 / 2^6 is 96.9 %, 1 - 2 / 2^5 is 93.8 %."""

LEVEL = 0.95

TELLING = 0.25
"""A share of 1. If not even a difference of this size can be ruled out, the figures are too noisy to say."""

Number = int | float
Interval = tuple[float, float]
Pair = tuple[Number, Number]        # a block's contender and baseline
Verdict = Literal["lower", "higher", "no difference larger than", "too noisy to say"]


class Said(NamedTuple):
    """A verdict. ``at_most`` is the largest difference that is not ruled out, as a share of 1."""

    verdict: Verdict
    at_most: float | None = None

    def __str__(self) -> str:
        # The space is not broken, so that a number and its unit stay in one line of a page.
        return self.verdict if self.at_most is None else f"{self.verdict} {100 * self.at_most:.0f}\N{NO-BREAK SPACE}%"


def too_few(measured: int, what: str = "repeats") -> str:
    """Return why there is no interval."""
    return f"{measured} of {LEAST_BLOCKS} {what} needed"


def range_of(values: Sequence[Number]) -> Interval | None:
    """Return the lowest and the highest of two values or more."""
    return (min(values), max(values)) if len(values) > 1 else None


def of_median(values: Sequence[Number]) -> Interval | None:
    """Return an interval that contains the median with at least 95 %; None for fewer than six values.

    It is exact for any distribution: the k-th lowest and the k-th highest value, by the binomial distribution (Conover,
    Practical Nonparametric Statistics, 3.2).
    """
    ordered, count = sorted(values), len(values)
    if count < LEAST_BLOCKS:
        return None
    cut = 0
    while special.bdtr(cut, count, 0.5) <= (1 - LEVEL) / 2:
        cut += 1
    return ordered[cut - 1], ordered[count - cut]


def corrected(family: int) -> float:
    """Return the level at which ``family`` intervals all hold together with 95 % (Bonferroni)."""
    return 1 - (1 - LEVEL) / max(1, family)


def ratios(pairs: Sequence[Pair]) -> list[float] | None:
    """Return the ratio of each block; None if a value is not above 0."""
    return [contender / baseline for contender, baseline in pairs] if all(min(pair) > 0 for pair in pairs) else None


def of_ratio(found: Sequence[float], level: float) -> Interval | None:
    """Return the interval of the geometric mean of ratios: a paired t on their logarithms. None below six blocks."""
    ends = _student([log(ratio) for ratio in found], level)
    return None if ends is None else (_exp(ends[0]), _exp(ends[1]))


def of_difference(pairs: Sequence[Pair], level: float) -> Interval | None:
    """Return the interval of the mean difference of pairs: a paired t. None below six blocks."""
    return _student([contender - baseline for contender, baseline in pairs], level)


def geometric_mean(found: Sequence[float]) -> float:
    """Return the geometric mean of ratios; their interval lies around it."""
    return exp(mean(map(log, found)))


def verdict_of_ratio(ends: Interval) -> Said:
    """Return the verdict that the interval of a ratio allows."""
    low, high = ends
    if high < 1:
        return Said("lower")
    if low > 1:
        return Said("higher")
    at_most = max(high, 1 / low if low else float("inf")) - 1
    return Said("no difference larger than", at_most) if at_most <= TELLING else Said("too noisy to say")


def verdict_of_difference(ends: Interval) -> Said:
    """Return the verdict that the interval of a difference allows, when there is no ratio to measure its size."""
    low, high = ends
    if high < 0:
        return Said("lower")
    if low > 0:
        return Said("higher")
    return Said("no difference larger than", 0.0) if low == high else Said("too noisy to say")


def _student(values: Sequence[float], level: float) -> Interval | None:
    count = len(values)
    if count < LEAST_BLOCKS:
        return None
    half = float(special.stdtrit(count - 1, (1 + level) / 2)) * stdev(values) / sqrt(count)
    return mean(values) - half, mean(values) + half


def _exp(value: float) -> float:
    return exp(min(value, 700.0))       # above this, a float overflows: far too noisy, but not an error
