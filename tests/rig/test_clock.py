"""Whether the wall clock was set while something was measured: the largest step, and from where on it is too large."""

import pytest

from rig import clock


def test_the_largest_step_is_known_also_where_the_clock_was_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = iter([100.0, 100.2, 70.0, 100.0])
    monkeypatch.setattr(clock, "_ahead", lambda: next(ahead))
    watch = clock.ClockWatch()
    assert [watch.step() for _ in range(3)] == [0.2, -30.0, -30.0]


def test_a_clock_that_nobody_sets_makes_no_step_that_is_too_large() -> None:
    watch = clock.ClockWatch()
    assert clock.too_large(watch.step()) is None


@pytest.mark.parametrize(("step", "found"), [(0.5, None), (-0.5, None), (0.6, 0.6), (-0.6, -0.6), (None, None)])
def test_half_a_second_is_not_too_large(step: float | None, found: float | None) -> None:
    assert clock.too_large(step) == found
