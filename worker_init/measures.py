"""What a host measures of its shared drivers, as plain values: no I/O, and no other package is needed.

The names are those of OpenTelemetry's semantic conventions for database client connections; :mod:`worker_init.metrics`
exports them. Each series belongs to a slot and an upstream. The number of series is bounded, whatever tasks ask for.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

# Seconds: OpenTelemetry's advice for db.client.operation.duration, and two more for long waits and long transactions.
BOUNDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0)
_FIRST_BOUND = BOUNDS[0]
# More than 16 slots with 32 upstreams each. Any further series are counted together.
MOST_SERIES = 1000
OTHER = "other"


class Histogram:
    """How often something took how long: a count for each of ``BOUNDS``, one for everything longer, and the sum."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one more, in seconds."""
        # Nearly all values are in the first buckets. This runs in every transaction.
        self.counts[bisect_left(BOUNDS, seconds) if seconds > _FIRST_BOUND else 0] += 1
        self.sum += seconds

    def plus(self, other: "Histogram", at_once: int = 0) -> "Histogram":
        """Return the sum of two histograms, plus ``at_once`` values that took no time at all."""
        both = Histogram()
        both.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        both.counts[0] += at_once
        both.sum = self.sum + other.sum
        return both


class Key(NamedTuple):
    """What a series measures."""

    slot: str
    upstream: str


@dataclass
class Totals:
    """Counters, which only grow."""

    leases: int = 0
    timeouts: int = 0
    errors: int = 0
    own_faults: int = 0
    server_faults: int = 0
    create: Histogram = field(default_factory=Histogram)
    wait: Histogram = field(default_factory=Histogram)
    use: Histogram = field(default_factory=Histogram)

    def plus(self, other: "Totals") -> "Totals":
        """Return the sum of both."""
        return Totals(self.leases + other.leases, self.timeouts + other.timeouts, self.errors + other.errors,
                      self.own_faults + other.own_faults, self.server_faults + other.server_faults,
                      self.create.plus(other.create), self.wait.plus(other.wait), self.use.plus(other.use))


@dataclass
class Gauges:
    """The present state. ``states`` counts the shared drivers in each state."""

    idle: int = 0
    used: int = 0
    most: int = 0
    pending: int = 0
    clients: int = 0
    states: Counter[str] = field(default_factory=Counter)

    def plus(self, other: "Gauges") -> "Gauges":
        """Return the sum of both."""
        return Gauges(self.idle + other.idle, self.used + other.used, self.most + other.most,
                      self.pending + other.pending, self.clients + other.clients, self.states + other.states)


class Measured(NamedTuple):
    """All that is measured of one shared driver, or of several."""

    totals: Totals
    gauges: Gauges


class Measures:
    """A host's series. The counts of a driver that was closed are kept, because a counter never goes back."""

    def __init__(self, most: int = MOST_SERIES) -> None:
        self._most = most
        self._ended: dict[Key, Totals] = {}

    def key(self, slot: int, uri: str) -> Key:
        """Return the key of a driver's series, without any part of an address that could be secret or unbounded."""
        key = Key(str(slot), upstream_name(uri))
        if key not in self._ended and len(self._ended) >= self._most:
            key = Key(OTHER, OTHER)
        self._ended.setdefault(key, Totals())
        return key

    def end(self, slot: int, uri: str, totals: Totals) -> None:
        """Keep the counts of a driver that is now closed."""
        key = self.key(slot, uri)
        self._ended[key] = self._ended[key].plus(totals)

    def now(self, drivers: Iterable[tuple[int, str, Measured]]) -> dict[Key, Measured]:
        """Return every series, given the slot, the address and the measures of each open driver."""
        found: dict[Key, Measured] = {}
        for slot, uri, measured in drivers:
            key = self.key(slot, uri)
            sofar = found.get(key) or Measured(self._ended[key], Gauges())
            found[key] = Measured(sofar.totals.plus(measured.totals), sofar.gauges.plus(measured.gauges))
        return {key: Measured(totals, Gauges()) for key, totals in self._ended.items()} | found


def upstream_name(uri: str) -> str:
    """Return a server's address alone: no user, no password, no routing context."""
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
