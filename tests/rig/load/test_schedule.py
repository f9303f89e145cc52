"""When DAG runs arrive: every shape makes as many as its rate promises, and processes share them without a gap."""

import itertools
import statistics

import pytest

from rig.load import schedule
from rig.load.schedule import Stage


def test_a_constant_rate_is_evenly_spaced_from_the_first_moment_on() -> None:
    assert list(schedule.arrivals([Stage(10, 0.5)])) == [0.0, 2.0, 4.0, 6.0, 8.0]


def test_a_change_of_rate_loses_no_part_of_an_arrival() -> None:
    # 1.5 are due in the first three seconds: the half that is owed is made up at the new rate.
    assert list(schedule.arrivals([Stage(3, 0.5), Stage(3, 2)])) == pytest.approx(
        [0, 2, 3.25, 3.75, 4.25, 4.75, 5.25, 5.75])


def test_a_pause_between_stages_has_no_arrival() -> None:
    assert list(schedule.arrivals([Stage(2, 1), Stage(10, 0), Stage(2, 1)])) == [0, 1, 12, 13]


@pytest.mark.parametrize("shape", schedule.SHAPES)
@pytest.mark.parametrize(("rate", "seconds"), [(0.1, 60), (0.2, 100), (1 / 3, 90), (7.0, 60)])
def test_each_shape_makes_as_many_arrivals_as_its_stages_promise_in_their_order(
        shape: str, rate: float, seconds: float) -> None:
    stages = schedule.stages(shape, rate, seconds, 10)
    moments = list(schedule.arrivals(stages))
    assert len(moments) == pytest.approx(sum(stage.rate * stage.seconds for stage in stages), abs=1)
    assert moments == sorted(moments)
    assert moments[0] == 0
    assert moments[-1] < schedule.length(stages)
    assert schedule.length(stages) == pytest.approx(seconds, abs=10)


def test_a_search_may_begin_near_the_knee() -> None:
    found = schedule.stages(schedule.KNEE, 0.1, 135, 45, first_rate=0.3)
    assert [(stage.rate, stage.seconds) for stage in found] == [(0.3, 45), (0.4, 45), (0.5, 45)]
    assert schedule.stages(schedule.STEADY, 0.1, 135, 45, first_rate=0.3) == [Stage(135, 0.1)]


def test_the_shapes_are_what_their_names_say() -> None:
    assert [stage.rate for stage in schedule.stages("step", 8, 40, 0)] == [2, 4, 6, 8]
    assert schedule.stages("spike", 1, 50, 0) == [Stage(20, 1), Stage(10, 3), Stage(20, 1)]
    assert schedule.stages("soak", 1, 900, 0) == [Stage(900, 1)]
    assert schedule.stages("find-the-knee", 0.5, 140, 45) == [Stage(45, 0.5), Stage(45, 1), Stage(45, 1.5)]
    assert [stage.rate for stage in schedule.stages("find-the-knee", 0.1, 270, 45)] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]


def test_a_shape_that_is_none_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"'sine': expected one of steady, step"):
        schedule.stages("sine", 1, 1, 1)


def test_random_arrivals_are_a_poisson_process_of_the_stages_rates() -> None:
    stages = [Stage(1000, 1), Stage(500, 0), Stage(1000, 4)]
    moments = list(schedule.arrivals(stages, seed=7))
    slow, fast = [due for due in moments if due < 1000], [due for due in moments if due >= 1500]
    assert len(slow) + len(fast) == len(moments)
    # Within four deviations of what is expected: the seed makes it the same each time.
    assert len(slow) == pytest.approx(1000, abs=4 * 1000 ** 0.5)
    assert len(fast) == pytest.approx(4000, abs=4 * 4000 ** 0.5)
    gaps = [later - earlier for earlier, later in itertools.pairwise(fast)]
    # Those of an exponential distribution deviate by as much as their mean; equal intervals would not deviate at all.
    assert statistics.stdev(gaps) == pytest.approx(statistics.mean(gaps), rel=0.1)


def test_the_seed_alone_says_when_random_arrivals_are() -> None:
    stages = [Stage(100, 1)]
    assert list(schedule.arrivals(stages, seed=1)) == list(schedule.arrivals(stages, seed=1))
    assert list(schedule.arrivals(stages, seed=1)) != list(schedule.arrivals(stages, seed=2))


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_processes_share_the_arrivals(processes: int, seed: int | None) -> None:
    stages = schedule.stages("step", 3, 40, 0)
    shares = [list(schedule.share(stages, process, processes, seed)) for process in range(processes)]
    assert sorted(itertools.chain(*shares)) == list(schedule.arrivals(stages, seed))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_rate_and_arrivals_so_far_at_a_moment() -> None:
    stages = [Stage(10, 0.5), Stage(10, 2)]
    assert [schedule.rate_at(stages, moment) for moment in (0, 9.9, 10, 20)] == [0.5, 0.5, 2, 0]
    assert [schedule.due_until(stages, moment) for moment in (0, 0.1, 4.1, 10.1)] == [0, 1, 3, 6]
