"""Percentiles are those of numpy's default; what is expected here was worked out with numpy 2.4.6."""

from statistics import StatisticsError, median

import pytest

from rig.percentile import least_for, percentile, percentile_or_none, tail, tail_name


@pytest.mark.parametrize(("values", "percent", "expected"), [
    (range(1, 101), 95, 95.05), ([1, 2, 3, 4], 25, 1.75), ([1, 2, 3, 4], 90, 3.7),
    ([50, 15, 40, 20, 35], 5, 16.0), ([50, 15, 40, 20, 35], 30, 23.0), ([50, 15, 40, 20, 35], 95, 48.0),
    ([0, 40], 2.5, 1.0), ([0, 40], 97.5, 39.0), ([3.0], 95, 3.0)])
def test_a_percentile_lies_between_the_two_nearest_values(values: list[float], percent: float, expected: float) -> None:
    assert percentile(values, percent) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("values", [[1.5], [3, 1], [9, 2, 4], [0.1, 0.7, 0.2, 0.4]])
def test_the_50th_is_the_median(values: list[float]) -> None:
    assert percentile(values, 50) == pytest.approx(median(values))


@pytest.mark.parametrize(("percent", "values"), [(50, 1), (75, 4), (90, 10), (95, 20), (99, 100), (99.9, 1000)])
def test_a_percentile_takes_so_many_values_that_some_may_lie_above_it(percent: float, values: int) -> None:
    assert least_for(percent) == values
    enough, few = list(range(values)), list(range(values - 1))
    assert percentile_or_none(enough, percent) == tail(enough, percent) == percentile(enough, percent)
    assert percentile_or_none(few, percent) is None
    assert tail(few, percent) == max(few, default=None)
    assert (tail_name(values, percent), tail_name(values - 1, percent)) == (f"p{percent:g}", "max")


def test_there_is_none_without_values() -> None:
    assert percentile_or_none([], 95) is None
    with pytest.raises(StatisticsError):
        percentile([], 95)
