"""A value that each process has its own instance of, even after a fork."""

import atexit
import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """A value for each process. A forked child gets a new one, and leaves its parent's value alone.

    Airflow forks every task from a worker process, with LocalExecutor and with CeleryExecutor. What the child inherits
    shares its sockets (and an event loop's selector) with the parent. Using it mixes up the two conversations, and
    closing it says GOODBYE on the parent's connection. So the child keeps a reference to it, which prevents every
    destructor from running, and does nothing with it.
    """

    def __init__(self, make: Callable[[], T], at_exit: Callable[[T], None]) -> None:
        self._make = make
        self._at_exit = at_exit
        self._value = make()
        self._inherited: list[T] = []
        self._registered = False
        # A fork hook, rather than a check of the pid at every use: it runs before the child has a second thread, and it
        # replaces a lock inside the value that a thread of the parent may have held at the fork.
        os.register_at_fork(after_in_child=self._renew)

    def get(self) -> T:
        """Return this process's value; ``at_exit`` is called with it when the process ends."""
        if not self._registered:
            # Registered here and not at import: Airflow clears the atexit functions that a task inherits, and at the
            # task's end runs those that were registered since.
            atexit.register(self._leave)
            self._registered = True
        return self._value

    def _leave(self) -> None:
        self._at_exit(self._value)

    def _renew(self) -> None:
        self._inherited.append(self._value)
        self._value = self._make()
        self._registered = False
