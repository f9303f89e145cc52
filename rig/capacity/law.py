"""The law: what a deployment's tasks do to Neo4j, for each way to get a driver.

The letters in the docstrings: W workers; P processes of each; N tasks at once; c calls of a task; h seconds for which a
task holds its driver; D seconds of a task; lambda tasks per hour; I idle timeout; RTT round trip to Neo4j. The
derivation is in docs/capacity.md, together with measurements.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from patterns.facts import LONGEST_HOLD, MOST_CALLS
from rig.capacity import queueing
from rig.capacity.queueing import Kept
from rig.experiment.profiles import within

HOUR = 3600.0

Way = Literal["problematic", "improved", "process", "shared"]
WAYS: tuple[Way, ...] = ("problematic", "improved", "process", "shared")
"""How a task gets its driver: ``improved`` stands for the stock hook too, the last two are a shared driver's scopes."""

LIFE_AROUND_HOLD = 0.5
"""Seconds (epsilon) that a task's connection is open beside the hold: its calls, and the end of the process."""

ROUND_TRIPS_TO_OPEN, SECONDS_TO_OPEN = 3.3, 0.0047
"""What opening a connection takes: round trips (TCP, Bolt's version, HELLO with LOGON), and processor time on both
sides of a loopback. From ``python -m benchmarks.relay``: a new driver with its first query takes 5.71 ms, and 47.27 ms
where the round trip is 10 ms; a query alone takes 1.07 ms and one round trip."""

ROUND_TRIPS_FOR_TLS = 1.0
"""TLS 1.3's handshake (RFC 8446, section 2); ``python -m benchmarks.round_trips`` measures 1.0."""

SECONDS_TO_RELAY = 0.0022
"""What a task's own driver takes to connect to the relay on 127.0.0.1: 3.45 ms with the first query, 1.26 ms without
(the same benchmark)."""

AIRFLOW_SECONDS = 1.5
"""How much longer than its hold a task keeps a process busy, unless it is said: Airflow's start, imports and report."""

RARE = 0.999
"""Share of all moments in which no more tasks are in progress than the peak says."""


@dataclass(frozen=True)
class Load:
    """A deployment and its load. Times are in seconds.

    ``at_once`` tasks become ready at the same moment, as the mapped tasks of a DAG run do. ``query`` is how long a
    transaction takes at the server. ``limit`` is how many connections the server handles at once, Neo4j's
    ``server.bolt.thread_pool_max_size``. ``worth`` is how many seconds a connection may be idle to save one opening.
    """

    workers: int = 1
    processes: int = 16
    tasks_per_hour: float = 1000.0
    at_once: int = 1
    calls: int = 3
    hold: float = 2.0
    task_seconds: float | None = None
    idle_timeout: float = 300.0
    lifetime: float = 2700.0
    max_size: int = 100
    query: float = 0.005
    round_trip: float = 0.001
    tls: bool = False
    limit: int = 400
    worth: float = 60.0

    @property
    def busy(self) -> float:
        """Seconds for which a task keeps its process busy (D)."""
        return self.hold + AIRFLOW_SECONDS if self.task_seconds is None else self.task_seconds

    @property
    def places(self) -> int:
        """Tasks that can run at once (WP)."""
        return self.workers * self.processes

    @property
    def capacity(self) -> float:
        """The most tasks per hour that the processes can run."""
        return self.places * HOUR / self.busy

    @property
    def done_per_hour(self) -> float:
        """Tasks per hour that are run: at most what the processes can run."""
        return min(self.tasks_per_hour, self.capacity)


class Forecast(NamedTuple):
    """The effect of one way on Neo4j.

    ``opened`` is connections per hour. ``peak`` and ``open`` (the mean) are connections. ``connecting`` is the seconds
    per hour that tasks spend on connecting. ``limit_met_at`` is the number of tasks per hour from which the peak
    exceeds the server's limit; None if it never does. ``price`` is how many seconds a connection is idle for each
    opening that is saved compared with ``improved``; None if nothing is kept. From ``pays_from`` tasks per hour on, an
    opening is worth that price; None if it never is, 0 if it always is.
    """

    way: Way
    opened: float
    peak: int
    open: float
    connecting: float
    limit_met_at: float | None
    price: float | None
    pays_from: float | None


def require_sense(load: Load) -> None:
    """Raise BadInput for the first number that is impossible in a deployment."""
    for name, value, least, most in (
            ("--workers", load.workers, 1, 10_000), ("--processes", load.processes, 1, 1000),
            ("--tasks-per-hour", load.tasks_per_hour, 0.001, 1e8), ("--at-once", load.at_once, 1, 1_000_000),
            ("--calls", load.calls, 1, MOST_CALLS), ("--hold", load.hold, 0, LONGEST_HOLD),
            ("--task-seconds", load.busy, 0.001, 86_400), ("--idle-timeout", load.idle_timeout, 0.1, 86_400),
            ("--lifetime", load.lifetime, 0.1, 864_000), ("--max-size", load.max_size, 1, 1000),
            ("--query-ms", load.query * 1000, 0.01, 3.6e6), ("--round-trip-ms", load.round_trip * 1000, 0, 10_000),
            ("--limit", load.limit, 1, 10_000_000), ("--worth", load.worth, 0.001, 1e6)):
        within(name, value, least, most)
    if load.busy < load.hold:
        within("--task-seconds", load.busy, load.hold, 86_400)


def forecast(load: Load, way: Way) -> Forecast:
    """Return the effect of a way under a load. Raises BadInput for an impossible load."""
    require_sense(load)
    kept = connections(load, way)
    return Forecast(way, kept.opened * HOUR, peak(load, way), kept.open, _connecting(load, way, kept.opened),
                    _first_load(load, lambda heavier: peak(heavier, way) > load.limit),
                    price(load, way), _first_load(load, lambda other: _pays(other, way)))


def connections(load: Load, way: Way) -> Kept:
    """Return how many connections are opened per second, and how many are open on average.

    ``problematic`` opens lambda c, each open for h + epsilon; ``improved`` opens lambda. A shared driver keeps its
    connections: see :mod:`rig.capacity.queueing`. It is computed for each worker separately, since Celery's workers
    take turns at the broker.
    """
    if way in {"process", "shared"}:
        kept = queueing.replaced(_kept_by_worker(load, way), load.lifetime)
        return Kept(kept.opened * load.workers, kept.open * load.workers)
    tasks = load.done_per_hour / HOUR
    opened = tasks * (load.calls if way == "problematic" else 1)
    return Kept(opened, opened * (load.hold + LIFE_AROUND_HOLD))


def peak(load: Load, way: Way) -> int:
    """Return the most connections at once, except in one moment in a thousand.

    This is N c, or N, and at most WP. For the scope ``shared`` it is the number of concurrent transactions in each
    worker.
    """
    if way == "process":
        return load.places
    if way == "shared":
        return load.workers * _leased_at_once(load)
    return tasks_at_once(load) * (load.calls if way == "problematic" else 1)


def tasks_at_once(load: Load) -> int:
    """Return the most tasks in progress (N), except in one moment in a thousand: a Poisson quantile, at most WP."""
    groups = load.tasks_per_hour / load.at_once / HOUR * load.busy
    return min(load.places, load.at_once * max(1, queueing.poisson_quantile(groups, RARE)))


def opened_by_first(load: Load, way: Way) -> int:
    """Return how many connections the first ``at_once`` tasks open on workers that have just started."""
    match way:
        case "problematic":
            return load.at_once * load.calls
        case "improved":
            return load.at_once
        case "process":
            return min(load.at_once, load.places)
        case "shared":
            return min(load.at_once, peak(load, way))


def price(load: Load, way: Way) -> float | None:
    """Return the idle connection-seconds for each opening saved compared with ``improved``; None if none is saved."""
    if way not in {"process", "shared"}:
        return None
    own, kept = connections(load, "improved"), connections(load, way)
    saved = own.opened - kept.opened
    return max(0.0, kept.open - own.open) / saved if saved > 0 else None


def _kept_by_worker(load: Load, way: Way) -> Kept:
    tasks, size = load.done_per_hour / HOUR / load.workers, load.at_once / load.workers
    if size > 1:        # a batch is distributed over the workers
        working = size * load.busy / min(size, load.processes)
        asked = math.ceil(min(size, load.processes)) if way == "process" else _leased_at_once(load)
        return queueing.in_batches(tasks / size, working, asked, load.idle_timeout)
    if way == "process":
        return queueing.in_order(tasks, load.busy, load.processes, load.idle_timeout)
    return queueing.in_order(tasks * load.calls, _lease(load), min(load.max_size, load.processes), load.idle_timeout)


def _leased_at_once(load: Load) -> int:
    """Return the most concurrent transactions in one worker: that many connections are kept for the idle timeout.

    It is a Poisson quantile for the time in which a batch is processed. It holds for all transactions that begin within
    a timeout, except in one timeout in a thousand.
    """
    tasks = min(load.processes / load.busy, load.done_per_hour / HOUR / load.workers)
    if load.at_once > load.workers:
        tasks = min(load.processes, load.at_once / load.workers) / load.busy
    rate = tasks * load.calls
    all_of_them = 1 - (1 - RARE) / max(1.0, rate * load.idle_timeout)
    most = max(1, queueing.poisson_quantile(rate * _lease(load), all_of_them))
    return min(load.max_size, load.processes, most)


def _lease(load: Load) -> float:
    """Return how long a transaction has its connection, in seconds: its time at the server, and a round trip."""
    return load.query + load.round_trip


def _connecting(load: Load, way: Way, opened: float) -> float:
    """Return the seconds per hour that tasks spend on connecting.

    Each opening takes k RTT + c0. Before each further call of a task, ``improved`` asks the server whether its
    connection is still good, which takes a round trip. With a shared driver, each task connects to the relay.
    """
    round_trips = ROUND_TRIPS_TO_OPEN + ROUND_TRIPS_FOR_TLS * load.tls
    seconds = opened * (round_trips * load.round_trip + SECONDS_TO_OPEN)
    tasks = load.done_per_hour / HOUR
    if way == "improved":
        seconds += tasks * (load.calls - 1) * load.round_trip
    elif way != "problematic":
        seconds += tasks * SECONDS_TO_RELAY
    return seconds * HOUR


def _pays(load: Load, way: Way) -> bool:
    at = price(load, way)
    return at is not None and at <= load.worth


def _first_load(load: Load, holds: Callable[[Load], bool]) -> float | None:
    """Return the smallest number of tasks per hour for which a condition holds, with an error of 1 %.

    The condition is assumed to hold for every larger number, up to what the processes can run. Returns None if it holds
    at no load, 0 if it holds at every load.
    """
    low, high = load.capacity / 1e6, load.capacity
    if not holds(replace(load, tasks_per_hour=high)):
        return None
    if holds(replace(load, tasks_per_hour=low)):
        return 0.0
    while high / low > 1.01:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if holds(replace(load, tasks_per_hour=middle)) else (middle, high)
    return high
