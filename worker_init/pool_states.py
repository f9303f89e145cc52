"""The pool's tables: what may happen to a connection, to a borrower that waits for one, and to the pool.

Each table says for each state which events may come and which state follows. Any other event cannot happen. If it does,
that is a bug in this package (:class:`worker_init.pool_machine.PoolMachine` counts it and closes the connection).
"""

from enum import Enum


class _Named(str, Enum):
    """A string enumeration like ``StrEnum``, which Python 3.10 does not have."""

    # The same hash as a string's, which equality is based on. Enum's own is Python code, and is called at each step.
    __hash__ = str.__hash__

    def __str__(self) -> str:
        return str(self.value)


class ConnectionState(_Named):
    """The state of an upstream connection. All but GONE count for the pool's size."""

    OPENING = "opening"
    IDLE = "idle"
    CHECKING = "checking"
    ROUTING = "routing"
    LENT = "lent"
    RESETTING = "resetting"
    BROKEN = "broken"
    CLOSING = "closing"
    GONE = "gone"


class ConnectionEvent(_Named):
    """What happens to an upstream connection."""

    OPENED = "it is open"
    OPEN_FAILED = "opening failed"
    LENT = "a client takes it"
    GIVEN_BACK = "the client's transaction ended"
    LEFT = "the client ended within its transaction"
    DISCARDED = "the client ended with an answer outstanding"
    ASKED_ALIVE = "RESET is sent"
    ASKED_TABLE = "ROUTE is sent"
    ANSWERED = "RESET is answered"
    ROUTED = "ROUTE is answered"
    REFUSED = "ROUTE fails"
    FAILED = "no such answer in time"
    SPOKE = "the server spoke unasked"
    RETIRED = "the pool closes it"
    LOST = "its end was read"


class WaiterState(_Named):
    """The state of a borrower that was not served at once."""

    ASKING = "asking"
    WAITING = "waiting"
    SERVED = "served"
    REFUSED = "refused"
    LEFT = "left"


class WaiterEvent(_Named):
    """What happens to a borrower that waits."""

    SETTLED = "all that had come before it was handled"
    GRANTED = "a connection is ready"
    REFUSED = "no connection lives and none can be opened"
    TIMED_OUT = "the acquisition timeout has passed"
    ABANDONED = "the client ended"


class PoolState(_Named):
    """The last known state of the server, or the state that an operator set."""

    NEW = "new"
    UP = "up"
    DOWN = "down"
    PAUSED = "paused"
    DRAINING = "draining"
    CLOSED = "closed"


# The state of a shared driver that does not use its pool, because tasks connect by themselves.
OFF = "off"


class PoolEvent(_Named):
    """What happens to the pool as a whole."""

    CONNECTED = "a connection is open"
    UNREACHABLE = "opening failed, no connection lives"
    PAUSE = "an operator pauses it"
    RESUME = "an operator resumes it"
    DRAIN = "the host stops"
    CLOSE = "the drain is over"


_C, _CE = ConnectionState, ConnectionEvent
_W, _WE = WaiterState, WaiterEvent
_P, _PE = PoolState, PoolEvent

CONNECTION_TABLE: dict[ConnectionState, dict[ConnectionEvent, ConnectionState]] = {
    _C.OPENING: {
        _CE.OPENED: _C.IDLE,
        _CE.OPEN_FAILED: _C.GONE,
        _CE.RETIRED: _C.GONE,               # the attempt is cancelled
    },
    _C.IDLE: {
        _CE.LENT: _C.LENT,
        _CE.ASKED_ALIVE: _C.CHECKING,
        _CE.ASKED_TABLE: _C.ROUTING,
        _CE.SPOKE: _C.CLOSING,
        _CE.RETIRED: _C.CLOSING,
        _CE.LOST: _C.GONE,
    },
    _C.CHECKING: {
        _CE.ANSWERED: _C.IDLE,
        _CE.FAILED: _C.CLOSING,
        _CE.RETIRED: _C.CLOSING,
        _CE.LOST: _C.GONE,
    },
    _C.ROUTING: {
        _CE.ROUTED: _C.IDLE,
        _CE.REFUSED: _C.CHECKING,           # the server is in its state FAILED: RESET
        _CE.FAILED: _C.CLOSING,
        _CE.RETIRED: _C.CLOSING,
        _CE.LOST: _C.GONE,
    },
    _C.LENT: {
        _CE.GIVEN_BACK: _C.IDLE,
        _CE.LEFT: _C.RESETTING,
        _CE.DISCARDED: _C.CLOSING,
        _CE.RETIRED: _C.CLOSING,
        _CE.LOST: _C.BROKEN,                # the lease goes on until the client's side has let go
    },
    _C.RESETTING: {
        _CE.ANSWERED: _C.IDLE,
        _CE.FAILED: _C.CLOSING,
        _CE.RETIRED: _C.CLOSING,
        _CE.LOST: _C.GONE,
    },
    _C.BROKEN: {
        _CE.GIVEN_BACK: _C.GONE,
        _CE.LEFT: _C.GONE,
        _CE.DISCARDED: _C.GONE,
        _CE.RETIRED: _C.GONE,
    },
    _C.CLOSING: {
        _CE.LOST: _C.GONE,
        _CE.GIVEN_BACK: _C.CLOSING,         # the pool closed it under a lease, which ends now
        _CE.LEFT: _C.CLOSING,
        _CE.DISCARDED: _C.CLOSING,
        _CE.RETIRED: _C.CLOSING,
    },
    _C.GONE: {
        _CE.OPENED: _C.GONE,                # opening ended in the moment in which it was cancelled
        _CE.OPEN_FAILED: _C.GONE,
        _CE.GIVEN_BACK: _C.GONE,            # the lease of a connection that the pool had closed ends last
        _CE.LEFT: _C.GONE,
        _CE.DISCARDED: _C.GONE,
    },
}

WAITER_TABLE: dict[WaiterState, dict[WaiterEvent, WaiterState]] = {
    _W.ASKING: {
        _WE.SETTLED: _W.WAITING,
        _WE.GRANTED: _W.SERVED,
        _WE.REFUSED: _W.REFUSED,
        _WE.TIMED_OUT: _W.REFUSED,
        _WE.ABANDONED: _W.LEFT,
    },
    _W.WAITING: {
        _WE.GRANTED: _W.SERVED,
        _WE.REFUSED: _W.REFUSED,
        _WE.TIMED_OUT: _W.REFUSED,
        _WE.ABANDONED: _W.LEFT,
    },
    _W.SERVED: {},
    _W.REFUSED: {},
    _W.LEFT: {},
}

_ENDS = {_PE.DRAIN: _P.DRAINING, _PE.CLOSE: _P.CLOSED}
_LIVES = {_PE.CONNECTED: _P.UP, _PE.UNREACHABLE: _P.DOWN, _PE.PAUSE: _P.PAUSED}
POOL_TABLE: dict[PoolState, dict[PoolEvent, PoolState]] = {
    _P.NEW: {**_LIVES, _PE.RESUME: _P.NEW, **_ENDS},
    _P.UP: {**_LIVES, _PE.RESUME: _P.UP, **_ENDS},
    _P.DOWN: {**_LIVES, _PE.RESUME: _P.DOWN, **_ENDS},
    # What was known of the server is of no use any more once somebody has worked at it.
    _P.PAUSED: {**dict.fromkeys(_LIVES, _P.PAUSED), _PE.RESUME: _P.NEW, **_ENDS},
    _P.DRAINING: {**dict.fromkeys(_PE, _P.DRAINING), _PE.CLOSE: _P.CLOSED},
    _P.CLOSED: dict.fromkeys(_PE, _P.CLOSED),
}
