"""Waiting in the tests of worker_init, which say what for."""

from collections.abc import Callable
from typing import TypeVar

from testing.waiting import eventually

Answer = TypeVar("Answer")
# Ample on a machine with much else to do: who waits this long has found a fault.
LIMIT = 60.0


def wait_until(check: Callable[[], Answer], what: str, seconds: float = LIMIT) -> Answer:
    """Return the check's first true answer; fail where there is none in time."""
    return eventually(check, seconds, 0.02, what)


def wait_until_stable(measure: Callable[[], Answer], what: str, *, for_seconds: float = 1.0) -> Answer:
    """Return what is measured once it has not changed for so long; fail where it goes on changing, or is None."""
    seen: list[Answer] = []

    def is_stable() -> bool:
        seen.append(measure())
        return len(seen) > 1 and seen[-1] == seen[-2] and seen[-1] is not None
    eventually(is_stable, LIMIT, for_seconds, what)
    return seen[-1]
