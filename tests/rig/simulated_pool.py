"""A pool of processes whose connections are closed when they are idle for too long, simulated event by event.

It is the oracle for the formulas of :mod:`rig.capacity.queueing`: it knows none of them.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

import simpy


class Seen(NamedTuple):
    """Connections opened per second, and open on average."""

    opened: float
    open: float


@dataclass
class Server:
    """A process with its connection: when it was last free, and since when the connection is open."""

    number: int
    free_since: float = 0.0
    opened_at: float | None = None


Choose = Callable[[list[Server], Random], Server]


def first(free: list[Server], _: Random) -> Server:
    """As Celery's pool does."""
    return min(free, key=lambda server: server.number)


def last_used(free: list[Server], _: Random) -> Server:
    """As the relay's pool of connections does."""
    return max(free, key=lambda server: server.free_since)


def any_of_them(free: list[Server], random: Random) -> Server:
    """Evenly spread."""
    return random.choice(free)


class Pool:
    """The simulation: tasks that find all servers busy wait for their turn."""

    def __init__(self, *, servers: int, timeout: float, lifetime: float, choose: Choose,
                 busy: Callable[[Random], float], random: Random) -> None:
        self.environment = simpy.Environment()
        self._turn = simpy.Resource(self.environment, capacity=servers)
        self._free = [Server(number) for number in range(servers)]
        self._timeout, self._lifetime, self._choose, self._busy, self._random = timeout, lifetime, choose, busy, random
        self.opened, self.open_seconds = 0, 0.0

    def task(self) -> Generator[simpy.Event, Any, None]:
        """One task, from its arrival to its end."""
        with self._turn.request() as turn:
            yield turn
            server = self._choose(self._free, self._random)
            self._free.remove(server)
            self._connect(server)
            started = self.environment.now
            yield self.environment.timeout(self._busy(self._random))
            self.open_seconds += self.environment.now - started
            server.free_since = self.environment.now
            self._free.append(server)

    def _connect(self, server: Server) -> None:
        now, idle = self.environment.now, self.environment.now - server.free_since
        if server.opened_at is not None:
            self.open_seconds += min(idle, self._timeout)
        if server.opened_at is None or idle > self._timeout or now - server.opened_at > self._lifetime:
            self.opened += 1
            server.opened_at = now


def simulate(*, tasks: int, rate: float, busy: float, servers: int, timeout: float, choose: Choose = first,
             size: int = 1, fixed: bool = False, lifetime: float = float("inf"), seed: int = 14) -> Seen:
    """Run so many tasks, which arrive at random at ``rate`` per second, ``size`` of them at once."""
    random = Random(seed)
    pool = Pool(servers=servers, timeout=timeout, lifetime=lifetime, choose=choose, random=random,
                busy=(lambda _: busy) if fixed else (lambda random: random.expovariate(1 / busy)))

    def arrivals() -> Generator[simpy.Event, Any, None]:
        for _ in range(tasks // size):
            yield pool.environment.timeout(random.expovariate(rate / size))
            for _ in range(size):
                pool.environment.process(pool.task())

    pool.environment.process(arrivals())
    pool.environment.run()
    return Seen(pool.opened / pool.environment.now, pool.open_seconds / pool.environment.now)
