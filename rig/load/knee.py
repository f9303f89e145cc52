"""Does a rate of DAG runs hold? A step of ``find-the-knee`` is judged by the runs that pile up in it.

A rate does not hold if two things come together: more runs in flight at the end than a fixed number allows, whatever
the step's length, and a backlog that still grows. If the allowed number were a share of the arrivals, a rate slightly
above capacity would hold for any length of time. A backlog that has grown but is stable means a longer wait, not an
overload.
"""

from collections.abc import Callable, Sequence
from functools import partial
from statistics import median_low
from typing import NamedTuple

from rig.load import schedule
from rig.load.records import LoadRun
from rig.load.schedule import Stage

SLACK_RUNS = 2          # that may pile up by chance, whatever the step's length
LOOKS = 60              # at the backlog, evenly spaced over the second half of a step
NEAR = 2                # steps below the lowest knee so far at which the next search begins
SETTLED = 10.0          # seconds after a step's end by which every run that ended in it is known


class Step(NamedTuple):
    """One step: its rate (DAG runs per second), what arrived in it, and what was in flight at its beginning and end.

    ``begun`` and ``ended`` are in seconds since the epoch. ``allowed`` is how many more runs may be in flight at its
    end than at its beginning. ``slope`` is the backlog's slope in the second half, in runs per second. ``grows`` says
    whether the slope is above 0 with 95 %.
    """

    rate: float
    begun: float
    ended: float
    arrivals: int
    in_flight_before: int
    in_flight_after: int
    allowed: float
    failures: int
    slope: float
    grows: bool

    @property
    def holds(self) -> bool:
        """Return whether this rate held."""
        piled_up = self.in_flight_after - self.in_flight_before > self.allowed
        return not self.failures and not (piled_up and self.grows)


def step(runs: Sequence[LoadRun], stages: Sequence[Stage], number: int, started_at: float,
         seed: int | None = None) -> Step:
    """Judge the step ``number``, which has ended, by all runs so far; ``started_at`` is the test's start (epoch, s).

    At a higher rate, more runs are in flight even without a queue: as many more as the rate has grown by, times the
    time that a run takes without a queue. Anything beyond that, and beyond chance, is a growing queue. ``seed`` is the
    seed of random arrivals, which vary more.
    """
    begun = started_at + sum(stage.seconds for stage in stages[:number])
    ended, stage = begun + stages[number].seconds, stages[number]
    due = [moment for moment in schedule.arrivals(stages, seed) if begun <= started_at + moment < ended]
    grown = stage.rate - (stages[number - 1].rate if number else 0.0)
    unloaded = _unloaded(runs, started_at + stages[0].seconds, ended)
    backlog = partial(in_flight, stages, runs, started_at, seed=seed)
    slope, grows = _growth(backlog, (begun + ended) / 2, ended)
    return Step(
        rate=stage.rate, begun=begun, ended=ended, arrivals=len(due),
        in_flight_before=backlog(begun), in_flight_after=backlog(ended),
        allowed=SLACK_RUNS + grown * unloaded + (0.0 if seed is None else _by_chance(stage.rate * unloaded)),
        slope=slope, grows=grows,
        failures=sum(run.failed for run in runs if begun <= run.due < ended))


def _by_chance(mean: float) -> float:
    """Return how many more runs random arrivals may have in flight at one moment than at another: two deviations.

    Without a queue each number in flight has Poisson's distribution, whose variance is its mean.
    """
    return float(2 * (2 * mean) ** 0.5)


def in_flight(stages: Sequence[Stage], runs: Sequence[LoadRun], started_at: float, moment: float,
              seed: int | None = None) -> int:
    """Return how many DAG runs were due before a moment (epoch, s) and had not ended by then."""
    over = sum(run.due + (run.run or 0.0) <= moment for run in runs if run.state == "success")
    failed = sum(run.due <= moment for run in runs if run.state not in {"success", "interrupted"})
    return max(0, schedule.due_until(stages, moment - started_at, seed) - over - failed)


def _growth(backlog: Callable[[float], int], begun: float, ended: float) -> tuple[float, bool]:
    """Return the slope of the backlog (Theil and Sen's: outliers do not bend it), and if it is above 0 with 95 %."""
    from scipy import stats  # noqa: PLC0415 - takes a second, and most of what imports this judges nothing

    moments = [begun + (ended - begun) * look / LOOKS for look in range(LOOKS + 1)]
    found = stats.theilslopes([backlog(moment) for moment in moments], moments)
    return float(found.slope), bool(found.low_slope > 0)


def last_that_held(steps: Sequence[Step]) -> float | None:
    """Return the last rate before the first that did not hold, in DAG runs per second; None if the first did not."""
    held: float | None = None
    for one in steps:
        if not one.holds:
            return held
        held = one.rate
    return held


def as_rates(searches: Sequence[float | None]) -> list[float]:
    """Return what searches found, in DAG runs per second; one in which no rate held counts as 0.

    That is lower than its knee may be, and so no interval is too narrow for it.
    """
    return [held or 0.0 for held in searches]


def first_rate_of_next(searches: Sequence[float | None], step: float) -> float:
    """Return where the next search begins: the first time at ``step``, later near what was found.

    That is NEAR steps below the lowest of the searches, so that a knee a little lower is found too.
    """
    lowest = min(as_rates(searches), default=0.0)
    return round(max(step, lowest - NEAR * step), 9)


def rate_to_hold(searches: Sequence[float | None]) -> float | None:
    """Return the rate that is to be held for long: the median of the searches, of two in the middle the lower one.

    None if that is no rate.
    """
    return median_low(as_rates(searches)) or None if searches else None


def _unloaded(runs: Sequence[LoadRun], before: float, by: float) -> float:
    """Return how long a run takes that waits for nothing: the shortest of those of the first step, in seconds.

    Of those that had ended by the end of the step that is judged: what comes later must not change the judgement.
    """
    return min((run.run for run in runs if run.run is not None and run.due < before and run.due + run.run <= by),
               default=0.0)
