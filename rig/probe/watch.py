"""The watch: a count of the connections that a server accepts, without an end."""

from typing import NamedTuple, Protocol

from patterns import identity
from rig.probe.window import Marker, Seen
from rig.records import Sample
from worker_init.upstream import USER_AGENT as RELAY_AGENT


class Asked(Protocol):
    """What the watch needs of the probe."""

    def sample(self, index: int) -> Seen:
        """Return what is open and what runs now. Raises one of SERVER_ERRORS."""

    def mark(self, *, ask_start: bool) -> Marker:
        """Open a connection, read its own id, close it. Raises one of SERVER_ERRORS."""


class Look(NamedTuple):
    """The server at one moment (epoch, s): ids of its connections and the patterns they name, and what was opened.

    ``opened`` counts from the first look on; None where nothing was counted, or the server has restarted since.
    """

    t: float
    pattern_of: dict[int, str]
    running: frozenset[int]
    opened: int | None


class Watch:
    """Counts the connections that the server accepts, for as long as somebody looks.

    Exact on a server of the rig's own, by a marker connection at each look; elsewhere a lower bound, of those that a
    look has seen. The probe's own are in neither.
    """

    def __init__(self, probe: Asked, *, alone: bool) -> None:
        self._probe = probe
        self._first = self._last = probe.mark(ask_start=False).id if alone else None
        self._own: set[int] = set()         # connections of the probe since the first marker, and the later markers
        self._seen = set(self._look()[1])   # of others: only those that come later count
        self._known = frozenset(self._seen)

    def look(self, *, count: bool = True) -> Look:
        """Look once. Raises one of SERVER_ERRORS. Without ``count``, which takes a connection, nothing is counted."""
        sample, pattern_of = self._look()
        self._seen |= set(sample.open)
        return Look(sample.t, pattern_of, frozenset(sample.running), self._opened() if count else None)

    def _look(self) -> tuple[Sample, dict[int, str]]:
        seen = self._probe.sample(0)
        self._own |= seen.own
        return seen.sample, {row.id: pattern_named(row.user_agent) for row in seen.rows}

    def _opened(self) -> int | None:
        if self._first is None or self._last is None:
            return len(self._seen - self._known)
        now = self._probe.mark(ask_start=False).id
        if now < self._last:
            self._first = now + 1           # never reached again: ids have begun again
        between = now - self._first - 1 - sum(self._first < number < now for number in self._own)
        self._own.add(now)
        self._last = now
        return between if between >= 0 else None


def pattern_named(user_agent: str | None) -> str:
    """Return the pattern that a connection's user agent names: those of shared drivers are ``worker``."""
    if user_agent == RELAY_AGENT:
        return "worker"
    owner = identity.parse(user_agent)
    return owner.pattern if owner else "other"
