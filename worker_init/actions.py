"""What a client's machine wants done. The shell does it, in order; the machine itself does nothing to the world."""

from dataclasses import dataclass
from enum import IntEnum, auto
from typing import TYPE_CHECKING, NamedTuple

from worker_init.routing import Route

if TYPE_CHECKING:
    from worker_init.client import Client


class Timer(IntEnum):
    """Why a machine wants to be told that some time has passed.

    Integers, because other members of an enumeration are hashed in Python.
    """

    LOGON = auto()      # it has to have said who it is
    PENALTY = auto()    # wrong credentials are answered now
    NOOP = auto()       # a client that waits needs a sign of life
    STALL = auto()      # it has stopped within a message
    UNREAD = auto()     # it does not read what was said to it
    LINGER = auto()     # it does not read the last that is said to it


# These two are made for every block of bytes: a class with slots takes half the time that a named tuple takes.
@dataclass(slots=True)
class ToClient:
    """Write to the client."""

    data: bytes


@dataclass(slots=True)
class ToServer:
    """Write to the lent connection, if the client is still there; a client that is gone has ended."""

    data: bytes


class Borrow(NamedTuple):
    """Ask the pool for a connection: ``granted`` or ``refused`` follows, unless ``Abandon`` comes before."""

    route: Route
    must_check: bool


class Abandon(NamedTuple):
    """Wait for a connection no longer."""


class GiveBack(NamedTuple):
    """End the lease; the connection is as it was when it was lent."""


class ResetAndGiveBack(NamedTuple):
    """End the lease; something is open on the connection, and nothing outstanding."""


class Discard(NamedTuple):
    """End the lease by closing its connection."""


class AskServer(NamedTuple):
    """Find out what the server speaks: ``server_known`` or ``server_unknown`` follows."""


class Began(NamedTuple):
    """Count a transaction that has begun."""


class Failed(NamedTuple):
    """Let the pool know of a FAILURE that the server answered within the lease."""

    code: str


class PauseClient(NamedTuple):
    """Read no more from the client; its end has to be noticed all the same."""


class ResumeClient(NamedTuple):
    """Read from the client again."""


class PauseServer(NamedTuple):
    """Read no more from the lent connection."""


class ResumeServer(NamedTuple):
    """Read from the lent connection again."""


class TurnAway(NamedTuple):
    """Count a client that is turned away, and say why."""

    why: str


class Report(NamedTuple):
    """Say what a server has done wrong, once for each reason."""

    why: str


class Wake(NamedTuple):
    """Let these machines look again whether they may read on: there is room."""

    clients: "tuple[Client, ...]"


class StartTimer(NamedTuple):
    """Call ``timer_ended`` with this timer after so many seconds; a timer that runs starts from the beginning."""

    timer: Timer
    seconds: float


class StopTimer(NamedTuple):
    """Forget a timer, if it runs."""

    timer: Timer


class ComeBack(NamedTuple):
    """Call ``go_on`` in the event loop's next turn: there is more to do, and others are to be served in between."""


class Close(NamedTuple):
    """Close the client's connection behind what is still to be written."""


class Abort(NamedTuple):
    """Close the client's connection at once."""


Action = (ToClient | ToServer | Borrow | Abandon | GiveBack | ResetAndGiveBack | Discard | AskServer | Began | Failed
          | PauseClient | ResumeClient | PauseServer | ResumeServer | TurnAway | Report | Wake | StartTimer | StopTimer
          | ComeBack | Close | Abort)
