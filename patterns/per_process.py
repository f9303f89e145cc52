"""Something that each process has one of, also after a fork."""

import atexit
import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """A value for each process: a forked child gets a new one, and leaves its parent's alone.

    Airflow forks every task from a worker process, on LocalExecutor and on CeleryExecutor. What the child
    inherits shares its sockets (and an event loop's selector) with the parent: to use it mixes up the two
    conversations, and to close it says GOODBYE on the parent's connection. So the child keeps a reference to
    it, which holds off every destructor, and does nothing with it.
    """

    def __init__(self, make: Callable[[], T], at_exit: Callable[[T], None]) -> None:
        self._make = make
        self._at_exit = at_exit
        self._value = make()
        self._inherited: list[T] = []
        self._registered = False
        # A hook and not a look at the pid at every use: it runs before the child has a second thread, and
        # replaces a lock inside the value that some thread of the parent may have held at the fork.
        os.register_at_fork(after_in_child=self._renew)

    def get(self) -> T:
        """Return this process's value; ``at_exit`` gets it when the process ends."""
        if not self._registered:
            # Here and not at import: Airflow clears the atexit functions that a task inherits, and at the
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
