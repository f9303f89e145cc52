"""The machine's wall clock, from which moments are read, and whether it was set while something was measured."""

import time

LARGEST_STEP = 0.5
"""By how many seconds the wall clock may be set during a measurement; what is read from it is exact to about 0.1 s."""


class ClockWatch:
    """Watches the wall clock from the moment on in which this object is created."""

    def __init__(self) -> None:
        self._ahead = _ahead()
        self._step = 0.0

    def step(self) -> float:
        """Return by how many seconds the clock was set forward, or the machine was suspended.

        It is the largest step that this or an earlier call has found, negative if the clock was set back. A clock that
        was set and set back between two calls is not noticed.
        """
        self._step = max(self._step, _ahead() - self._ahead, key=abs)
        return round(self._step, 3)


def too_large(step: float | None) -> float | None:
    """Return a step in seconds if it is too large for times and the order of samples; None if it is not, or unknown."""
    return step if step is not None and abs(step) > LARGEST_STEP else None


def was_set(step: float, during: str) -> str:
    """Return in words that the clock was set by ``step`` seconds during a measurement."""
    return f"the clock was set by {step:+.1f} s in this {during}, or the machine was suspended"


def _ahead() -> float:
    """Return how far the wall clock is ahead of one that nobody sets, and that stands still in a suspended machine.

    Both are read again if this process had to wait between the two.
    """
    while True:
        before, wall, after = time.monotonic(), time.time(), time.monotonic()
        if after - before < LARGEST_STEP / 10:
            return wall - after
