"""Waiting for what has to become true, never for a time to pass."""

from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

T = TypeVar("T")


def eventually(question: Callable[[], T], limit: float = 60, every: float = 0.1, what: str = "it is not so") -> T:
    """Return the first answer that is truthy. Fails with the last one after ``limit`` seconds."""
    try:
        return Retrying(retry=retry_if_result(lambda answer: not answer), stop=stop_after_delay(limit),
                        wait=wait_fixed(every))(question)
    except RetryError as error:
        raise AssertionError(f"not within {limit:g} s: {what}; the last answer was "
                             f"{error.last_attempt.result()!r}") from None
