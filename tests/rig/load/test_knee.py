"""A rate holds where no queue grows: judged on runs with a capacity that is known."""

from random import Random

import pytest

from rig.load import knee, schedule
from rig.load.records import LoadRun
from tests.rig.load.lines import run

STEPS = schedule.stages("find-the-knee", 0.2, 450, 45)


def served(capacity: float, seconds: float) -> list[LoadRun]:
    """Return the runs of all steps, served one after the other at ``capacity`` per second, each at least so long."""
    free, runs = 0.0, []
    for due in schedule.arrivals(STEPS):
        free = max(free + 1 / capacity, due)
        runs.append(run(due, free + seconds - due))
    return runs


def steps(runs: list[LoadRun]) -> list[knee.Step]:
    return [knee.step([one for one in runs if one.due + (one.run or 0) <= 45 * (number + 1)], STEPS, number, 0.0)
            for number in range(len(STEPS))]


@pytest.mark.parametrize("capacity", [0.3, 0.5, 0.9, 1.3])
@pytest.mark.parametrize("seconds", [1.0, 5.0, 12.0])
def test_the_knee_is_within_a_step_of_the_capacity(capacity: float, seconds: float) -> None:
    held = knee.last_that_held(steps(served(capacity, seconds)))
    assert held is not None
    assert abs(held - capacity) <= 0.2


def test_with_capacity_to_spare_every_step_holds() -> None:
    judged = steps(served(100, 6))
    assert all(step.holds for step in judged)
    assert knee.last_that_held(judged) == pytest.approx(2.0)


def test_a_step_with_a_failure_does_not_hold() -> None:
    runs = [run(due, None if due == 50 else 4) for due in schedule.arrivals(STEPS)]
    assert [step.failures for step in steps(runs)][:3] == [0, 1, 0]
    assert knee.last_that_held(steps(runs)) == pytest.approx(0.2)


def test_the_next_search_begins_two_steps_below_the_lowest_knee_and_never_below_the_first_rate() -> None:
    assert knee.first_rate_of_next([], 0.1) == 0.1
    assert knee.first_rate_of_next([0.5], 0.1) == 0.3
    assert knee.first_rate_of_next([0.5, 0.4, 0.6], 0.1) == 0.2
    assert knee.first_rate_of_next([0.2], 0.1) == 0.1
    assert knee.first_rate_of_next([0.5, None], 0.1) == 0.1


@pytest.mark.parametrize("capacity", [0.5, 0.9, 1.3])
def test_a_search_that_begins_near_the_knee_finds_it_too(capacity: float) -> None:
    first = knee.first_rate_of_next([round(capacity - capacity % 0.2, 9)], 0.2)
    stages, free, runs = schedule.stages(schedule.KNEE, 0.2, 270, 45, first), 0.0, []
    for due in schedule.arrivals(stages):
        free = max(free + 1 / capacity, due)
        runs.append(run(due, free + 5 - due))
    held = knee.last_that_held([knee.step(runs, stages, number, 0.0) for number in range(len(stages))])
    assert held is not None
    assert abs(held - capacity) <= 0.2


def test_where_the_first_rate_does_not_hold_there_is_none() -> None:
    assert knee.last_that_held(steps(served(0.05, 1))) is None
    assert knee.last_that_held([]) is None


def test_what_ends_later_does_not_change_the_judgement() -> None:
    # Nothing ended within the first step: at that moment there is no telling how long a run takes.
    late = [run(due, 90.0) for due in schedule.arrivals(STEPS)]
    known_then = [one for one in late if one.due + (one.run or 0) <= 45]
    assert not knee.step(known_then, STEPS, 0, 0.0).holds
    assert not knee.step(late, STEPS, 0, 0.0).holds


def test_what_is_in_flight_is_what_was_due_and_has_not_ended() -> None:
    runs = [run(0, 3), run(5, 20), run(10, None)]
    assert [knee.in_flight(STEPS, runs, 0.0, moment) for moment in (2, 4, 6, 12)] == [1, 0, 1, 1]


def held_for(rate: float, capacity: float, seconds: float, service: float = 6.0,
             seed: int | None = None) -> knee.Step:
    """Judge a rate that was driven for so long, at a stack of one server with this capacity."""
    stages, random, free, runs = schedule.stages("steady", rate, seconds, 45), Random(5), 0.0, []
    for due in schedule.arrivals(stages, seed):
        free = max(free + random.uniform(0.7, 1.3) / capacity, due)
        runs.append(run(due, free + service - due))
    return knee.step(runs, stages, 0, 0.0, seed)


@pytest.mark.parametrize(("rate", "holds"), [(0.25, True), (0.35, True), (0.6, False)])
def test_random_arrivals_are_judged_with_the_slack_of_their_chance(rate: float, holds: bool) -> None:
    judged = held_for(rate, 0.5, 3600, seed=11)
    assert judged.holds is holds
    assert judged.allowed > held_for(rate, 0.5, 3600).allowed + 2


def test_a_rate_8_percent_above_capacity_does_not_hold_for_an_hour() -> None:
    judged = held_for(rate=0.54, capacity=0.5, seconds=3600)

    assert judged.in_flight_after > 100
    assert judged.slope == pytest.approx(0.04, abs=0.01)
    assert not judged.holds


@pytest.mark.parametrize("seconds", [600, 3600])
@pytest.mark.parametrize("above", [1.03, 1.05, 1.2])
def test_an_overload_does_not_hold_however_small(above: float, seconds: float) -> None:
    assert not held_for(0.5 * above, 0.5, seconds).holds


@pytest.mark.parametrize("share", [0.5, 0.8, 0.9])
def test_a_rate_below_capacity_holds_for_an_hour(share: float) -> None:
    assert held_for(0.5 * share, 0.5, 3600).holds


def test_a_backlog_that_has_grown_and_stays_is_a_longer_wait_and_no_overload() -> None:
    stages = schedule.stages("steady", 0.5, 600, 45)
    slower = [run(due, 4.0 if due < 100 else 16.0) for due in schedule.arrivals(stages)]
    judged = knee.step(slower, stages, 0, 0.0)

    assert judged.in_flight_after > judged.allowed
    assert judged.holds
