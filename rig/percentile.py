"""Percentiles, by one definition everywhere. Of too few values there is none, but their maximum."""

from collections.abc import Iterable, Sequence
from math import ceil
from statistics import StatisticsError, quantiles

_CUTS = 1000
_ROUNDING = 1e-9


def percentile(values: Iterable[float], percent: float) -> float:
    """Return the value below which ``percent`` percent of the values lie. It goes from 0.1 to 99.9, in tenths.

    The method is linear interpolation between the two nearest values, the default of ``numpy.percentile``: definition 7
    of Hyndman and Fan, Sample Quantiles in Statistical Packages, The American Statistician 50 (1996). Raises
    StatisticsError if there are no values, as ``statistics.median`` does.
    """
    ordered = sorted(values)
    if not ordered:
        raise StatisticsError("no percentile for empty data")
    if len(ordered) == 1:
        return ordered[0]
    return quantiles(ordered, n=_CUTS, method="inclusive")[round(percent * _CUTS / 100) - 1]


def percentile_or_none(values: Sequence[float], percent: float) -> float | None:
    """Return the percentile; None if there are too few values for it: see :func:`least_for`."""
    return percentile(values, percent) if len(values) >= least_for(percent) else None


def least_for(percent: float) -> int:
    """Return how many values a percentile from the median up needs.

    With fewer values, less than one should lie above it: 5 % of 19 values are 0.95. Interpolation would then invent a
    value between the two highest.
    """
    return 1 if percent <= 50 else ceil(100 / (100 - percent) - _ROUNDING)


def tail(values: Sequence[float], percent: float) -> float | None:
    """Return the percentile, the maximum if there are too few values for it, None if there are none."""
    return max(values, default=None) if len(values) < least_for(percent) else percentile(values, percent)


def tail_name(count: int, percent: float) -> str:
    """Return the name for the :func:`tail` of ``count`` values: ``p95``, or ``max``."""
    return "max" if count < least_for(percent) else f"p{percent:g}"
