"""The table of a client's machine: for each state and event, what is done and which state follows.

Each state and event has its meaning beside it. ``LEAVING`` says for each state what must be undone when the client
goes. The reason does not matter: the client died, broke the protocol or was too late, or this package has a bug. A pair
that is not in the table cannot happen; if it does, it raises :class:`Unforeseen`, which ends only that client. ``python
-m worker_init.client_diagram`` draws the table.
"""

from collections.abc import Iterable
from enum import IntEnum, auto
from itertools import product
from typing import NamedTuple

from worker_init.errors import Unforeseen


class State(IntEnum):
    """Where a client stands."""

    OPENING = 0
    ASKING = auto()
    CHOOSING = auto()
    GREETING = auto()
    LOGGING_ON = auto()
    DELAYED = auto()
    READY = auto()
    READING = auto()
    WAITING = auto()
    WAITING_TO_ROUTE = auto()
    CHECKING = auto()
    ANSWERING = auto()
    ROUTING = auto()
    LEASED = auto()
    REFUSED = auto()
    CLOSING = auto()
    CLOSED = auto()


MEANING = {
    State.OPENING: "it must say which versions of Bolt it speaks",
    State.ASKING: "it has said so; the relay finds out what the server speaks",
    State.CHOOSING: "the relay has offered it a manifest of versions; it must choose one",
    State.GREETING: "the version is agreed; HELLO is due",
    State.LOGGING_ON: "HELLO was answered, or it logged off; LOGON is due",
    State.DELAYED: "its credentials were wrong; the relay delays the answer",
    State.READY: "it has logged on and has no upstream connection",
    State.READING: "it sends a RUN or BEGIN that the relay must read to know where it goes",
    State.WAITING: "it has sent the message that begins a transaction, and waits for a connection",
    State.WAITING_TO_ROUTE: "it has sent a ROUTE, and waits for a connection",
    State.CHECKING: "it has sent a RESET, and waits for a connection that has answered one",
    State.ANSWERING: "it has a connection; the server owes answers, or a message is on its way there",
    State.ROUTING: "it has a connection; the server owes the answer to a ROUTE, which the relay will change",
    State.LEASED: "it has a connection and the server owes nothing; a transaction, a result or a failure is open",
    State.REFUSED: "there was no connection; the relay answers IGNORED until a RESET",
    State.CLOSING: "the relay ignores what it sends; the last message to it is still being sent",
    State.CLOSED: "it is gone",
}


class Event(IntEnum):
    """What can happen to a client. The first ten are its messages."""

    HELLO = 0
    LOGON = auto()
    LOGOFF = auto()
    GOODBYE = auto()
    RESET = auto()
    TELEMETRY = auto()
    ROUTE = auto()
    QUERY = auto()          # RUN or BEGIN, passed on as it comes
    READ_QUERY = auto()     # RUN or BEGIN that must be read first: the upstream is routed, or the client has filters
    MORE = auto()           # PULL, DISCARD, COMMIT or ROLLBACK
    PROPOSED = auto()       # its versions are here, and the server's are not known
    OFFERED = auto()        # its versions are here, the server's are known, and it can choose
    AGREED = auto()         # one version is agreed
    DISAGREED = auto()      # there is no version that both sides speak
    GREETED = auto()        # HELLO can be answered, and says nothing of who it is: from Bolt 5.1 on
    UNSERVED = auto()       # HELLO cannot be answered: the server cannot be reached, or speaks too old a Bolt
    RIGHT = auto()          # its credentials are right
    WRONG = auto()          # they are not, or too many were wrong recently
    DELAY_OVER = auto()     # wrong credentials have waited for their answer
    READ = auto()           # the query that must be read is here and has been read
    EXCESS = auto()         # the query that must be read is larger than it may be
    GRANTED = auto()        # the pool lends a connection that speaks the client's version
    NEWER = auto()          # the pool lends one of a newer version: another pool has the client's
    UNFIT = auto()          # the pool lends one of an older version
    FAILED = auto()         # the pool has none
    ANSWERED = auto()       # the server owes nothing more, and is not READY
    OVER = auto()           # the server owes nothing more, and is READY: the lease ends
    SERVER_LOST = auto()    # the lent connection is gone
    SERVER_FAULT = auto()   # the server sent what is not Bolt, or what it may not send
    VIOLATION = auto()      # the client sent what is not Bolt, or more than it may; what came before has its turn first
    OVERDUE = auto()        # it stopped within a message, or does not read, for too long
    LATE = auto()           # it did not log on in time
    ENDED = auto()          # the client is gone
    LINGERED = auto()       # it does not read the last that was said to it
    BROKEN = auto()         # an error of this package, in this client's machine


class Do(IntEnum):
    """What is done. Each member is a method of :class:`worker_init.client.Client` with the same name."""

    HOLD = 0                # leave the message where it is, at the head of the queue, until the state changes
    ASK = auto()
    AGREE = auto()
    GREET = auto()
    CHECK_CREDENTIALS = auto()
    ENTER = auto()
    LOG_OFF = auto()
    DELAY = auto()
    SAY_UNAUTHORIZED = auto()
    SAY_HELLO = auto()
    SAY_WELCOME = auto()
    SAY_SUCCESS = auto()
    SAY_IGNORED = auto()
    SAY_FAILURE = auto()
    READ_QUERY = auto()
    BORROW = auto()
    BORROW_TO_ROUTE = auto()
    BORROW_CHECKED = auto()
    BORROW_AGAIN = auto()
    BEGIN = auto()
    SEND_ROUTE = auto()
    PASS = auto()
    SAY_ROUTE = auto()
    ABANDON = auto()
    GIVE_BACK = auto()
    RESET_AND_GIVE_BACK = auto()
    DISCARD = auto()
    TURN_AWAY = auto()
    OUT_OF_PLACE = auto()
    CLOSE = auto()
    ABORT = auto()


class Row(NamedTuple):
    """What is done, in order, and the state after it. The state changes first."""

    do: tuple[Do, ...]
    to: State


Table = dict[State, dict[Event, Row]]


class _Rows(NamedTuple):
    states: tuple[State, ...]
    events: tuple[Event, ...]
    do: tuple[Do, ...]
    to: State | None


def _when(states: State | Iterable[State], events: Event | Iterable[Event], *do: Do, to: State | None = None) -> _Rows:
    """Return rows of the table; without ``to`` the state stays as it is."""
    return _Rows((states,) if isinstance(states, State) else tuple(states),
                 (events,) if isinstance(events, Event) else tuple(events), do, to)


# What must be undone when a client goes, in each state. A connection on which nothing is outstanding is reset and lent
# again. A connection that owes answers, or that got a part of a message, is closed: Neo4j rolls back what was open on
# it.
LEAVING: dict[State, tuple[Do, ...]] = dict.fromkeys(State, ()) | {
    State.WAITING: (Do.ABANDON,), State.WAITING_TO_ROUTE: (Do.ABANDON,), State.CHECKING: (Do.ABANDON,),
    State.ANSWERING: (Do.DISCARD,), State.ROUTING: (Do.DISCARD,), State.LEASED: (Do.RESET_AND_GIVE_BACK,),
}

_ABANDONS = (State.WAITING, State.WAITING_TO_ROUTE, State.CHECKING)
# Something was asked for before, and will be answered.
_OWED = (State.DELAYED, State.READING, *_ABANDONS, State.ANSWERING, State.ROUTING)
_HERE = tuple(state for state in State if state < State.CLOSING)
_GONE = (State.CLOSING, State.CLOSED)
_MESSAGES = tuple(event for event in Event if event <= Event.MORE)
_PASSED_ON = (Event.QUERY, Event.MORE, Event.RESET, Event.TELEMETRY)
_ANSWERED_HERE = (Event.HELLO, Event.LOGON, Event.LOGOFF)


def _but(*excepted: Event) -> tuple[Event, ...]:
    return tuple(event for event in _MESSAGES if event not in excepted)


_ROWS = (
    # A version of Bolt
    _when(State.OPENING, Event.PROPOSED, Do.ASK, to=State.ASKING),
    _when((State.OPENING, State.ASKING), Event.OFFERED, to=State.CHOOSING),
    _when((State.OPENING, State.ASKING, State.CHOOSING), Event.AGREED, Do.AGREE, to=State.GREETING),
    _when((State.OPENING, State.ASKING, State.CHOOSING), Event.DISAGREED, Do.TURN_AWAY, to=State.CLOSING),
    # Who it is
    _when(State.GREETING, Event.HELLO, Do.GREET),
    _when(State.GREETING, Event.GREETED, Do.SAY_HELLO, to=State.LOGGING_ON),
    _when(State.GREETING, Event.UNSERVED, Do.SAY_FAILURE, Do.CLOSE, to=State.CLOSING),
    _when(State.LOGGING_ON, Event.LOGON, Do.CHECK_CREDENTIALS),
    _when(State.LOGGING_ON, Event.RIGHT, Do.ENTER, Do.SAY_WELCOME, to=State.READY),
    _when(State.GREETING, Event.RIGHT, Do.ENTER, Do.SAY_HELLO, to=State.READY),
    _when((State.GREETING, State.LOGGING_ON), Event.WRONG, Do.DELAY, to=State.DELAYED),
    _when(State.DELAYED, Event.DELAY_OVER, Do.SAY_UNAUTHORIZED, Do.CLOSE, to=State.CLOSING),
    # Without a connection
    _when(State.READY, (Event.QUERY, Event.MORE), Do.BORROW, Do.HOLD, to=State.WAITING),
    _when(State.READY, Event.READ_QUERY, Do.READ_QUERY, to=State.READING),
    _when(State.READING, Event.READ, Do.BORROW, to=State.WAITING),
    _when(State.READING, Event.EXCESS, Do.TURN_AWAY, to=State.CLOSING),
    _when(State.READY, Event.ROUTE, Do.BORROW_TO_ROUTE, to=State.WAITING_TO_ROUTE),
    _when(State.READY, Event.RESET, Do.BORROW_CHECKED, to=State.CHECKING),
    _when(State.READY, Event.TELEMETRY, Do.SAY_SUCCESS),
    _when(State.READY, Event.LOGOFF, Do.LOG_OFF, Do.SAY_SUCCESS, to=State.LOGGING_ON),
    # Waiting for one
    _when(State.WAITING, Event.GRANTED, Do.BEGIN, to=State.ANSWERING),
    _when(State.WAITING_TO_ROUTE, Event.GRANTED, Do.BEGIN, Do.SEND_ROUTE, to=State.ROUTING),
    _when(State.CHECKING, Event.GRANTED, Do.GIVE_BACK, Do.SAY_SUCCESS, to=State.READY),
    _when(_ABANDONS, Event.NEWER, Do.GIVE_BACK, Do.BORROW_AGAIN),
    _when(_ABANDONS, Event.UNFIT, Do.GIVE_BACK, Do.TURN_AWAY, to=State.CLOSING),
    _when(_ABANDONS, Event.FAILED, Do.SAY_FAILURE, to=State.REFUSED),
    _when(State.REFUSED, Event.RESET, Do.SAY_SUCCESS, to=State.READY),
    _when(State.REFUSED, _but(Event.RESET, Event.GOODBYE), Do.SAY_IGNORED),
    # With one
    _when((State.ANSWERING, State.LEASED), _PASSED_ON, Do.PASS, to=State.ANSWERING),
    _when(State.LEASED, (Event.READ_QUERY, Event.ROUTE), Do.PASS, to=State.ANSWERING),
    _when(State.ANSWERING, Event.ANSWERED, to=State.LEASED),
    _when(State.ANSWERING, Event.OVER, Do.GIVE_BACK, to=State.READY),
    _when(State.ROUTING, Event.ANSWERED, Do.SAY_ROUTE, to=State.LEASED),
    _when(State.ROUTING, Event.OVER, Do.SAY_ROUTE, Do.GIVE_BACK, to=State.READY),
    # What has to wait
    _when((State.DELAYED, *_ABANDONS, State.ROUTING), _MESSAGES, Do.HOLD),
    _when(State.READING, _but(Event.QUERY), Do.HOLD),
    _when(State.ANSWERING, (*_ANSWERED_HERE, Event.ROUTE, Event.READ_QUERY, Event.GOODBYE), Do.HOLD),
    _when(_OWED, Event.VIOLATION, Do.HOLD),
    # What has no place
    _when(State.LEASED, _ANSWERED_HERE, Do.RESET_AND_GIVE_BACK, Do.OUT_OF_PLACE, to=State.CLOSING),
    _when(State.READY, (Event.HELLO, Event.LOGON), Do.OUT_OF_PLACE, to=State.CLOSING),
    _when(State.GREETING, _but(Event.HELLO, Event.GOODBYE, Event.READ_QUERY), Do.OUT_OF_PLACE, to=State.CLOSING),
    _when(State.LOGGING_ON, _but(Event.LOGON, Event.GOODBYE), Do.OUT_OF_PLACE, to=State.CLOSING),
    # The end, caused by the server or by time
    _when((State.ANSWERING, State.ROUTING, State.LEASED), Event.SERVER_LOST, Do.DISCARD, Do.CLOSE, to=State.CLOSING),
    _when((State.ANSWERING, State.ROUTING, State.LEASED), Event.SERVER_FAULT, Do.DISCARD, Do.ABORT, to=State.CLOSED),
    _when((State.OPENING, State.CHOOSING, State.GREETING, State.LOGGING_ON), Event.LATE, Do.TURN_AWAY,
          to=State.CLOSING),
    _when(State.CLOSING, Event.LINGERED, Do.ABORT, to=State.CLOSED),
    # … or by the client, in any state
    *(_when(state, Event.GOODBYE, *LEAVING[state], Do.CLOSE, to=State.CLOSING)
      for state in (State.GREETING, State.LOGGING_ON, State.READY, State.REFUSED, State.LEASED)),
    *(_when(state, Event.VIOLATION, *LEAVING[state], Do.TURN_AWAY, to=State.CLOSING)
      for state in _HERE if state not in _OWED),
    *(_when(state, Event.OVERDUE, *LEAVING[state], Do.TURN_AWAY, to=State.CLOSING) for state in _HERE),
    *(_when(state, Event.ENDED, *LEAVING[state], to=State.CLOSED) for state in _HERE),
    _when(_GONE, Event.ENDED, to=State.CLOSED),
    # … or by this package
    *(_when(state, Event.BROKEN, *LEAVING[state], Do.ABORT, to=State.CLOSED) for state in State),
)


def _table() -> Table:
    table: Table = {state: {} for state in State}
    for states, events, do, to in _ROWS:
        for state, event in product(states, events):
            if event in table[state]:
                raise ValueError(f"{event.name} in the state {state.name} is there twice")
            table[state][event] = Row(do, state if to is None else to)
    return table


TABLE = _table()


def unforeseen(state: State, event: Event) -> Unforeseen:
    """Return the error for a pair that the table does not know."""
    return Unforeseen(f"{event.name} in the state {state.name}")
