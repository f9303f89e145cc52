"""Who gets which upstream connection, and when: sizes, waiting, ages, drain.

A lease is taken and given back without a task or a coroutine where an idle connection is at hand; all
that has to wait (opening, checking) runs in a task, on behalf of the borrower that waits longest.
Everything runs on one event loop, so no step here can be interrupted by another.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple, Protocol

from worker_init.errors import UpstreamFailure
from worker_init.upstream import UNREACHABLE, Connection, Route, Upstream

log = logging.getLogger(__name__)

# Neo4j's own code for "everything that could serve you is busy": a client's driver retries it.
EXHAUSTED = "Neo.TransientError.Request.NoThreadsAvailable"
_RESET_SECONDS = 5.0


class Limits(NamedTuple):
    """What a pool may hold, and how long; times in seconds.

    ``liveness_check`` is the idle time after which a connection is checked with a RESET before it is
    lent again.
    """

    max_size: int
    acquisition_timeout: float
    max_lifetime: float
    idle_timeout: float
    liveness_check: float


class State(str, Enum):
    """What the pool last knew of its server, or what it was told."""

    NEW = "new"
    UP = "up"
    DOWN = "down"
    DRAINING = "draining"
    CLOSED = "closed"

    def __str__(self) -> str:
        return str(self.value)


class Borrower(Protocol):
    """Who asks for a connection. Exactly one of the two is called, unless it is abandoned before."""

    def granted(self, connection: Connection) -> None:
        """Take the connection; ``give_back`` or ``discard`` ends the lease."""

    def refused(self, failure: UpstreamFailure) -> None:
        """Take note that there is none to be had."""


@dataclass
class Counters:
    """What only grows, from the pool's start. ``leases`` are transactions: what the relay itself asks is none."""

    leases: int = 0
    waits: int = 0
    wait_seconds: float = 0.0
    longest_wait_seconds: float = 0.0
    timeouts: int = 0
    errors: int = 0


@dataclass(eq=False)
class _Waiter:
    borrower: Borrower
    route: Route
    must_check: bool
    since: float
    is_served: bool = False
    timer: asyncio.TimerHandle | None = field(default=None, repr=False)


class _Keeper:
    """Watches an idle connection for the pool: the server may close it at any time."""

    __slots__ = ("_connection", "_idle")

    def __init__(self, idle: deque[Connection], connection: Connection) -> None:
        self._idle = idle
        self._connection = connection

    def upstream_data(self, block: bytes) -> None:
        """Only NOOPs can come; a connection that says anything else is not in the state it should be."""
        if block.strip(b"\x00"):
            self._connection.abort()

    def upstream_lost(self) -> None:
        self._idle.remove(self._connection)

    def upstream_full(self, *, full: bool) -> None:
        """Nothing is sent on an idle connection."""


class Pool:
    """The connections of one upstream driver, lent one transaction at a time."""

    def __init__(self, upstream: Upstream, limits: Limits, name: str) -> None:
        self.upstream = upstream
        self.limits = limits
        self.counters = Counters()
        self.state = State.NEW
        self.last_error: str | None = None
        self._name = name
        self._in_use: set[Connection] = set()
        self._idle: deque[Connection] = deque()
        self._waiters: deque[_Waiter] = deque()
        self._preparing = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._emptied = asyncio.Event()

    def __repr__(self) -> str:
        return (f"<Pool {self._name} {self.state}: {len(self._in_use)} in use, {len(self._idle)} idle, "
                f"{self._preparing} preparing, {len(self._waiters)} waiting>")

    @property
    def in_use(self) -> int:
        """Return how many connections are lent now."""
        return len(self._in_use)

    @property
    def waiting(self) -> int:
        """Return how many borrowers wait now."""
        return len(self._waiters)

    @property
    def longest_wait(self) -> float:
        """Return the longest wait so far in seconds, those that have not ended included."""
        oldest = time.monotonic() - self._waiters[0].since if self._waiters else 0.0
        return max(self.counters.longest_wait_seconds, oldest)

    @property
    def _size(self) -> int:
        return len(self._in_use) + len(self._idle) + self._preparing

    # Borrowing

    def lend(self, borrower: Borrower, route: Route, *, must_check: bool = False) -> Connection | None:
        """Return a connection at once, or None: the borrower waits and is told.

        Who comes while others wait, waits behind them. With ``must_check`` the connection has just
        answered a RESET, or was opened for the occasion.
        """
        if not (self._waiters or must_check):
            connection = self._take_idle()
            if connection:
                return self._lent(connection)
        self._enqueue(_Waiter(borrower, route, must_check, time.monotonic()))
        return None

    def abandon(self, borrower: Borrower) -> None:
        """Forget a borrower that waits: it is gone."""
        for waiter in self._waiters:
            if waiter.borrower is borrower:
                self._leave_queue(waiter)
                break

    def give_back(self, connection: Connection) -> None:
        """End a lease whose connection is READY again."""
        self._in_use.discard(connection)
        connection.user = None
        if connection.lost or self._is_closing or self._is_too_old(connection):
            self._retire(connection)
        elif self.upstream.is_routed:
            self._run(self._return_to_driver(connection))
            return
        else:
            self._keep(connection)
        self._serve()

    def reset_and_give_back(self, connection: Connection) -> None:
        """End a lease that left something behind; nothing may be outstanding on the connection."""
        self._run(self._reset(connection))

    def discard(self, connection: Connection) -> None:
        """End a lease by closing its connection: the server rolls back what was open on it."""
        self._in_use.discard(connection)
        self.upstream.drop_connection(connection)
        self._serve()

    def failed(self, code: str, connection: Connection) -> None:
        """Draw the conclusions from a FAILURE that a lease has seen."""
        if not self.upstream.react_to(code, connection):
            connection.opened_at = float("-inf")
            self.close_idle()

    # Ending

    def close_idle(self) -> None:
        """Close every connection that is not lent."""
        while self._idle:
            self._retire(self._idle.popleft())
        self.upstream.close_idle(0.0)
        self._serve()

    async def drain(self, limit: float) -> None:
        """Let leases end for so many seconds, then close everything."""
        self._change(State.DRAINING)
        self.close_idle()
        if self._in_use or self._waiters:
            self._emptied.clear()
            try:
                await asyncio.wait_for(self._emptied.wait(), limit)
            except TimeoutError:
                log.warning("%s: after %g s of draining, %d transactions are cut off", self._name, limit, self.in_use)
        await self.close()

    async def close(self) -> None:
        """Refuse who waits and close every connection, lent or not."""
        self._change(State.CLOSED)
        self._refuse_all(UpstreamFailure(UNREACHABLE, "the worker's driver is closed"))
        for task in [*self._tasks]:
            task.cancel()
        for connection in [*self._in_use, *self._idle]:
            user = connection.user
            self.upstream.close_connection(connection)
            if user:
                user.upstream_lost()
        self._in_use.clear()
        self._idle.clear()
        await self.upstream.close()

    # Inside

    @property
    def _is_closing(self) -> bool:
        return self.state in (State.DRAINING, State.CLOSED)

    def _is_too_old(self, connection: Connection) -> bool:
        return time.monotonic() - connection.opened_at >= self.limits.max_lifetime

    def _take_idle(self) -> Connection | None:
        """Return the connection that was used last, if it can be lent unchecked."""
        while self._idle:
            connection = self._idle.pop()
            if self._is_too_old(connection):
                self._retire(connection)
            elif time.monotonic() - connection.idle_since >= self.limits.liveness_check:
                self._idle.append(connection)
                return None
            else:
                return connection
        return None

    def _keep(self, connection: Connection) -> None:
        connection.idle_since = time.monotonic()
        connection.user = _Keeper(self._idle, connection)
        self._idle.append(connection)

    def _lent(self, connection: Connection) -> Connection:
        self._in_use.add(connection)
        return connection

    def _enqueue(self, waiter: _Waiter) -> None:
        if self.state is State.CLOSED:
            waiter.borrower.refused(UpstreamFailure(UNREACHABLE, "the worker's driver is closed"))
            return
        loop = asyncio.get_running_loop()
        waiter.timer = loop.call_later(self.limits.acquisition_timeout, self._time_out, waiter)
        self._waiters.append(waiter)
        self._serve()

    def _serve(self) -> None:
        """Give the head of the queue what it waits for; start a task for each waiter there is room for."""
        while self._waiters and not self._waiters[0].must_check and (connection := self._take_idle()):
            self._grant(self._waiters[0], connection)
        for waiter in self._waiters:
            if not (self._idle or self._size < self.limits.max_size):
                break
            if not waiter.is_served:
                waiter.is_served = True
                self._preparing += 1
                self._run(self._prepare(waiter, self._idle.pop() if self._idle else None))
        if not (self._in_use or self._waiters):
            self._emptied.set()
        self._plan_sweep()

    async def _prepare(self, waiter: _Waiter, idle: Connection | None) -> None:
        """Check an idle connection or open one, for this waiter or whoever is first by then."""
        try:
            connection = await self._checked(idle) or await self.upstream.connect(waiter.route)
        except UpstreamFailure as failure:
            self._preparing -= 1
            self._not_connected(waiter, failure)
        except asyncio.CancelledError:
            self._preparing -= 1
            raise
        else:
            self._preparing -= 1
            self._change(State.UP)
            self._prepared(waiter, connection)
        self._serve()

    async def _checked(self, connection: Connection | None) -> Connection | None:
        """Return the connection if it answers a RESET."""
        if not connection:
            return None
        try:
            await connection.reset(_RESET_SECONDS)
        except UpstreamFailure as failure:
            log.info("%s: an idle connection was dead: %s", self._name, failure)
            self.upstream.drop_connection(connection)
            return None
        return connection

    def _prepared(self, waiter: _Waiter, connection: Connection) -> None:
        if waiter not in self._waiters and not self.upstream.is_routed and self._waiters:
            waiter = self._waiters[0]
        if waiter in self._waiters:
            self._grant(waiter, connection)
        else:
            self.give_back(connection)

    def _not_connected(self, waiter: _Waiter, failure: UpstreamFailure) -> None:
        """Tell everybody where the server cannot be had, else the one whose attempt it was."""
        self.counters.errors += 1
        self.last_error = f"{failure.code}: {failure.message}"
        if failure.code == UNREACHABLE or ".Security." in failure.code:
            self._change(State.DOWN)
        if failure.code == UNREACHABLE and not self.upstream.is_routed:
            self._refuse_all(failure)
        elif waiter in self._waiters:
            self._refuse(waiter, failure)

    def _grant(self, waiter: _Waiter, connection: Connection) -> None:
        self._leave_queue(waiter)
        waiter.borrower.granted(self._lent(connection))

    def _refuse(self, waiter: _Waiter, failure: UpstreamFailure) -> None:
        self._leave_queue(waiter)
        waiter.borrower.refused(failure)

    def _refuse_all(self, failure: UpstreamFailure) -> None:
        for waiter in [*self._waiters]:
            self._refuse(waiter, failure)

    def _leave_queue(self, waiter: _Waiter) -> None:
        self._waiters.remove(waiter)
        if waiter.timer:
            waiter.timer.cancel()
        waited = time.monotonic() - waiter.since
        self.counters.waits += 1
        self.counters.wait_seconds += waited
        self.counters.longest_wait_seconds = max(self.counters.longest_wait_seconds, waited)

    def _time_out(self, waiter: _Waiter) -> None:
        self.counters.timeouts += 1
        failure = UpstreamFailure(EXHAUSTED, (
            f"no connection of the worker's driver became free within {self.limits.acquisition_timeout:g} s: "
            f"{self.in_use} of at most {self.limits.max_size} are in use, {self.waiting} wait "
            "(WORKER_INIT_MAX_SIZE, WORKER_INIT_ACQUISITION_TIMEOUT)"))
        self.last_error = f"{failure.code}: {failure.message}"
        log.warning("%s: %s", self._name, failure)
        self._refuse(waiter, failure)

    async def _reset(self, connection: Connection) -> None:
        try:
            await connection.reset(_RESET_SECONDS)
        except UpstreamFailure as failure:
            log.info("%s: closing a connection that a client left: %s", self._name, failure)
            self.discard(connection)
        else:
            self.give_back(connection)

    async def _return_to_driver(self, connection: Connection) -> None:
        await self.upstream.give_back(connection)
        self._serve()

    def _retire(self, connection: Connection) -> None:
        self.upstream.close_connection(connection)

    def _change(self, state: State) -> None:
        """Enter a state; one log line for each change. Nothing comes after closing."""
        if state is self.state or (self._is_closing and state is not State.CLOSED):
            return
        level = logging.WARNING if state is State.DOWN else logging.INFO
        log.log(level, "%s: %s -> %s%s", self._name, self.state, state,
                f" ({self.last_error})" if state is State.DOWN else "")
        self.state = state

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("%s: an error of the relay itself", self._name, exc_info=error)

    def _plan_sweep(self) -> None:
        """Wake up when the connection that is idle for longest will have been so for too long."""
        if self._sweeper or not (self._idle or (self.upstream.is_routed and self.upstream.open)):
            return
        since = self._idle[0].idle_since if self._idle else time.monotonic()
        delay = max(since + self.limits.idle_timeout - time.monotonic(), 0.05)
        self._sweeper = asyncio.get_running_loop().call_later(delay, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        limit = time.monotonic() - self.limits.idle_timeout
        while self._idle and self._idle[0].idle_since <= limit:
            self._retire(self._idle.popleft())
        self.upstream.close_idle(self.limits.idle_timeout)
        self._plan_sweep()
