"""A client's connection: the thin shell around its machine, with the sockets, the timers and the pool.

Every event goes to :class:`worker_init.client.Client`; the actions that it asks for are carried out here, in order.
This module only decides what depends on the world: whether a client that sends something is still there, and what is
left to do if the machine itself fails.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Any, Protocol, cast, get_args

from worker_init import actions as act
from worker_init.client import Client, Facts, nothing
from worker_init.end_watch import EndWatch, ends_of
from worker_init.errors import UpstreamFailure
from worker_init.handshake import Version
from worker_init.known_servers import Server
from worker_init.pool import Pool
from worker_init.upstream import Connection


class Front(Facts, Protocol):
    """What a session needs from its relay."""

    end_watch: EndWatch
    pool: Pool
    server: Server | None

    def version_for(self, version: Version) -> Version | None:
        """Return the version that a client's connections must speak; None if no member speaks anything newer."""

    def ask_server(self, then: Callable[[UpstreamFailure | None], None]) -> None:
        """Find out what the server speaks. ``then`` is called when it is known, or with the reason why it is not."""

    def joined(self, session: "Session") -> None:
        """Count a client that has connected."""

    def left(self, session: "Session") -> None:
        """Forget a client that is gone."""

    def learn(self, connection: Connection) -> None:
        """Note what the server said about itself."""

    def turned_away(self, why: str) -> None:
        """Count a client that was turned away."""

    def server_at_fault(self, why: str) -> None:
        """Log what a server did wrong."""

    def own_fault(self, error: Exception, client: Client) -> None:
        """Count and log a bug in a client's machine."""


class Session(asyncio.Protocol):
    """A client's connection, from its handshake to its end."""

    __slots__ = ("_client", "_connection", "_descriptor", "_ends", "_front", "_is_performing", "_loop", "_pool",
                 "_timers", "_transport")

    def __init__(self, front: Front) -> None:
        self._front = front
        self._client = Client(front, f"worker-{id(self):x}")
        self._loop = asyncio.get_running_loop()
        self._client.wake = lambda: self._come_back(act.ComeBack())
        self._transport: asyncio.Transport
        self._descriptor = -1
        self._ends: Callable[[int], list[Any]]
        self._pool = front.pool
        self._connection: Connection | None = None
        self._timers: dict[act.Timer, asyncio.TimerHandle] = {}
        self._is_performing = False

    def __repr__(self) -> str:
        return f"<Session {self._client!r}>"

    # Called by asyncio, about the client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: a client is here."""
        self._transport = cast("asyncio.Transport", transport)
        self._descriptor = transport.get_extra_info("socket").fileno()
        self._ends = ends_of(self._descriptor)
        self._front.joined(self)
        self._perform()

    def data_received(self, data: bytes) -> None:
        """asyncio: the client sent something."""
        try:
            self._client.client_sent(data)
            self._perform()
        except Exception as error:
            self._fail(error)

    def connection_lost(self, _: Exception | None) -> None:
        """asyncio: the client is gone, whatever its state was."""
        self._front.end_watch.forget(self._descriptor)
        self._tell(self._client.client_ended)
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._front.left(self)
        # The two refer to each other. Without this, the garbage collector would have work for each client that is gone.
        self._client.wake = nothing

    def pause_writing(self) -> None:
        """asyncio: the client does not read what it is sent."""
        self._tell(lambda: self._client.client_full(full=True))

    def resume_writing(self) -> None:
        """asyncio: the client reads again."""
        self._tell(lambda: self._client.client_full(full=False))

    # The pool

    def granted(self, connection: Connection) -> None:
        """Pool: the connection that was waited for is here."""
        self._tell(lambda: self._take(connection))

    def refused(self, failure: UpstreamFailure) -> None:
        """Pool: there is no connection."""
        self._tell(lambda: self._client.refused(failure))

    # The lent connection

    def upstream_data(self, block: bytes) -> None:
        """Handle bytes that the server sent on the lent connection."""
        try:
            self._client.server_sent(block)
            self._perform()
        except Exception as error:
            self._fail(error)

    def upstream_lost(self) -> None:
        """Note that the lent connection is lost."""
        self._tell(self._client.server_lost)

    def upstream_full(self, *, full: bool) -> None:
        """Hold back while the server does not take what it is sent."""
        self._tell(lambda: self._client.server_full(full=full))

    # Actions of the machine

    def _take(self, connection: Connection) -> None:
        """Take a lent connection, and tell the machine."""
        self._connection = connection
        connection.user = self
        server = connection.server
        if server is not self._front.server and connection.link.place.version is None and server != self._front.server:
            self._front.learn(connection)
        self._client.granted(server.version)

    def _tell(self, what: Callable[[], None]) -> None:
        """Tell the machine. An exception in it costs this client, and nobody else."""
        try:
            what()
            self._perform()
        except Exception as error:
            self._fail(error)

    def _perform(self) -> None:
        """Carry out the actions in order. Actions that are added meanwhile are carried out as well."""
        if self._is_performing:
            return
        self._is_performing = True
        try:
            client = self._client
            while actions := client.actions:
                client.actions = []
                for action in actions:
                    _PERFORM[type(action)](self, action)
        finally:
            self._is_performing = False

    def _fail(self, error: Exception) -> None:
        """End this client after an exception in its machine, and release what it held."""
        self._front.own_fault(error, self._client)
        self._client.actions.clear()
        try:
            self._client.broken()
            self._perform()
        except Exception as another:
            self._front.own_fault(another, self._client)
        self._pool.abandon(self)
        self._discard(act.Discard())
        self._transport.abort()

    def _to_client(self, action: act.ToClient) -> None:
        self._transport.write(action.data)

    def _to_server(self, action: act.ToServer) -> None:
        if self._ends(0) or (self._client.is_paused and self._front.end_watch.is_gone(self._descriptor)):
            self._end()
        elif self._connection:
            self._connection.write(action.data)

    def _end(self) -> None:
        """Handle the client's end before asyncio does, which may still have bytes to read in front of it."""
        self._tell(self._client.client_ended)
        self._transport.abort()

    def _borrow(self, action: act.Borrow) -> None:
        connection = self._pool.lend(self, action.route, must_check=action.must_check,
                                     version=self._front.version_for(self._client.version))
        if connection:
            self._take(connection)
        else:
            self._client.waits()

    def _abandon(self, _: act.Abandon) -> None:
        self._pool.abandon(self)

    def _began(self, _: act.Began) -> None:
        self._pool.counters.leases += 1

    def _failed(self, action: act.Failed) -> None:
        if self._connection:
            self._pool.failed(action.code, self._connection)

    def _take_connection(self) -> Connection | None:
        connection, self._connection = self._connection, None
        if connection:
            connection.user = None
        return connection

    def _give_back(self, _: act.GiveBack) -> None:
        if connection := self._take_connection():
            self._pool.give_back(connection)

    def _reset_and_give_back(self, _: act.ResetAndGiveBack) -> None:
        if connection := self._take_connection():
            self._pool.reset_and_give_back(connection)

    def _discard(self, _: act.Discard) -> None:
        if connection := self._take_connection():
            self._pool.discard(connection)

    def _ask_server(self, _: act.AskServer) -> None:
        self._front.ask_server(lambda failure: self._tell(lambda: self._client.server_known(failure)))

    def _pause_client(self, _: act.PauseClient) -> None:
        self._transport.pause_reading()
        self._front.end_watch.watch(self._transport.get_extra_info("socket"), self._end)

    def _resume_client(self, _: act.ResumeClient) -> None:
        self._front.end_watch.forget(self._descriptor)
        self._transport.resume_reading()

    def _pause_server(self, _: act.PauseServer) -> None:
        if self._connection:
            self._connection.pause_reading()

    def _resume_server(self, _: act.ResumeServer) -> None:
        if self._connection:
            self._connection.resume_reading()

    def _turn_away(self, action: act.TurnAway) -> None:
        self._front.turned_away(action.why)

    def _report(self, action: act.Report) -> None:
        self._front.server_at_fault(action.why)

    def _wake(self, action: act.Wake) -> None:
        for client in action.clients:
            client.wake()

    def _start_timer(self, action: act.StartTimer) -> None:
        if running := self._timers.get(action.timer):
            running.cancel()
        self._timers[action.timer] = self._loop.call_later(action.seconds, self._timer_ended, action.timer)

    def _stop_timer(self, action: act.StopTimer) -> None:
        if running := self._timers.pop(action.timer, None):
            running.cancel()

    def _timer_ended(self, timer: act.Timer) -> None:
        self._timers.pop(timer, None)
        self._tell(lambda: self._client.timer_ended(timer))

    def _come_back(self, _: act.ComeBack) -> None:
        self._loop.call_soon(self._tell, self._client.go_on)

    def _close(self, _: act.Close) -> None:
        self._transport.close()

    def _abort(self, _: act.Abort) -> None:
        self._transport.abort()


def _method_of(action: type) -> Callable[[Session, Any], None]:
    """Return the method that has the action's name: ``GiveBack`` is ``_give_back``."""
    method: Callable[[Session, Any], None] = getattr(Session, re.sub("([A-Z])", r"_\1", action.__name__).lower())
    return method


_PERFORM = {action: _method_of(action) for action in get_args(act.Action)}
