"""A pool of upstream connections on an event loop: the thin shell around :class:`worker_init.pool_machine.PoolMachine`.

The machine decides what happens and when. This module has what its decisions need: sockets, timers and a clock.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

from worker_init.bolt import Tag
from worker_init.errors import UpstreamFailure
from worker_init.handshake import Version
from worker_init.packstream import unpack_map
from worker_init.pool_actions import (
    Abort,
    AskTable,
    Check,
    Close,
    Counters,
    Emptied,
    Grant,
    Limits,
    Link,
    Note,
    Open,
    Refuse,
    Settle,
    WakeAt,
)
from worker_init.pool_machine import PoolMachine
from worker_init.pool_states import PoolState
from worker_init.routing import Route
from worker_init.upstream import Connection, Upstream, cut_noop

log = logging.getLogger(__name__)


class Borrower(Protocol):
    """A client that asks for a connection. Exactly one of its methods is called, unless it is abandoned first."""

    def granted(self, connection: Connection) -> None:
        """Take the connection. ``give_back``, ``reset_and_give_back`` or ``discard`` ends the lease."""

    def refused(self, failure: UpstreamFailure) -> None:
        """Note that there is no connection."""


class _Keeper:
    """Holds a connection for the pool between two leases. The server may close it at any time."""

    __slots__ = ("_connection", "_pool")

    def __init__(self, pool: "Pool", connection: Connection) -> None:
        self._pool = pool
        self._connection = connection

    def upstream_data(self, block: bytes) -> None:
        """Handle bytes. Only NOOPs are expected: after anything else, the connection is in a wrong state."""
        if block.strip(b"\x00"):
            self._pool.spoke(self._connection.link)
        else:
            self._connection.cut_noop = cut_noop(block)

    def upstream_lost(self) -> None:
        """Do nothing: the pool is told of every lost connection anyway."""

    def upstream_full(self, *, full: bool) -> None:
        """Do nothing: nothing is sent on an idle connection."""


class Pool:
    """The connections of one upstream, lent for one transaction at a time."""

    def __init__(self, upstream: Upstream, limits: Limits, name: str, *,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.upstream = upstream
        self.limits = limits
        self._name = name
        self._clock = clock
        self._machine = PoolMachine(limits, upstream.seed, is_routed=upstream.is_routed,
                                    answer_seconds=upstream.connection_timeout)
        self.counters: Counters = self._machine.counters
        self._actions = self._machine.actions
        self._acts: dict[type, Callable[[Any], None]] = {
            Grant: self._grant, Refuse: self._refuse, Open: self._open, Check: self._check, AskTable: self._ask_table,
            Close: self._close, Abort: self._abort, Settle: self._settle, WakeAt: self._wake,
            Emptied: self._note_emptied, Note: self._log}
        self._is_acting = False
        self._opening: dict[Link, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._emptied = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Pool {self._name}: {self._machine!r}>"

    @property
    def state(self) -> PoolState:
        """Return the last known state of the server, or the state that an operator set."""
        return self._machine.state

    @property
    def last_error(self) -> str | None:
        """Return the code and reason of the last failed attempt."""
        return self._machine.last_error

    @property
    def idle(self) -> int:
        """Return how many open connections are not lent now."""
        return self._machine.idle

    @property
    def in_use(self) -> int:
        """Return how many connections are lent now."""
        return self._machine.in_use

    @property
    def waiting(self) -> int:
        """Return how many borrowers are waiting now."""
        return self._machine.waiting

    @property
    def longest_wait(self) -> float:
        """Return the longest wait so far in seconds, including waits that have not ended."""
        return self._machine.longest_wait(self._clock())

    # Borrowing

    def lend(self, borrower: Borrower, route: Route, *, must_check: bool = False,
             version: Version | None = None) -> Connection | None:
        """Return a connection at once, or None: then the borrower waits, and is told.

        A borrower that comes while others wait, waits after them. With ``must_check`` the connection has just answered
        a RESET, or was opened for this request; any member will do. With ``version`` it speaks this version of Bolt,
        otherwise the newest that driver and server both know.
        """
        link = self._machine.lend(borrower, route, self._clock(), must_check=must_check, version=version)
        if self._actions:
            self._act()
        connection: Connection | None = link.handle if link else None
        return connection

    def abandon(self, borrower: Borrower) -> None:
        """Forget a borrower that was waiting: it is gone."""
        self._machine.abandon(borrower, self._clock())
        self._act()

    def give_back(self, connection: Connection) -> None:
        """End a lease whose connection is READY again."""
        connection.user = connection.keeper
        self._machine.give_back(connection.link, self._clock())
        if self._actions:
            self._act()

    def reset_and_give_back(self, connection: Connection) -> None:
        """End a lease that left something open. No answer may be outstanding on the connection."""
        connection.user = connection.keeper
        self._machine.reset(connection.link, self._clock())
        self._act()

    def discard(self, connection: Connection) -> None:
        """End a lease by closing its connection: the server rolls back what was open on it."""
        connection.user = connection.keeper
        self._machine.discard(connection.link, self._clock())
        self._act()

    def failed(self, code: str, connection: Connection) -> None:
        """Handle a FAILURE that the server sent during a lease."""
        self._machine.failed(code, connection.link, self._clock())
        self._act()

    # Ending

    def close_idle(self) -> None:
        """Close every connection that is not lent."""
        self._machine.close_idle(self._clock())
        self._act()

    def reconnect(self) -> None:
        """Close every connection; lent ones are closed at the end of their transaction."""
        self._machine.reconnect(self._clock())
        self._act()

    def pause(self) -> None:
        """Do the same, and lend nothing until ``resume``."""
        self._machine.pause(self._clock())
        self._act()

    def resume(self) -> None:
        """Lend again, first to the borrowers that have waited."""
        self._machine.resume(self._clock())
        self._act()

    async def drain(self, limit: float) -> None:
        """Let leases end within ``limit`` seconds, then close everything."""
        self._machine.drain(self._clock())
        self._act()
        emptied = asyncio.ensure_future(self._emptied.wait())
        await asyncio.wait({emptied}, timeout=limit)
        if not emptied.done():
            emptied.cancel()
            log.warning("%s: after %g s of draining, %d transactions are cut off", self._name, limit, self.in_use)
        await self.close()

    async def close(self) -> None:
        """Refuse all waiting borrowers and close every connection, lent or not."""
        self._machine.close(self._clock())
        self._act()
        await self.upstream.close()

    # Events of connections

    def spoke(self, link: Link) -> None:
        """Close a connection on which the server sent something unasked."""
        self._machine.spoke(link, self._clock())
        self._act()

    def _lost(self, link: Link) -> None:
        self._machine.lost(link, self._clock())
        self._act()

    # Carrying out what was decided

    def _act(self) -> None:
        """Carry out the actions in order. Actions that result from them come after."""
        if self._is_acting:
            return
        self._is_acting = True
        try:
            while self._actions:
                action = self._actions.popleft()
                self._acts[type(action)](action)
        finally:
            self._is_acting = False

    def _grant(self, action: Grant) -> None:
        try:
            action.borrower.granted(action.link.handle)
        except Exception:
            # Whatever is wrong with one client, the others continue.
            log.exception("%s: a client could not take its connection", self._name)
            self._machine.discard(action.link, self._clock())

    def _refuse(self, action: Refuse) -> None:
        try:
            action.borrower.refused(action.failure)
        except Exception:
            log.exception("%s: a client could not be told that there is no connection", self._name)

    def _open(self, action: Open) -> None:
        task = asyncio.ensure_future(self._connect(action.link))
        self._opening[action.link] = task
        task.add_done_callback(lambda _: self._opening.pop(action.link, None))

    async def _connect(self, link: Link) -> None:
        try:
            connection = await self.upstream.connect(link.place)
        except UpstreamFailure as failure:
            self._machine.open_failed(link, failure, self._clock())
        else:
            connection.link, connection.keeper = link, _Keeper(self, connection)
            connection.user = connection.keeper
            connection.on_lost = lambda: self._lost(link)
            self._machine.opened(link, connection, self._clock())
        self._act()

    def _check(self, action: Check) -> None:
        link = action.link
        link.handle.ask_alive(lambda tag, _: self._checked(link, tag), lambda why: self._nonsense(link, why))

    def _checked(self, link: Link, tag: int) -> None:
        if tag == Tag.SUCCESS:
            self._machine.answered(link, self._clock())
            self._act()
        else:
            self._nonsense(link, "RESET was not answered with SUCCESS")

    def _ask_table(self, action: AskTable) -> None:
        link, (database, user) = action.link, action.key
        link.handle.ask_table(database, user, action.bookmarks, lambda tag, body: self._routed(link, tag, body),
                              lambda why: self._nonsense(link, why))

    def _routed(self, link: Link, tag: int, body: bytes) -> None:
        if tag not in (Tag.SUCCESS, Tag.FAILURE):
            self._nonsense(link, "ROUTE was answered neither with SUCCESS nor with FAILURE")
            return
        fields = unpack_map(body, 2)[0]
        if tag == Tag.SUCCESS:
            routes_itself = bool(link.handle.server.hints.get("ssr.enabled"))
            self._machine.routed(link, fields.get("rt"), self._clock(), routes_itself=routes_itself)
        else:
            self._machine.route_failed(link, UpstreamFailure.from_fields(fields), self._clock())
        self._act()

    def _nonsense(self, link: Link, why: str) -> None:
        self._machine.check_failed(link, why, self._clock())
        self._act()

    def _close(self, action: Close) -> None:
        connection: Connection = action.link.handle
        user, connection.user = connection.user, connection.keeper
        connection.close()
        if action.was_lent and user:
            user.upstream_lost()

    def _abort(self, action: Abort) -> None:
        if task := self._opening.get(action.link):
            task.cancel()
        if connection := action.link.handle:
            connection.abort()

    def _settle(self, _: Settle) -> None:
        """Wait for three turns of the loop.

        Data that has arrived is read in the first turn, perhaps after this callback. The end of a connection is
        reported in the second turn, perhaps after this callback again.
        """
        soon = asyncio.get_running_loop().call_soon
        soon(soon, soon, self._settled)

    def _settled(self) -> None:
        self._machine.settled(self._clock())
        self._act()

    def _wake(self, action: WakeAt) -> None:
        if self._timer:
            self._timer.cancel()
        delay = max(action.at - self._clock(), 0.0)
        self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._machine.tick(self._clock())
        self._act()

    def _note_emptied(self, _: Emptied) -> None:
        self._emptied.set()

    def _log(self, action: Note) -> None:
        log.log(action.level, "%s: %s", self._name, action.text)
