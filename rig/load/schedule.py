"""When DAG runs arrive: the load's shape as stages with a constant rate, and the resulting times.

Everything is decided before the test begins, even random arrivals, by their seed. So the processes of a distributed
test share one schedule without communication: process k of n takes the arrivals k, k + n, k + 2n and so on.
"""

import random
from collections.abc import Iterator, Sequence
from itertools import count, islice, takewhile
from typing import NamedTuple

from rig.load.records import Arrivals, Load

STEADY, STEP, SPIKE, SOAK, KNEE = "steady", "step", "spike", "soak", "find-the-knee"
SHAPES = (STEADY, STEP, SPIKE, SOAK, KNEE)
EVEN: Arrivals = "even"
POISSON: Arrivals = "poisson"
ARRIVALS = (EVEN, POISSON)
HIGHEST_SEED = 2**31
LOWEST_RATE = 0.001         # arrivals per second
STEPS = 4                   # of the shape step: each a quarter of the time, the last at the whole rate
SPIKE_FACTOR = 3            # of the shape spike, for the middle fifth of the time
_ROUNDING = 1e-9            # of an arrival: rounding errors in a sum must not add an arrival


class Stage(NamedTuple):
    """A number of seconds with a constant rate of arrivals per second."""

    seconds: float
    rate: float


def stages(shape: str, rate: float, seconds: float, step_seconds: float, first_rate: float | None = None,
           ) -> list[Stage]:
    """Return the stages of a shape at ``rate`` arrivals per second, ``seconds`` long in all.

    ``step_seconds`` and ``first_rate`` are for ``find-the-knee``: it begins there (None: at ``rate``), and its rate
    rises by ``rate`` after each step. Raises ValueError for an unknown shape.
    """
    if shape in {STEADY, SOAK}:
        return [Stage(seconds, rate)]
    if shape == STEP:
        return [Stage(seconds / STEPS, rate * number / STEPS) for number in range(1, STEPS + 1)]
    if shape == SPIKE:
        return [Stage(seconds * 2 / 5, rate), Stage(seconds / 5, rate * SPIKE_FACTOR), Stage(seconds * 2 / 5, rate)]
    if shape == KNEE:
        steps = max(1, int(seconds / step_seconds + _ROUNDING))
        # Rounded: a rate is a name too, and 0.6000000000000001 is none.
        first = rate if first_rate is None else first_rate
        return [Stage(step_seconds, round(first + rate * number, 9)) for number in range(steps)]
    raise ValueError(f"there is no shape {shape!r}: expected one of {', '.join(SHAPES)}")


def stages_of(load: Load) -> list[Stage]:
    """Return the stages of what a load test was asked to do."""
    return stages(load.shape, load.rate, load.seconds, load.step_seconds, load.first_rate)


def arrivals(of: Sequence[Stage], seed: int | None = None) -> Iterator[float]:
    """Yield the times of all arrivals, in seconds since the start.

    Without a seed they are evenly spaced within a stage, the first one at 0. With a seed they are a Poisson process
    with the stages' rates: exponential gaps with the mean 1, divided by the rate.
    """
    begun = before = 0.0        # when this stage begins, and how many arrivals are due before it
    places = _even() if seed is None else _at_random(seed)
    place = next(places)
    for stage in of:
        until = before + stage.rate * stage.seconds
        while place < until - _ROUNDING:
            yield begun + (place - before) / stage.rate
            place = next(places)
        begun, before = begun + stage.seconds, until


def _even() -> Iterator[float]:
    return map(float, count())


def _at_random(seed: int) -> Iterator[float]:
    gaps, place = random.Random(seed), 0.0      # noqa: S311 - arrivals, not secrets
    while True:
        place += gaps.expovariate(1.0)
        yield place


def share(of: Sequence[Stage], process: int, processes: int, seed: int | None = None) -> Iterator[float]:
    """Yield the arrivals of one process of several."""
    return islice(arrivals(of, seed), process, None, processes)


def rate_at(of: Sequence[Stage], moment: float) -> float:
    """Return the rate at a moment, in arrivals per second; 0 after the last stage."""
    for stage in of:
        if moment < stage.seconds:
            return stage.rate
        moment -= stage.seconds
    return 0.0


def length(of: Sequence[Stage]) -> float:
    """Return the length of all stages together, in seconds."""
    return sum(stage.seconds for stage in of)


def due_until(of: Sequence[Stage], moment: float, seed: int | None = None) -> int:
    """Return how many arrivals are due before a moment."""
    return sum(1 for _ in takewhile(lambda due: due < moment, arrivals(of, seed)))
