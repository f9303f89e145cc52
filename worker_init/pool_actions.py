"""What the pool's machine works with: limits, counters, connections, and the actions that it asks for."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from worker_init.errors import UpstreamFailure
from worker_init.measures import Histogram
from worker_init.pool_states import ConnectionState
from worker_init.routing import Place

_NEVER = float("inf")


class Limits(NamedTuple):
    """How much a pool may hold, and for how long. Times are in seconds.

    ``liveness_check`` is the time without an answer after which a connection is checked with a RESET.
    """

    max_size: int
    acquisition_timeout: float
    max_lifetime: float
    idle_timeout: float
    liveness_check: float


@dataclass
class Counters:
    """Counters since the pool's start. ``leases`` counts transactions, without the relay's own questions.

    ``own_faults`` counts events that the tables do not know. ``served_at_once`` counts borrowers that did not wait.
    ``wait`` counts those that were served after a wait, including the relay's own questions.
    """

    leases: int = 0
    waits: int = 0
    wait_seconds: float = 0.0
    longest_wait_seconds: float = 0.0
    timeouts: int = 0
    errors: int = 0
    own_faults: int = 0
    served_at_once: int = 0
    create: Histogram = field(default_factory=Histogram)
    wait: Histogram = field(default_factory=Histogram)
    use: Histogram = field(default_factory=Histogram)


class Link:
    """One upstream connection as the machine sees it. ``handle`` is the I/O layer's own object for it."""

    __slots__ = ("database", "deadline", "handle", "idle_since", "is_spoiled", "key", "lent_at", "opened_at",
                 "opening_since", "place", "proven_at", "state")

    def __init__(self, place: Place, opening_since: float = 0.0) -> None:
        self.place = place
        self.opening_since = opening_since
        self.state = ConnectionState.OPENING
        self.handle: Any = None
        self.opened_at = self.idle_since = self.proven_at = self.lent_at = 0.0
        self.deadline = _NEVER
        self.database: str | None = None
        self.key: Key | None = None
        self.is_spoiled = False

    def __repr__(self) -> str:
        return f"<Link {self.place} {self.state}>"


# Whose routing table: a database's, or that of the home database of an impersonated user or of the upstream's user.
Key = tuple[str | None, str | None]


class Grant(NamedTuple):
    """Tell a borrower that it has the connection."""

    borrower: Any
    link: Link


class Refuse(NamedTuple):
    """Tell a borrower that there is no connection, and why."""

    borrower: Any
    failure: UpstreamFailure


class Open(NamedTuple):
    """Open a connection to ``link.place``. ``opened`` or ``open_failed`` follows."""

    link: Link


class Check(NamedTuple):
    """Send RESET. ``answered`` or ``check_failed`` follows."""

    link: Link


class AskTable(NamedTuple):
    """Send ROUTE. ``routed``, ``route_failed`` or ``check_failed`` follows."""

    link: Link
    key: Key
    bookmarks: tuple[str, ...]


class Close(NamedTuple):
    """Send GOODBYE and close. If there is a lease (``was_lent``), its holder must be told."""

    link: Link
    was_lent: bool


class Abort(NamedTuple):
    """Close at once, even with data still to send, or cancel the attempt to open it."""

    link: Link


class Settle(NamedTuple):
    """Call ``settled`` once everything that has arrived from clients and servers has been handled."""


class WakeAt(NamedTuple):
    """Call ``tick`` at this time. It replaces an earlier request."""

    at: float


class Emptied(NamedTuple):
    """A drain is over: nothing is lent, and nobody waits."""


class Note(NamedTuple):
    """Write a line into the log. ``level`` is one of :mod:`logging`."""

    level: int
    text: str


Action = Grant | Refuse | Open | Check | AskTable | Close | Abort | Settle | WakeAt | Emptied | Note
