"""The watch: a count of the connections that a server accepts, without a fixed end."""

from typing import NamedTuple, Protocol

from patterns import identity
from rig.probe.window import Marker, Seen
from worker_init.upstream import USER_AGENT as RELAY_AGENT


class Asked(Protocol):
    """What the watch needs from the probe."""

    def sample(self, index: int, *, nameless: bool) -> Seen:
        """Return which connections are open and in a transaction now. Raises one of SERVER_ERRORS."""

    def mark(self, *, ask_start: bool) -> Marker:
        """Open a connection, read its own id, close it. Raises one of SERVER_ERRORS."""


class Look(NamedTuple):
    """The server at one moment (epoch, s): ids of its connections, the patterns that they name, how many were opened.

    ``opened`` counts from the first look on; None if nothing was counted, or if the server has restarted since.
    ``seen`` is how many of these a look has seen, a lower bound. ``others`` are the ids of other users' connections,
    which are in no other figure but ``opened``.
    """

    t: float
    pattern_of: dict[int, str]
    running: frozenset[int]
    opened: int | None
    seen: int
    others: frozenset[int]


class Watch:
    """Counts the connections that the server accepts, for as long as it is asked.

    On a server of the rig's own, a marker connection at each look gives an exact count as long as nobody else uses the
    server. Elsewhere the count is a lower bound, from the connections that a look has seen. The probe's own
    connections are in neither.
    """

    def __init__(self, probe: Asked, *, alone: bool) -> None:
        self._probe = probe
        self._first = self._last = probe.mark(ask_start=False).id if alone else None
        self._own: set[int] = set()         # connections of the probe since the first marker, and the later markers
        self._seen: set[int] = set()        # of those that are watched: only later ones count
        self._known = frozenset(self._look(nameless=True).sample.open)

    def look(self, *, count: bool = True, nameless: bool = False) -> Look:
        """Look once. Raises one of SERVER_ERRORS. Without ``count``, which takes a connection, nothing is counted.

        With ``nameless``, connections that only name the driver do not count as others.
        """
        seen = self._look(nameless=nameless)
        sample = seen.sample
        self._seen |= set(sample.open) - self._known
        self._seen -= seen.others           # it has said only now who it is
        return Look(sample.t, {row.id: pattern_named(row.user_agent) for row in seen.rows}, frozenset(sample.running),
                    self._opened() if count else None, len(self._seen), frozenset(seen.others))

    def _look(self, *, nameless: bool) -> Seen:
        seen = self._probe.sample(0, nameless=nameless)
        self._own |= seen.own
        return seen

    def _opened(self) -> int | None:
        if self._first is None or self._last is None:
            return len(self._seen)
        now = self._probe.mark(ask_start=False).id
        if now < self._last:
            self._first = now + 1           # never reached again: the ids have started again
        between = now - self._first - 1 - sum(self._first < number < now for number in self._own)
        self._own.add(now)
        self._last = now
        return between if between >= 0 else None


def pattern_named(user_agent: str | None) -> str:
    """Return the pattern that a connection's user agent names. Connections of shared drivers count as ``worker``."""
    if user_agent == RELAY_AGENT:
        return "worker"
    owner = identity.parse(user_agent)
    return owner.pattern if owner else "other"
