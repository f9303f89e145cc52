"""Percentiles, by one definition everywhere."""

from collections.abc import Iterable, Sequence
from statistics import StatisticsError, quantiles

_CUTS = 1000


def percentile(values: Iterable[float], percent: float) -> float:
    """Return the value below which so many percent of the values lie; ``percent`` goes from 0.1 to 99.9, in tenths.

    By linear interpolation between the two nearest values, the default of ``numpy.percentile``: definition 7 of
    Hyndman and Fan, Sample Quantiles in Statistical Packages, The American Statistician 50 (1996). Raises
    StatisticsError without values, as ``statistics.median`` does.
    """
    ordered = sorted(values)
    if not ordered:
        raise StatisticsError("no percentile for empty data")
    if len(ordered) == 1:
        return ordered[0]
    return quantiles(ordered, n=_CUTS, method="inclusive")[round(percent * _CUTS / 100) - 1]


def percentile_or_none(values: Sequence[float], percent: float) -> float | None:
    """Return the percentile, None without values."""
    return percentile(values, percent) if values else None
