"""Whether the wall clock was set while something was measured: the largest step, and from where on it is too large."""

from itertools import count
from types import SimpleNamespace

import pytest

from rig import clock


def test_the_largest_step_is_known_also_where_the_clock_was_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = iter([100.0, 100.2, 70.0, 100.0])
    monkeypatch.setattr(clock, "_ahead", lambda: next(ahead))
    watch = clock.ClockWatch()
    assert [watch.step() for _ in range(3)] == [0.2, -30.0, -30.0]


def test_a_clock_that_nobody_sets_makes_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = count(1, 0.01)      # seconds; each reading comes a little later than the one before
    monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic=lambda: next(now), time=lambda: 1e9 + next(now)))
    watch = clock.ClockWatch()
    assert watch.step() == pytest.approx(0, abs=0.001)
    assert clock.too_large(watch.step()) is None


@pytest.mark.parametrize(("step", "found"), [(0.5, None), (-0.5, None), (0.6, 0.6), (-0.6, -0.6), (None, None)])
def test_half_a_second_is_not_too_large(step: float | None, found: float | None) -> None:
    assert clock.too_large(step) == found
