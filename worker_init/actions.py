"""The actions that a client's machine asks for. The shell carries them out; the machine has no side effects."""

from dataclasses import dataclass
from enum import IntEnum, auto
from typing import TYPE_CHECKING, NamedTuple

from worker_init.routing import Route

if TYPE_CHECKING:
    from worker_init.client import Client


class Timer(IntEnum):
    """What a timer of a client's machine is for.

    The members are integers because Python code hashes the members of other enumerations, which is slower.
    """

    LOGON = auto()      # the client must have logged on by then
    PENALTY = auto()    # the delayed answer to wrong credentials is due
    NOOP = auto()       # a waiting client needs a sign of life
    STALL = auto()      # the client stopped in the middle of a message
    UNREAD = auto()     # the client does not read what was sent to it
    LINGER = auto()     # the client does not read the last message that is sent to it


# These two are created for every block of bytes. A class with slots takes half the time of a named tuple.
@dataclass(slots=True)
class ToClient:
    """Write to the client."""

    data: bytes


@dataclass(slots=True)
class ToServer:
    """Write to the lent connection if the client is still there. If it is gone, this ends it."""

    data: bytes


class Borrow(NamedTuple):
    """Ask the pool for a connection. ``granted`` or ``refused`` follows, unless ``Abandon`` comes first."""

    route: Route
    must_check: bool


class Abandon(NamedTuple):
    """Stop waiting for a connection."""


class GiveBack(NamedTuple):
    """End the lease; the connection is in the state in which it was lent."""


class ResetAndGiveBack(NamedTuple):
    """End the lease. Something is still open on the connection, but the server owes no answer."""


class Discard(NamedTuple):
    """End the lease by closing its connection."""


class AskServer(NamedTuple):
    """Find out which Bolt the server speaks: ``server_known`` follows."""


class Began(NamedTuple):
    """Count a transaction that has begun."""


class Failed(NamedTuple):
    """Tell the pool that the server answered with a FAILURE during the lease."""

    code: str


class PauseClient(NamedTuple):
    """Stop reading from the client. Its end must be noticed all the same."""


class ResumeClient(NamedTuple):
    """Read from the client again."""


class PauseServer(NamedTuple):
    """Stop reading from the lent connection."""


class ResumeServer(NamedTuple):
    """Read from the lent connection again."""


class TurnAway(NamedTuple):
    """Count a client that is turned away, and log the reason."""

    why: str


class Report(NamedTuple):
    """Log what a server did wrong, once for each reason."""

    why: str


class Wake(NamedTuple):
    """Let these clients check again whether they may be read from: there is room now."""

    clients: "tuple[Client, ...]"


class StartTimer(NamedTuple):
    """Call ``timer_ended`` with this timer after so many seconds. A timer that is running starts again."""

    timer: Timer
    seconds: float


class StopTimer(NamedTuple):
    """Cancel a timer if it is running."""

    timer: Timer


class ComeBack(NamedTuple):
    """Call ``go_on`` in the next turn of the event loop. There is more to do, but others are served in between."""


class Close(NamedTuple):
    """Close the client's connection once everything still to be written has been written."""


class Abort(NamedTuple):
    """Close the client's connection at once."""


Action = (ToClient | ToServer | Borrow | Abandon | GiveBack | ResetAndGiveBack | Discard | AskServer | Began | Failed
          | PauseClient | ResumeClient | PauseServer | ResumeServer | TurnAway | Report | Wake | StartTimer | StopTimer
          | ComeBack | Close | Abort)
