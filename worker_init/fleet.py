"""Several driver hosts for one worker, which share its slots evenly.

A host is one process on one core. Each has its own :class:`~worker_init.supervisor.Supervisor`, runtime folder and
slots, so if one dies, the others are not affected. Slot ``n`` belongs to host ``n`` modulo the number of hosts.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from worker_init.commands import Command
from worker_init.settings import Settings
from worker_init.supervisor import Shard, Supervisor
from worker_init.targets import Upstreams

Answer = TypeVar("Answer")
# If several hosts are in different states, a worker's status shows the one that an operator must know first.
_GRAVITY = ("off", "down", "draining", "paused", "serving")


class Fleet:
    """A worker's driver hosts. It has the same methods as one supervisor, with the same errors."""

    def __init__(self, settings: Settings, upstreams: Upstreams, environment: Mapping[str, str],
                 name: str = "") -> None:
        self._supervisors: list[Supervisor] = []
        try:
            for number in range(settings.hosts):
                self._supervisors.append(Supervisor(settings, upstreams, environment, name,
                                                    Shard(number, settings.hosts)))
        except BaseException:
            self.kill()
            raise

    def __repr__(self) -> str:
        return ", ".join(map(repr, self._supervisors))

    def of(self, index: int) -> Supervisor:
        """Return the supervisor of a pool process's host."""
        return self._supervisors[index % len(self._supervisors)]

    @property
    def reason(self) -> str:
        """Why there is no host, or why one of them is missing."""
        return next((one.reason for one in self._supervisors if one.is_refusing), self._supervisors[0].reason)

    def start(self, slots: int) -> bool:
        """Start every host, and wait for all of them. Return False if one cannot be started; ``reason`` says why."""
        begun = [one.begin(slots) for one in self._supervisors]
        return all(begun) and all(one.wait() for one in self._supervisors)

    @property
    def unshared(self) -> dict[int, str]:
        """The upstreams of the environment that tasks connect to by themselves: their numbers, and why."""
        return {at: why for one in self._supervisors for at, why in one.unshared.items()}

    @property
    def is_needed(self) -> bool:
        """Whether there is an upstream in the environment that tasks share."""
        return any(one.is_needed for one in self._supervisors)

    def ensure(self, slots: int) -> None:
        """Make sure that there are at least so many slots."""
        for one in self._supervisors:
            one.ensure(slots)

    def enter(self, index: int) -> None:
        """Claim the slot of this process's index, and close the inherited sockets of all hosts."""
        for one in self._supervisors:
            one.let_go()
        self.of(index).enter(index)

    def leave(self, index: int) -> None:
        """Withdraw this process's claim to its slot."""
        self.of(index).leave(index)

    def stop(self) -> None:
        """Let every host drain and end, at the same time."""
        for one in self._supervisors:
            one.begin_stop()
        self._each(Supervisor.stop)

    def kill(self) -> None:
        """End every host at once."""
        self._each(Supervisor.kill)

    def obey(self, command: Command) -> dict[str, Any]:
        """Send a command to every host; return their joint status. Raises WorkerInitError if one does not answer."""
        return together(self._each(lambda one: one.obey(command)))

    def status(self) -> dict[str, Any]:
        """Return the status of all hosts as one."""
        return together(self._each(Supervisor.status))

    def _each(self, act: Callable[[Supervisor], Answer]) -> list[Answer]:
        return [act(one) for one in self._supervisors]


def together(statuses: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one status for several hosts: all drivers by slot, the gravest state, and each host's status in ``hosts``.

    The statuses in ``hosts`` have no drivers. Any other field, for example the pid, is that of the first host.
    """
    drivers = sorted((driver for status in statuses for driver in status.get("drivers", [])),
                     key=lambda driver: int(driver["slot"]))
    errors = [status["last_error"] for status in statuses if status.get("last_error")]
    hosts = [{name: value for name, value in status.items() if name != "drivers"} for status in statuses]
    gravest = min((status["state"] for status in statuses), key=_GRAVITY.index)
    return (statuses[0] | {"state": gravest, "drivers": drivers, "hosts": hosts,
                           "restarts": sum(status.get("restarts", 0) for status in statuses)}
            | ({"last_error": errors[0]} if errors else {}))
