"""What the pool's machine is made of and what it decides: limits, counters, connections, and actions to carry out."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from worker_init.errors import UpstreamFailure
from worker_init.measures import Histogram
from worker_init.pool_states import ConnectionState
from worker_init.routing import Place

_NEVER = float("inf")


class Limits(NamedTuple):
    """What a pool may hold, and how long; times in seconds.

    ``liveness_check`` is the time without an answer after which a connection is checked with a RESET.
    """

    max_size: int
    acquisition_timeout: float
    max_lifetime: float
    idle_timeout: float
    liveness_check: float


@dataclass
class Counters:
    """What only grows, from the pool's start. ``leases`` are transactions: what the relay itself asks is none.

    ``own_faults`` counts events that the tables do not know. ``served_at_once`` counts who did not wait, ``wait`` who
    was served behind a wait, the relay's own questions included.
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
    """One upstream connection as the machine sees it. ``handle`` is whatever the I/O knows it by."""

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


# Whose routing table: a database's, or the home database's of an impersonated user or of the upstream's own.
Key = tuple[str | None, str | None]


class Grant(NamedTuple):
    """Tell a borrower that the connection is its own."""

    borrower: Any
    link: Link


class Refuse(NamedTuple):
    """Tell a borrower that there is no connection, and why."""

    borrower: Any
    failure: UpstreamFailure


class Open(NamedTuple):
    """Open a connection to ``link.place``; ``opened`` or ``open_failed`` answers."""

    link: Link


class Check(NamedTuple):
    """Send RESET; ``answered`` or ``check_failed`` answers."""

    link: Link


class AskTable(NamedTuple):
    """Send ROUTE; ``routed``, ``route_failed`` or ``check_failed`` answers."""

    link: Link
    key: Key
    bookmarks: tuple[str, ...]


class Close(NamedTuple):
    """Say GOODBYE and close; under a lease (``was_lent``) its holder has to be told."""

    link: Link
    was_lent: bool


class Abort(NamedTuple):
    """Close at once, whatever is still to be sent; cancel the attempt to open it."""

    link: Link


class Settle(NamedTuple):
    """Call ``settled`` when all that has already come from clients and servers is handled."""


class WakeAt(NamedTuple):
    """Call ``tick`` at this time; it takes the place of an earlier one."""

    at: float


class Emptied(NamedTuple):
    """A drain is over: nothing is lent, nobody waits."""


class Note(NamedTuple):
    """Write a line into the log. ``level`` is one of :mod:`logging`."""

    level: int
    text: str


Action = Grant | Refuse | Open | Check | AskTable | Close | Abort | Settle | WakeAt | Emptied | Note
