"""Waiting for a condition to become true, never for a fixed time."""

from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

Answer = TypeVar("Answer")
# Seconds. This is ample even on a busy machine: a wait that takes this long means a fault.
LIMIT = 120.0


def eventually(question: Callable[[], Answer], limit: float = LIMIT, every: float = 0.1,
               what: str = "it is not so") -> Answer:
    """Return the first truthy answer. Raises AssertionError with the last answer after ``limit`` seconds."""
    try:
        return Retrying(retry=retry_if_result(lambda answer: not answer), stop=stop_after_delay(limit),
                        wait=wait_fixed(every))(question)
    except RetryError as error:
        raise AssertionError(f"not within {limit:g} s: {what}; the last answer was "
                             f"{error.last_attempt.result()!r}") from None


def comes_true(question: Callable[[], object], limit: float = LIMIT, every: float = 0.1) -> bool:
    """Whether there is a truthy answer within ``limit`` seconds."""
    return bool(Retrying(retry=retry_if_result(lambda answer: not answer), stop=stop_after_delay(limit),
                         wait=wait_fixed(every), retry_error_callback=lambda _: False)(question))


def wait_until(check: Callable[[], Answer], what: str, seconds: float = LIMIT) -> Answer:
    """Return the check's first truthy answer. Raises AssertionError if there is none within ``seconds``."""
    return eventually(check, seconds, 0.02, what)


def wait_until_stable(measure: Callable[[], Answer], what: str, *, for_seconds: float = 1.0) -> Answer:
    """Return a measurement once it has not changed for so long. Fails if it keeps changing, or stays None."""
    seen: list[Answer] = []

    def is_stable() -> bool:
        seen.append(measure())
        return len(seen) > 1 and seen[-1] == seen[-2] and seen[-1] is not None
    eventually(is_stable, LIMIT, for_seconds, what)
    return seen[-1]
