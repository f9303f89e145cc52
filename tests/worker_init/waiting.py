"""Waiting for what has to become true, never for a time to pass."""

from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

Answer = TypeVar("Answer")
# Ample on a machine with much else to do: who waits this long has found a fault.
LIMIT = 60.0


def wait_until(check: Callable[[], Answer], what: str, seconds: float = LIMIT) -> Answer:
    """Return the check's first true answer; fail where there is none in time."""
    retrying = Retrying(retry=retry_if_result(lambda answer: not answer), stop=stop_after_delay(seconds),
                        wait=wait_fixed(0.02))
    try:
        return retrying(check)
    except RetryError:
        raise AssertionError(f"not within {seconds:g} s: {what}") from None


def wait_until_stable(measure: Callable[[], Answer], what: str, *, for_seconds: float = 1.0) -> Answer:
    """Return what is measured once it has not changed for so long; fail where it goes on changing, or is None."""
    seen: list[Answer] = []

    def is_stable() -> bool:
        seen.append(measure())
        return len(seen) > 1 and seen[-1] == seen[-2] and seen[-1] is not None
    retrying = Retrying(retry=retry_if_result(lambda answer: not answer), stop=stop_after_delay(LIMIT),
                        wait=wait_fixed(for_seconds))
    try:
        retrying(is_stable)
    except RetryError:
        raise AssertionError(f"not within {LIMIT:g} s: {what} (last {seen[-3:]})") from None
    return seen[-1]
