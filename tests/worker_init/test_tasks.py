"""The driver that a plain Celery task gets: one for the process, from task to task, until somebody closes it."""

import os
from collections.abc import Iterator

import pytest

from worker_init import driver
from worker_init.tasks import close_process_driver, keep_process_driver


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make this process one that keeps its driver, which connects when it is used and not before."""
    monkeypatch.setenv("NEO4J_WORKER_URI", "bolt://127.0.0.1:1")
    keep_process_driver(os.getpid())
    yield
    close_process_driver()


def test_the_next_task_gets_the_same_driver() -> None:
    assert driver() is driver()


def test_a_driver_that_a_task_has_closed_is_not_given_to_the_next_one() -> None:
    first = driver()
    first.close()
    with driver() as second:
        assert second is not first
        assert driver() is second
    assert driver() is not second


def test_a_driver_of_earlier_days_does_not_take_the_present_one_with_it() -> None:
    first = driver()
    first.close()
    second = driver()
    first.close()
    assert driver() is second


def test_a_driver_with_options_of_its_own_is_nobody_elses() -> None:
    with driver(connection_timeout=1) as own:
        assert own is not driver()
