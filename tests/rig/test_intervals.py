"""What the intervals are worth: how often they hold the truth, and how often equal cells are told apart."""

from math import exp, log
from random import Random

import pytest

from rig.metrics import intervals
from rig.metrics.intervals import Said

DRAWS = 2000


def noisy(random: Random, blocks: int, ratio: float = 1.0) -> list[tuple[float, float]]:
    """Return pairs of a block each: what slows a block down slows both, and each has noise of its own."""
    pairs = []
    for _ in range(blocks):
        block = random.lognormvariate(3, 0.5)
        pairs.append((ratio * block * random.lognormvariate(0, 0.1), block * random.lognormvariate(0, 0.1)))
    return pairs


@pytest.mark.parametrize("blocks", [6, 10])
@pytest.mark.parametrize("level", [0.95, 0.99])
def test_the_interval_of_a_ratio_holds_the_true_one_as_often_as_it_says(blocks: int, level: float) -> None:
    random = Random(11)
    held = 0
    for _ in range(DRAWS):
        found = intervals.of_ratio(intervals.ratios(noisy(random, blocks, 0.7)) or [], level)
        assert found is not None
        held += found[0] <= 0.7 <= found[1]

    assert level - 0.015 < held / DRAWS < level + 0.015


@pytest.mark.parametrize("blocks", [6, 7, 9, 12, 20])
def test_the_interval_of_a_median_holds_it_at_least_as_often_as_it_says(blocks: int) -> None:
    random = Random(12)
    held = 0
    for _ in range(DRAWS):
        found = intervals.of_median([random.lognormvariate(0, 1) for _ in range(blocks)])
        assert found is not None
        held += found[0] <= 1 <= found[1]       # the median of this distribution

    assert held / DRAWS > 0.94


def test_six_values_have_their_range_and_five_have_no_interval() -> None:
    assert intervals.of_median([3, 1, 2, 6, 5, 4]) == (1, 6)
    assert intervals.of_median([3, 1, 2, 5, 4]) is None
    assert intervals.of_median(range(9)) == (1, 7)      # 1 - 2 * (1 + 9) / 2^9 is 96.1 %


def test_equal_cells_are_told_apart_in_at_most_one_run_of_twenty_over_the_whole_family() -> None:
    random, family, runs = Random(13), 32, 200
    level = intervals.corrected(family)
    wrong = 0
    for _ in range(runs):
        ends = [intervals.of_ratio(intervals.ratios(noisy(random, 6)) or [], level) for _ in range(family)]
        wrong += any(intervals.verdict_of_ratio(one).verdict in {"lower", "higher"} for one in ends if one)

    assert wrong / runs <= 0.06


def test_a_difference_that_is_there_is_found() -> None:
    random = Random(14)
    level = intervals.corrected(32)
    found = [intervals.of_ratio(intervals.ratios(noisy(random, 6, 0.33)) or [], level) for _ in range(200)]
    told = sum(intervals.verdict_of_ratio(one).verdict == "lower" for one in found if one)

    assert told > 190


def test_the_interval_of_a_ratio_is_the_students_of_its_logarithms() -> None:
    found = intervals.of_ratio([0.5, 0.5, 0.5, 0.5, 0.5, 1.0], 0.95)

    assert found is not None
    # By hand: mean and standard deviation of the logarithms, t of 5 degrees of freedom 2.5706.
    middle, half = (5 * log(0.5)) / 6, 2.5706 * log(2) / 6 ** 0.5 / 6 ** 0.5
    assert found == pytest.approx((exp(middle - half), exp(middle + half)), rel=1e-4)


@pytest.mark.parametrize(("ends", "said"), [
    ((0.5, 0.9), Said("lower")), ((1.1, 2.0), Said("higher")), ((0.95, 1.25), Said("no difference larger than", 0.25)),
    ((0.8, 1.0), Said("no difference larger than", 0.25)), ((0.79, 1.0), Said("too noisy to say")),
    ((1.0, 1.0), Said("no difference larger than", 0.0)), ((0.0, 1.1), Said("too noisy to say"))])
def test_an_interval_is_put_into_words(ends: tuple[float, float], said: Said) -> None:
    found = intervals.verdict_of_ratio(ends)

    assert (found.verdict, found.at_most) == (said.verdict, pytest.approx(said.at_most) if said.at_most else
                                              said.at_most)


@pytest.mark.parametrize(("said", "words"), [
    (Said("lower"), "lower"), (Said("no difference larger than", 0.104), "no difference larger than 10 %"),
    (Said("no difference larger than", 0.0), "no difference larger than 0 %")])
def test_a_verdict_has_the_largest_difference_in_percent(said: Said, words: str) -> None:
    assert str(said).replace("\N{NO-BREAK SPACE}", " ") == words


def test_what_never_varies_has_an_interval_without_width() -> None:
    pairs = [(100, 300)] * 6
    found = intervals.of_ratio(intervals.ratios(pairs) or [], 0.998)

    assert found == pytest.approx((1 / 3, 1 / 3))


@pytest.mark.parametrize(("pairs", "verdict"), [
    ([(16, 0)] * 6, "higher"), ([(0, 16)] * 6, "lower"), ([(0, 0)] * 6, "no difference larger than"),
    ([(0, 1), (1, 0)] * 3, "too noisy to say")])
def test_where_a_value_is_0_the_differences_have_to_do(pairs: list[tuple[int, int]], verdict: str) -> None:
    ends = intervals.of_difference(pairs, 0.998)

    assert intervals.ratios(pairs) is None
    assert ends is not None
    assert intervals.verdict_of_difference(ends).verdict == verdict


def test_a_ratio_too_large_for_a_float_is_no_error() -> None:
    found = intervals.of_ratio([1e-300, 1e300] * 3, 0.999999)

    assert found is not None
    assert intervals.verdict_of_ratio(found).verdict == "too noisy to say"
