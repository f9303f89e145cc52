"""Who gets which upstream connection, and when, decided without I/O: no socket, no event loop, no clock.

Events are the methods of :class:`PoolMachine`; the time is their argument ``now``. They leave the resulting actions in
``actions``, in order, for :class:`worker_init.pool.Pool` to carry out. The tables in :mod:`worker_init.pool_states`
alone say which event may come in which state, and which state follows.

Borrowers that wait for the same kind of connection wait in one *lane*, and are served in turn. A lane waits for
connections that will be free in a moment (opening, checking, resetting). For its other borrowers, new connections are
opened as far as there is room. A lane is refused only if no living connection could serve it, and each member that
could has failed since the lane's first borrower came.
"""

import random
from bisect import insort
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from worker_init.errors import EXHAUSTED, UNREACHABLE, ProtocolViolation, UpstreamFailure
from worker_init.handshake import Version
from worker_init.pool_actions import (
    Abort,
    Action,
    AskTable,
    Check,
    Close,
    Counters,
    Emptied,
    Grant,
    Key,
    Limits,
    Link,
    Note,
    Open,
    Refuse,
    Settle,
    WakeAt,
)
from worker_init.pool_states import (
    CONNECTION_TABLE,
    POOL_TABLE,
    WAITER_TABLE,
    ConnectionEvent,
    ConnectionState,
    PoolEvent,
    PoolState,
    WaiterEvent,
    WaiterState,
)
from worker_init.routing import ANYWHERE, Place, Route, Tables

# How long the answer to a RESET may take. This is the most that a dead connection costs the task that gets it.
CHECK_SECONDS = 5.0
# How long a connection may take to end after its GOODBYE.
CLOSE_SECONDS = 5.0
# A member that refused a connection is not asked for another one while its present connections can serve.
RETRY_SECONDS = 1.0
# The longest pause before a server that had no thread for a transaction is asked for another connection.
LONGEST_RETRY_SECONDS = 60.0
# In seconds.
_CHECK_EVERY = 1.0
_NEVER = float("inf")
_SAID_AGAIN_SECONDS = 60.0
_INFO, _WARNING, _ERROR = 20, 30, 40
# As in the driver: these errors end the search for a routing table, because every router would answer the same.
_FATAL_IN_DISCOVERY = frozenset({
    "Neo.ClientError.Database.DatabaseNotFound", "Neo.ClientError.Transaction.InvalidBookmark",
    "Neo.ClientError.Transaction.InvalidBookmarkMixture", "Neo.ClientError.Statement.TypeError",
    "Neo.ClientError.Statement.ArgumentError", "Neo.ClientError.Request.Invalid"})
_NOT_A_WRITER = (".NotALeader", ".ForbiddenOnReadOnlyDatabase")

_C, _E, _W = ConnectionState, ConnectionEvent, WaiterEvent
# Looking up a member of an enumeration is slower than an ordinary attribute access. These are used in each transaction.
_IDLE, _GONE = _C.IDLE, _C.GONE
_IS_LENT, _IS_GIVEN_BACK = _E.LENT, _E.GIVEN_BACK
# Will be free in a moment. A connection that asks for a routing table does not count: its server may not answer.
_PREPARING = frozenset({_C.OPENING, _C.CHECKING, _C.RESETTING})
_ANSWERING = frozenset({_C.CHECKING, _C.ROUTING, _C.RESETTING})
_FREE = frozenset({_C.IDLE, _C.CHECKING, _C.ROUTING})
_ENDING = frozenset({PoolState.DRAINING, PoolState.CLOSED})
_LEASED = frozenset({_C.LENT, _C.RESETTING, _C.BROKEN})
_LIVING = _PREPARING | {_C.IDLE, _C.ROUTING, _C.LENT}


class _Failure(NamedTuple):
    """How a member failed. ``serial`` tells who came before the failure and who came after."""

    serial: int
    retry_at: float
    reason: UpstreamFailure


class _Full(NamedTuple):
    """A server had no thread for a transaction. It is asked for no further connection before ``retry_at``."""

    retry_at: float
    pause: float


@dataclass(eq=False)
class _Waiter:
    borrower: Any
    route: Route
    version: Version | None
    must_check: bool
    since: float
    serial: int
    state: WaiterState = WaiterState.ASKING
    arrival: int = 0


@dataclass(eq=False)
class _Lane:
    """Borrowers that wait for the same kind of connection. ``name`` is the database, once a routing table names it."""

    route: Route
    version: Version | None
    name: str | None
    waiters: dict[Any, _Waiter] = field(default_factory=dict)
    asking: int = 0

    @property
    def head(self) -> _Waiter:
        return next(iter(self.waiters.values()))


_LaneKey = tuple[Version | None, bool, str | None, str | None, bool]


class PoolMachine:
    """The connections of one upstream, lent for one transaction at a time.

    ``seed`` is the address that the user gave. If the upstream ``is_routed``, routing tables name the other members,
    and ``answer_seconds`` limits the answer to ROUTE. ``choose`` picks one of several equally good members.
    """

    def __init__(self, limits: Limits, seed: str, *, is_routed: bool = False, answer_seconds: float = CHECK_SECONDS,
                 choose: Callable[[Sequence[Place]], Place] = random.choice) -> None:
        self.limits = limits
        self.counters = Counters()
        self.state = PoolState.NEW
        self._is_closing = False
        self.last_error: str | None = None
        # Each transaction that waited in vain gets its own error; the log has one line for many.
        self._unsaid, self._says_again_at = 0, float("-inf")
        self.actions: deque[Action] = deque()
        self._is_routed = is_routed
        self._tables = Tables(seed)
        self._answer_seconds = answer_seconds
        # Idle connections are not looked at more often than this, whatever the setting says.
        self._check_every = max(limits.liveness_check, _CHECK_EVERY)
        # How long an idle connection may be left unchecked.
        self._patience = min(limits.idle_timeout, self._check_every)
        self._choose = choose
        self._links: dict[Link, None] = {}
        # The one that was used last is at the end.
        self._idle: list[Link] = []
        self._lanes: dict[_LaneKey, _Lane] = {}
        self._lane_of: dict[Any, _Lane] = {}
        # Waiters, failures and routing tables share one sequence of numbers, which tells which event came first.
        self._serial = 0
        # For each member: the last failed attempt to connect, and the last failed attempt to get a routing table.
        self._failures: dict[Place, _Failure] = {}
        self._mute: dict[Place, _Failure] = {}
        # When a member last left a RESET or a ROUTE unanswered, and when any member did.
        self._silent_at: dict[str, float] = {}
        self._last_silent_at = float("-inf")
        self._full: dict[Place, _Full] = {}
        self._is_settling = self._is_refusing = False
        # How many borrowers have waited so far, and how many had when Settle was asked for.
        self._arrivals = self._settling = 0
        self._wake_at = _NEVER
        self._faults_seen: set[tuple[str, str]] = set()

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {state}" for state in _C if (count := self.count(state)))
        return f"<PoolMachine {self.state}: {counts or 'no connection'}, {self.waiting} waiting>"

    # What can be seen from outside

    @property
    def links(self) -> Iterable[Link]:
        """Every connection that is not gone."""
        return tuple(self._links)

    def count(self, *states: ConnectionState) -> int:
        """Return how many connections are in one of these states."""
        return sum(link.state in states for link in self._links)

    @property
    def idle(self) -> int:
        """Return how many open connections nobody holds, including those being checked or asked for a routing table."""
        return sum(link.state in _FREE for link in self._links)

    @property
    def in_use(self) -> int:
        """Return how many connections are lent, including those that are reset after a lease."""
        return sum(link.state in _LEASED for link in self._links)

    @property
    def waiting(self) -> int:
        """Return how many borrowers are waiting."""
        return len(self._lane_of)

    def longest_wait(self, now: float) -> float:
        """Return the longest wait so far in seconds, including waits that have not ended."""
        return max([self.counters.longest_wait_seconds, *(now - lane.head.since for lane in self._lanes.values())])

    # Events: borrowing

    def lend(self, borrower: Any, route: Route, now: float, *, must_check: bool = False,
             version: Version | None = None) -> Link | None:
        """Take an idle connection and return it, or return None: then Grant or Refuse follows.

        A borrower that comes while others wait, waits after them. With ``must_check`` the connection has answered a
        RESET since the request, or was opened since; any member will do. With ``version`` it speaks this version of
        Bolt.
        """
        if not must_check and (not self._lanes or self._lane_key(route, version) not in self._lanes):
            link = self._take_routed(route, version, now) if self._is_routed else self._take_last(version, now)
            if link:
                self._step(link, _IS_LENT)
                link.lent_at = now
                self.counters.served_at_once += 1
                return link
        waiter = _Waiter(borrower, ANYWHERE if must_check else route, version, must_check, now, self._serial)
        self._join(waiter, now)
        return None

    def abandon(self, borrower: Any, now: float) -> None:
        """Forget a borrower that is gone. If it was granted a connection a moment ago, another borrower gets it."""
        if lane := self._lane_of.get(borrower):
            self._leave(lane, lane.waiters[borrower], _W.ABANDONED, now)
            self._after(now)
            return
        for action in self.actions:
            if isinstance(action, Grant) and action.borrower is borrower:
                self.actions.remove(action)
                self.give_back(action.link, now)
                break

    def give_back(self, link: Link, now: float) -> None:
        """End a lease; the server is READY."""
        self.counters.use.observe(now - link.lent_at)
        if self._step(link, _IS_GIVEN_BACK) is not _IDLE:
            self._after(now)
            return
        link.proven_at = link.idle_since = now
        if (link.is_spoiled or now - link.opened_at >= self.limits.max_lifetime
                or (self._is_closing and self._is_unwanted)):
            self._retire(link, now)
        else:
            self._idle.append(link)
            if now + self._patience < self._wake_at:
                self._wake(now + self._patience)
        if self._lanes or self._is_closing:
            self._after(now)

    def reset(self, link: Link, now: float) -> None:
        """End a lease within a transaction, with no answer outstanding. RESET rolls the transaction back."""
        self.counters.use.observe(now - link.lent_at)
        if self._step(link, _E.LEFT) is _C.RESETTING:
            self._expect(link, CHECK_SECONDS, Check(link), now)
        self._after(now)

    def discard(self, link: Link, now: float) -> None:
        """End a lease with answers outstanding. The server rolls back what was open on the connection."""
        self.counters.use.observe(now - link.lent_at)
        if self._step(link, _E.DISCARDED) is _C.CLOSING:
            self._abort(link)
        self._after(now)

    def failed(self, code: str, link: Link, now: float) -> None:
        """Handle a FAILURE that the server sent during a lease."""
        if ".Security." in code and code.endswith("Expired"):
            self._replace_all(now)
        elif code == EXHAUSTED:
            self._full[link.place] = self._fuller(self._full.get(link.place), now)
        elif self._is_routed and code.endswith(_NOT_A_WRITER):
            self._tables.drop_writer(link.database or "", link.place.address)
        elif self._is_routed and code.endswith(".DatabaseUnavailable"):
            self._deactivate(link.place.address, now)

    # Events of connections

    def opened(self, link: Link, handle: Any, now: float) -> None:
        """Take a connection that is open, logged on and READY."""
        link.handle = handle
        if self._step(link, _E.OPENED) is not _C.IDLE:
            self._abort(link)
            return
        self.counters.create.observe(now - link.opening_since)
        self._failures.pop(link.place, None)
        self._silent_at.pop(link.place.address, None)
        link.opened_at = link.idle_since = now
        self._enter(PoolEvent.CONNECTED)
        self._proven(link, now)

    def open_failed(self, link: Link, failure: UpstreamFailure, now: float) -> None:
        """Note that a member cannot be connected to at the moment. It costs this attempt."""
        was_wanted = link.state is _C.OPENING
        self._step(link, _E.OPEN_FAILED)
        if not was_wanted:
            return
        self._failures[link.place] = self._failed(failure, now)
        if self._is_routed and not self._lives(self._links, (link.place,)):
            self._tables.deactivate(link.place.address)
        if not self.count(*_LIVING):
            self._enter(PoolEvent.UNREACHABLE)
        self._after(now)

    def answered(self, link: Link, now: float) -> None:
        """Note that a RESET was answered with SUCCESS."""
        if self._step(link, _E.ANSWERED) is _C.IDLE:
            self._proven(link, now)

    def check_failed(self, link: Link, why: str, now: float) -> None:
        """Close a connection on which RESET or ROUTE had no answer in time, or a senseless one."""
        if link.state in _ANSWERING:
            self.actions.append(Note(_INFO, f"closing a connection to {link.place} ({link.state}): {why}"))
        if link.state is _C.ROUTING:
            reason = UpstreamFailure(UNREACHABLE, f"no routing table from {link.place}: {why}")
            self._mute[link.place] = self._failed(reason, now)
        asked_at = link.deadline - (self._answer_seconds if link.state is _C.ROUTING else CHECK_SECONDS)
        if self._step(link, _E.FAILED) is _C.CLOSING:
            self._abort(link)
            self._silent_at[link.place.address] = self._last_silent_at = now
            self._forget(link.place.address, asked_at, now)
        self._after(now)

    def routed(self, link: Link, answer: Any, now: float, *, routes_itself: bool = True) -> None:
        """Handle a ROUTE that was answered with SUCCESS; ``answer`` is its map ``rt``."""
        if self._step(link, _E.ROUTED) is not _C.IDLE:
            return
        try:
            self._store(link.key or (None, None), answer, routes_itself, now)
        except ProtocolViolation as violation:
            reason = UpstreamFailure(UNREACHABLE, f"{link.place}: {violation}")
            self._mute[link.place] = self._failed(reason, now)
        self._proven(link, now)
        known = self._tables.members()
        for idle in [idle for idle in self._idle if known and idle.place.address not in known]:
            self._idle.remove(idle)
            self._retire(idle, now)

    def route_failed(self, link: Link, failure: UpstreamFailure, now: float) -> None:
        """Handle a ROUTE that was answered with FAILURE. Another router is asked, unless all would answer the same."""
        if self._step(link, _E.REFUSED) is not _C.CHECKING:
            return
        self._expect(link, CHECK_SECONDS, Check(link), now)
        self._mute[link.place] = self._failed(failure, now)
        if _is_fatal_in_discovery(failure.code):
            for lane in [lane for lane in self._lanes.values() if _key_of(lane.route) == link.key]:
                self._refuse_lane(lane, failure, now)
        self._after(now)

    def lost(self, link: Link, now: float) -> None:
        """Note that the connection's end was read."""
        if link.state is _C.GONE:
            return
        if link.state is _C.IDLE:
            self._idle.remove(link)
        self._step(link, _E.LOST)
        self._after(now)

    def spoke(self, link: Link, now: float) -> None:
        """Close an idle connection on which the server sent something: it is in a wrong state."""
        if link.state is _C.CLOSING:
            return
        if link.state is _C.IDLE:
            self._idle.remove(link)
        if self._step(link, _E.SPOKE) is _C.CLOSING:
            self._abort(link)
        self._after(now)

    # Events: time, and the end

    def settled(self, now: float) -> None:
        """Serve the waiters: all that had arrived when ``Settle`` was asked for is handled; they need connections."""
        self._is_settling = False
        for lane in self._lanes.values():
            for waiter in lane.waiters.values():
                # Those that came since need a Settle of their own: what arrived before them may not be handled yet.
                if waiter.state is WaiterState.ASKING and waiter.arrival <= self._settling:
                    self._move(waiter, _W.SETTLED)
                    lane.asking -= 1
        self._after(now)

    def tick(self, now: float) -> None:
        """Handle the time that has passed."""
        self._wake_at = _NEVER
        for lane in [*self._lanes.values()]:
            while lane.waiters and lane.head.since + self.limits.acquisition_timeout <= now:
                self._time_out(lane, now)
        for link in [*self._links]:
            self._look_at(link, now)
        self._after(now)
        self._plan(now)

    def close_idle(self, now: float) -> None:
        """Close every connection that is not lent."""
        while self._idle:
            self._retire(self._idle.pop(), now)
        self._after(now)

    def reconnect(self, now: float) -> None:
        """Close idle connections; the others end with their lease or opening. Later borrowers get new connections."""
        self._tables.expire(now)
        self._replace_all(now)

    def pause(self, now: float) -> None:
        """Do the same, and lend nothing until ``resume``: borrowers wait."""
        self._enter(PoolEvent.PAUSE)
        self.reconnect(now)

    def resume(self, now: float) -> None:
        """Serve the borrowers that waited through a pause. Earlier failures say nothing about the server now."""
        if self.state is PoolState.PAUSED:
            for known in (self._failures, self._mute, self._full):
                known.clear()
        self._enter(PoolEvent.RESUME)
        self._after(now)

    def drain(self, now: float) -> None:
        """Close idle connections; the others end with their lease. ``Emptied`` follows.

        After a pause nobody is served any more: the operator wants no connection to this server.
        """
        self._is_refusing |= self.state is PoolState.PAUSED
        self._enter(PoolEvent.DRAIN)
        if self._is_refusing:
            self._refuse_all(now)
        self.close_idle(now)

    def close(self, now: float) -> None:
        """Refuse all waiting borrowers and close every connection, lent or not."""
        self._enter(PoolEvent.CLOSE)
        self._refuse_all(now)
        self._idle.clear()
        for link in [*self._links]:
            self._retire(link, now)

    # Tables

    def _step(self, link: Link, event: ConnectionEvent) -> ConnectionState:
        """Move a connection to its next state. An event that its state does not know closes the connection."""
        after = CONNECTION_TABLE[link.state].get(event)
        if after is None:
            return self._fault(link, event)
        link.state = after
        if after is _GONE:
            self._links.pop(link, None)
        return after

    def _fault(self, link: Link, event: ConnectionEvent) -> ConnectionState:
        self._count_fault(link.state, event)
        if link.state is _C.IDLE:
            self._idle.remove(link)
        if link.state is not _C.GONE:
            link.state = _C.CLOSING
            self._abort(link)
        return link.state

    def _count_fault(self, state: str, event: str) -> None:
        self.counters.own_faults += 1
        if (state, event) not in self._faults_seen:
            self._faults_seen.add((state, event))
            self.actions.append(Note(_ERROR, f"a fault of the relay itself: {event!r} came in the state {state!r}"))

    def _move(self, waiter: _Waiter, event: WaiterEvent) -> None:
        after = WAITER_TABLE[waiter.state].get(event)
        if after is None:
            self._count_fault(waiter.state, event)
        else:
            waiter.state = after

    def _enter(self, event: PoolEvent) -> None:
        """Change the pool's state, with one log line for each change."""
        before, self.state = self.state, POOL_TABLE[self.state][event]
        self._is_closing = self.state in _ENDING
        if self.state is not before:
            is_down = self.state is PoolState.DOWN
            why = f" ({self.last_error})" if is_down else ""
            self.actions.append(Note(_WARNING if is_down else _INFO, f"{before} -> {self.state}{why}"))

    @property
    def _is_unwanted(self) -> bool:
        """Whether nobody is left to wait for a free connection."""
        return self._is_closing and not self._lanes

    # The queue

    def _lane_key(self, route: Route, version: Version | None) -> _LaneKey:
        if not self._is_routed:
            return version, False, None, None, False
        return version, route.read_only, route.database, route.impersonated, route.anywhere

    def _join(self, waiter: _Waiter, now: float) -> None:
        if self.state is PoolState.CLOSED or self._is_refusing:
            self.actions.append(Refuse(waiter.borrower, _closed()))
            return
        if waiter.borrower in self._lane_of:
            self._count_fault(waiter.state, "a borrower asks twice")
            return
        key = self._lane_key(waiter.route, waiter.version)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(waiter.route, waiter.version, waiter.route.database)
        lane.waiters[waiter.borrower] = waiter
        lane.asking += 1
        self._arrivals += 1
        waiter.arrival = self._arrivals
        self._lane_of[waiter.borrower] = lane
        self._wake(now + self.limits.acquisition_timeout)
        self._after(now)

    def _leave(self, lane: _Lane, waiter: _Waiter, event: WaiterEvent, now: float) -> None:
        lane.asking -= waiter.state is WaiterState.ASKING
        self._move(waiter, event)
        del lane.waiters[waiter.borrower], self._lane_of[waiter.borrower]
        if not lane.waiters:
            del self._lanes[self._lane_key(lane.route, lane.version)]
        waited = now - waiter.since
        self.counters.waits += 1
        self.counters.wait_seconds += waited
        self.counters.longest_wait_seconds = max(self.counters.longest_wait_seconds, waited)

    def _grant(self, lane: _Lane, link: Link, now: float) -> None:
        waiter = lane.head
        self._leave(lane, waiter, _W.GRANTED, now)
        self.counters.wait.observe(now - waiter.since)
        link.lent_at = now
        link.database = lane.name
        self._step(link, _E.LENT)
        self.actions.append(Grant(waiter.borrower, link))

    def _refuse_all(self, now: float) -> None:
        for lane in [*self._lanes.values()]:
            self._refuse_lane(lane, _closed(), now)

    def _refuse_lane(self, lane: _Lane, failure: UpstreamFailure, now: float, *, before: float = _NEVER) -> None:
        """Refuse the borrowers of a lane, or only those that came before an event."""
        while lane.waiters and lane.head.serial < before:
            waiter = lane.head
            self._leave(lane, waiter, _W.REFUSED, now)
            self.actions.append(Refuse(waiter.borrower, failure))

    def _time_out(self, lane: _Lane, now: float) -> None:
        self.counters.timeouts += 1
        failure = self._too_late()
        self.last_error = f"{failure.code}: {failure.message}"
        self._unsaid += 1
        if now >= self._says_again_at:
            others = f" (and {self._unsaid - 1} more since this was last said)" if self._unsaid > 1 else ""
            self.actions.append(Note(_WARNING, f"{failure}{others}"))
            self._unsaid, self._says_again_at = 0, now + _SAID_AGAIN_SECONDS
        waiter = lane.head
        self._leave(lane, waiter, _W.TIMED_OUT, now)
        self.actions.append(Refuse(waiter.borrower, failure))

    def _too_late(self) -> UpstreamFailure:
        """Return the failure that says what a borrower waited for in vain."""
        in_use, most = self.in_use, self.limits.max_size
        if self.state is PoolState.PAUSED:
            return UpstreamFailure(EXHAUSTED, (
                "the shared driver is paused (worker-driver pause), and was not resumed within "
                f"{self.limits.acquisition_timeout:g} s (WORKER_INIT_ACQUISITION_TIMEOUT): {self.waiting} wait"))
        text = (f"no connection of the shared driver became free within {self.limits.acquisition_timeout:g} s: "
                f"{in_use} of at most {most} are in use, {self.waiting} wait")
        if in_use >= most:
            return UpstreamFailure(EXHAUSTED, f"{text} (WORKER_INIT_MAX_SIZE, WORKER_INIT_ACQUISITION_TIMEOUT)")
        under_way = ", ".join(f"{count} {state}" for state in sorted(_PREPARING | _ANSWERING)
                              if (count := self.count(state)))
        parts = [text, *([f"{under_way} (WORKER_INIT_ACQUISITION_TIMEOUT)"] if under_way else []),
                 *([f"the last attempt to open one: {self.last_error}"] if self._failures else [])]
        return UpstreamFailure(EXHAUSTED if in_use else UNREACHABLE, "; ".join(parts))

    # Serving

    def _after(self, now: float) -> None:
        """Serve the waiting borrowers in turn; if a drain is over, say so."""
        if self._lanes and self.state is not PoolState.PAUSED:
            for lane in sorted(self._lanes.values(), key=lambda lane: lane.head.since):
                if lane.waiters:
                    self._serve(lane, now)
        if self._is_unwanted and not self.in_use:
            self.actions.append(Emptied())

    def _serve(self, lane: _Lane, now: float) -> None:
        places = self._places_of(lane, now)
        if not places:
            if places is None and lane.waiters:
                self._want_table(lane, now)
            return
        while lane.waiters and not lane.head.must_check and (link := self._find_idle(places, now, fresh=True)):
            self._idle.remove(link)
            self._grant(lane, link, now)
        if lane.waiters and (self._idle or len(self._links) < self.limits.max_size):
            self._provide(lane, places, len(lane.waiters), now)

    def _provide(self, lane: _Lane, places: Sequence[Place], wanted: int, now: float) -> None:
        """Make sure that so many connections to these places will be ready in a moment."""
        trusts = self._trusts_old_ones(lane)
        preparing = _PREPARING if trusts else (_C.OPENING,)
        wanted -= sum(link.state in preparing and link.place in places for link in self._links)
        while wanted > 0 and trusts and (link := self._find_idle(places, now)):
            self._start_check(link, now)
            wanted -= 1
        if wanted > 0:
            wanted -= self._too_early(lane, places)
        for _ in range(wanted):
            place = self._pick(lane, places, now)
            if place is None or not self._has_room(places, now):
                break
            self._open(place, now)

    def _trusts_old_ones(self, lane: _Lane) -> bool:
        """Whether a lane waits for the answer to a RESET.

        If its borrowers have already waited for one in vain, they do not wait for another as long as a new connection
        can be opened: whatever dropped the first connection may have dropped them all.
        """
        return lane.head.since >= self._last_silent_at or len(self._links) >= self.limits.max_size

    def _too_early(self, lane: _Lane, places: Sequence[Place]) -> int:
        """Return for how many borrowers it is too early: the end of a lease may be unread next to their requests."""
        if not (lane.asking and any(link.state is _C.LENT and link.place in places for link in self._links)):
            return 0
        if not self._is_settling:
            self._is_settling = True
            self._settling = self._arrivals
            self.actions.append(Settle())
        return lane.asking

    def _has_room(self, places: Sequence[Place], now: float) -> bool:
        """Whether one more connection may be opened. If not, an idle one at another place must go first."""
        if len(self._links) < self.limits.max_size:
            return True
        spare = next((link for link in self._idle if link.place not in places), None)
        if spare and not self.count(_C.CLOSING):
            self._idle.remove(spare)
            self._retire(spare, now)
        return False

    def _pick(self, lane: _Lane, places: Sequence[Place], now: float) -> Place | None:
        """Return the place with the fewest connections among those that may be asked; None: wait, or refused."""
        if self._lives(self._links, places):
            usable = [place for place in places if self._may_be_asked(place, now)]
            if later := [at for place in places if not usable and (at := self._retry_at(place)) > now]:
                self._wake(min(later))
        else:
            usable = self._untried(lane, places, [self._failures], now)
        if not usable:
            return None
        # A member that has just been silent is asked last: the borrower that found out has already waited for it.
        usable = [place for place in usable
                  if self._silent_at.get(place.address, lane.head.since) <= lane.head.since] or usable
        count = {place: sum(link.place == place for link in self._links) for place in usable}
        fewest = min(count.values())
        return self._choose([place for place in usable if count[place] == fewest])

    def _retry_at(self, place: Place) -> float:
        return max((found.retry_at for kind in (self._failures, self._full) if (found := kind.get(place))), default=0.0)

    def _may_be_asked(self, place: Place, now: float) -> bool:
        """Whether a server may be asked for one more. One that had no thread lately is asked for one at a time."""
        if place not in self._failures and place not in self._full:
            return True
        return self._retry_at(place) <= now and not any(
            link.state is _C.OPENING and link.place == place for link in self._links)

    @staticmethod
    def _fuller(before: _Full | None, now: float) -> _Full:
        """Return how long a server without a free thread is not asked: longer each time, while it goes on."""
        goes_on = before and now < before.retry_at + LONGEST_RETRY_SECONDS
        pause = min(2 * before.pause, LONGEST_RETRY_SECONDS) if before and goes_on else RETRY_SECONDS
        return _Full(now + pause, pause)

    def _untried(self, lane: _Lane, places: Sequence[Place], kinds: Sequence[dict[Place, _Failure]],
                 now: float) -> list[Place]:
        """Return the places that have not failed since a lane's first waiter came; refuse those with none left."""
        failures = {place: max(found) for place in places if (found := [
            kind[place] for kind in kinds if place in kind])}
        while lane.waiters:
            usable = [place for place in places
                      if place not in failures or failures[place].serial <= lane.head.serial]
            if usable:
                return usable
            self._refuse_lane(lane, max(failures.values()).reason, now, before=min(failures.values()).serial)
        return []

    @staticmethod
    def _lives(links: Iterable[Link], places: Sequence[Place]) -> bool:
        """Whether some connection to these places may still serve."""
        return any(link.state in _LIVING and link.place in places for link in links)

    def _open(self, place: Place, now: float) -> None:
        link = Link(place, opening_since=now)
        self._links[link] = None
        self.actions.append(Open(link))

    def _proven(self, link: Link, now: float) -> None:
        """Give a connection that has just proved to be READY to the borrower that waits longest; else keep it."""
        link.deadline, link.proven_at = _NEVER, now
        if link.is_spoiled or now - link.opened_at >= self.limits.max_lifetime or self._is_unwanted:
            self._retire(link, now)
        elif not self._hand_over(link, now):
            insort(self._idle, link, key=lambda other: other.idle_since)
            self._wake(now + self._patience)
        self._after(now)

    def _hand_over(self, link: Link, now: float) -> bool:
        for lane in sorted(self._lanes.values(), key=lambda lane: lane.head.since):
            places = self._places_of(lane, now)
            if places is None:
                return False        # it has waited longest, and this connection may be the one that asks for its table
            if lane.waiters and link.place in places:
                self._grant(lane, link, now)
                return True
        return False

    # Idle connections

    def _take_routed(self, route: Route, version: Version | None, now: float) -> Link | None:
        name, places = self._resolve(route, version, None, self._serial, now)
        link = self._find_idle(places, now, fresh=True) if places and self._idle else None
        if link:
            link.database = name
        return self._take(link)

    def _take(self, link: Link | None) -> Link | None:
        if link:
            self._idle.remove(link)
        return link

    def _take_last(self, version: Version | None, now: float) -> Link | None:
        """Do the same if the last one will do, as nearly always. This runs in every transaction."""
        while self._idle:
            link = self._idle[-1]
            if link.place.version != version:
                return self._take(self._find_idle((Place(link.place.address, version),), now, fresh=True))
            if now - link.opened_at < self.limits.max_lifetime:
                if now - link.proven_at >= self.limits.liveness_check:
                    return None
                return self._idle.pop()
            self._retire(self._idle.pop(), now)
        return None

    def _find_idle(self, places: Sequence[Place], now: float, *, fresh: bool = False) -> Link | None:
        """Return the last used idle connection to one of these places; with ``fresh``, one that needs no check."""
        oldest = now - self.limits.max_lifetime
        for link in [*reversed(self._idle)]:
            if link.opened_at <= oldest:
                self._idle.remove(link)
                self._retire(link, now)
            elif link.place in places and not (fresh and now - link.proven_at >= self.limits.liveness_check):
                return link
        return None

    def _replace_all(self, now: float) -> None:
        """Make every connection end after what it is doing now."""
        for link in self._links:
            link.is_spoiled = True
        self.close_idle(now)

    def _forget(self, address: str, before: float, now: float) -> None:
        """Close connections to a member that were idle before an unanswered question: they would cost as much."""
        for link in [link for link in self._idle if link.place.address == address and link.proven_at < before]:
            self._idle.remove(link)
            self._retire(link, now)

    def _start_check(self, link: Link, now: float) -> None:
        self._idle.remove(link)
        if self._step(link, _E.ASKED_ALIVE) is _C.CHECKING:
            self._expect(link, CHECK_SECONDS, Check(link), now)

    def _expect(self, link: Link, seconds: float, action: Action, now: float) -> None:
        link.deadline = now + seconds
        self._wake(link.deadline)
        self.actions.append(action)

    def _retire(self, link: Link, now: float) -> None:
        """Close a connection that is no longer in any of the lists."""
        before = link.state
        after = self._step(link, _E.RETIRED)
        if before is _C.OPENING:
            self.actions.append(Abort(link))
        elif after is _C.CLOSING and before is not _C.CLOSING:
            self._expect(link, CLOSE_SECONDS, Close(link, was_lent=before is _C.LENT), now)

    def _abort(self, link: Link) -> None:
        link.deadline = _NEVER
        self.actions.append(Abort(link))

    # Routing

    def _resolve(self, route: Route, version: Version | None, name: str | None, since: int,
                 now: float) -> tuple[str | None, Sequence[Place] | None]:
        """Return the database's name and the places that serve it; None for what a server must be asked for."""
        if route.anywhere:
            return None, _places(self._tables.members() or (self._tables.seed,), version)
        name = name or route.database or self._tables.home_of(route.impersonated, now)
        members = self._tables.find(name, read_only=route.read_only, now=now, since=since) if name else None
        return name, None if members is None else _places(members, version)

    def _places_of(self, lane: _Lane, now: float) -> Sequence[Place] | None:
        """Return the places that serve a lane; None if its routing table is needed; empty if it has been refused."""
        if not self._is_routed:
            return _places((self._tables.seed,), lane.version)
        lane.name, places = self._resolve(lane.route, lane.version, lane.name, lane.head.serial, now)
        if places is not None and not places:
            self._refuse_lane(lane, self._nobody_serves(lane), now, before=self._table_serial(lane.name))
            if lane.waiters:
                return None
        return places

    def _nobody_serves(self, lane: _Lane) -> UpstreamFailure:
        recent = [failure for failure in self._failures.values() if failure.serial > lane.head.serial]
        why = f": {max(recent).reason}" if recent else ""
        does = "serves reads of" if lane.route.read_only else "leads"
        return UpstreamFailure(UNREACHABLE, f"no member of the cluster {does} the database {lane.name} now{why}")

    def _table_serial(self, name: str | None) -> float:
        table = self._tables.table(name or "")
        return table.serial if table else _NEVER

    def _want_table(self, lane: _Lane, now: float) -> None:
        key = _key_of(lane.route)
        if any(link.state is _C.ROUTING and link.key == key and link.place.version == lane.version
               for link in self._links):
            return
        routers = _places(self._tables.routers(lane.name), lane.version)
        routers = self._untried(lane, routers, [self._failures, self._mute], now)
        if not routers:
            return
        link = self._find_idle(routers, now, fresh=True)
        # The answer to a ROUTE may take longer than one to a RESET, so only members that answered recently are asked.
        if link is None or now - link.proven_at >= _CHECK_EVERY:
            self._provide(lane, routers, 1, now)
            return
        self._idle.remove(link)
        if self._step(link, _E.ASKED_TABLE) is _C.ROUTING:
            link.key = key
            self._expect(link, self._answer_seconds, AskTable(link, key, lane.head.route.bookmarks), now)

    def _store(self, key: Key, answer: Any, routes_itself: bool, now: float) -> None:
        self._serial += 1
        table = self._tables.store(answer, asked=key[0], user=key[1], routes_itself=routes_itself, now=now,
                                  serial=self._serial)
        for lane in self._lanes.values():
            if _key_of(lane.route) == key and not lane.route.anywhere:
                lane.name = table.database
        known = {*self._tables.members(), self._tables.seed}
        self._failures = {place: failure for place, failure in self._failures.items() if place.address in known}
        self._mute = {place: failure for place, failure in self._mute.items() if place.address in known}
        self._silent_at = {address: at for address, at in self._silent_at.items() if address in known}
        self._full = {place: full for place, full in self._full.items() if place.address in known}

    def _deactivate(self, address: str, now: float) -> None:
        self._tables.deactivate(address)
        self._forget(address, _NEVER, now)

    def _failed(self, failure: UpstreamFailure, now: float) -> _Failure:
        """Count a failed attempt to get a connection or a routing table."""
        self.counters.errors += 1
        self._serial += 1
        self.last_error = f"{failure.code}: {failure.message}"
        return _Failure(self._serial, now + RETRY_SECONDS, failure)

    # Time

    def _look_at(self, link: Link, now: float) -> None:
        if link.state is _C.IDLE:
            if self._due(link) > now:
                return
            if self._expires_at(link) <= now:
                self._idle.remove(link)
                self._retire(link, now)
            else:
                self._start_check(link, now)
        elif link.deadline <= now:
            if link.state is _C.CLOSING:
                self._abort(link)
            else:
                self.check_failed(link, "no answer in time", now)

    def _expires_at(self, link: Link) -> float:
        return min(link.idle_since + self.limits.idle_timeout, link.opened_at + self.limits.max_lifetime)

    def _due(self, link: Link) -> float:
        return min(self._expires_at(link), link.proven_at + self._check_every)

    def _plan(self, now: float) -> None:
        """Plan the next tick."""
        times = [lane.head.since + self.limits.acquisition_timeout for lane in self._lanes.values()]
        times += [self._due(link) if link.state is _C.IDLE else link.deadline for link in self._links]
        if self._lanes:
            times += [found.retry_at for kind in (self._failures, self._full) for found in kind.values()
                      if found.retry_at > now]
        self._wake(min(times, default=_NEVER))

    def _wake(self, at: float) -> None:
        if at < self._wake_at:
            self._wake_at = at
            self.actions.append(WakeAt(at))


def _places(members: Sequence[str], version: Version | None) -> list[Place]:
    return [Place(member, version) for member in members]


def _key_of(route: Route) -> Key:
    return (route.database, None) if route.database else (None, route.impersonated)


def _is_fatal_in_discovery(code: str) -> bool:
    return code in _FATAL_IN_DISCOVERY or (
        code.startswith("Neo.ClientError.Security.") and code != "Neo.ClientError.Security.AuthorizationExpired")


def _closed() -> UpstreamFailure:
    return UpstreamFailure(UNREACHABLE, "the shared driver is closed")
