"""The official driver as a source of upstream connections. This is the only module that knows its internals.

TLS, the handshake and logging on are left to the driver. The relay takes authenticated connections in the state READY
from it, and then sends and receives their bytes itself: the transport gets another protocol. The connections are never
in the driver's own pool, because that pool asks for a routing table under a lock that stops everybody.
:mod:`worker_init.pool_machine` decides how many connections there are, and which member of a cluster they lead to.

None of this is public API. The versions in ``TESTED`` passed the tests of ``docs/versions.md``;
:mod:`worker_init.selftest` tells whether another version still has the same internals.
"""

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, cast

import neo4j
from neo4j import AsyncGraphDatabase
from neo4j._async.io import AsyncBolt
from neo4j._async_compat.network import AsyncNetworkUtil
from neo4j._deadline import Deadline
from neo4j._exceptions import BoltHandshakeError
from neo4j.exceptions import DriverError, GqlError, Neo4jError, UnsupportedServerProduct

from worker_init.bolt import Piece, Scanner, Tag, body_of, message
from worker_init.errors import UNREACHABLE, BadSetting, ProtocolViolation, TooOld, UpstreamFailure
from worker_init.handshake import OLDEST, Version, offers_of
from worker_init.known_servers import Server
from worker_init.pool_actions import Link
from worker_init.routing import Place
from worker_init.targets import Target

TESTED = ("5.28.0", "5.28.2", "5.28.8", "6.0.3", "6.4.1")
USER_AGENT = "worker-init"
_UNKNOWN = "Neo.DatabaseError.General.UnknownError"
_NEW_ENOUGH = f"which cannot be shared: Neo4j 4.4 and newer can (Bolt {OLDEST} and newer)"
# What is being waited for, by the innermost function of the driver and of asyncio, while a connection is opened.
_STAGES = {"_connect_secure": "the TCP connection", "create_connection": "the TLS handshake",
           "_handshake": "the answer to Bolt's version handshake", "hello": "the answer to HELLO or LOGON"}

driver_version: str = neo4j.__version__

_wanted: ContextVar[Version | None] = ContextVar("wanted", default=None)
_drivers_own_handshake = AsyncBolt.get_handshake


def _proposals() -> bytes:
    """Return the four proposals: the driver's own, or a single one."""
    version = _wanted.get()
    return bytes((0, 0, version.minor, version.major)) + bytes(12) if version else _drivers_own_handshake()


# The driver takes its versions from one place, which the whole process shares. A value may look different in each
# version of Bolt, so each client gets connections of its own version; the task that opens one says which.
AsyncBolt.get_handshake = staticmethod(_proposals)  # type: ignore[method-assign]


@contextmanager
def _asking_for(version: Version | None) -> Iterator[None]:
    """Make connections that are opened inside speak this version; None: the newest that both sides know."""
    before = _wanted.set(version)
    try:
        yield
    finally:
        _wanted.reset(before)


class ConnectionUser(Protocol):
    """The present holder of a connection: a client's session, or the pool."""

    def upstream_data(self, block: bytes) -> None:
        """Handle bytes that came from the server."""

    def upstream_lost(self) -> None:
        """Note that the connection is lost; nothing else will come."""

    def upstream_full(self, *, full: bool) -> None:
        """Hold back while the server does not take what it is sent."""


OnAnswer = Callable[[int, bytes], None]
OnNonsense = Callable[[str], None]


class Connection(asyncio.Protocol):
    """An authenticated upstream connection, as raw bytes. ``user`` is told what happens on it.

    ``link``, ``keeper`` and ``on_lost`` belong to the pool: the machine's object for the connection, the holder between
    two leases, and a function to call once when the connection's end was read. ``cut_noop`` is half of a NOOP that came
    between two users: the next user gets it in front of the next data.
    """

    link: Link
    keeper: ConnectionUser | None

    def __init__(self, raw: Any, on_closed: Callable[["Connection"], None]) -> None:
        self.user: ConnectionUser | None = None
        self.lost = False
        self.keeper = None
        self.cut_noop = b""
        self.on_lost: Callable[[], None] | None = None
        self.server = Server(Version(*raw.server_info.protocol_version), raw.server_info.agent,
                             dict(raw.connection_hints), frozenset(getattr(raw, "patch", ())))
        self._raw = raw
        self._on_closed = on_closed
        self._transport = cast("asyncio.Transport", raw.socket._writer.transport)
        self._drivers_own = self._transport.get_protocol()
        # The driver creates its async sockets with protocol 0, so asyncio leaves Nagle's algorithm on.
        self._transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport.set_protocol(self)
        self.write = self._transport.write
        self.pause_reading = self._transport.pause_reading
        self.resume_reading = self._transport.resume_reading

    def data_received(self, data: bytes) -> None:
        """asyncio: pass on data from the server."""
        if self.cut_noop:
            data, self.cut_noop = self.cut_noop + data, b""
        if self.user:
            self.user.upstream_data(data)

    def eof_received(self) -> None:
        """asyncio: the server has ended the connection. From now on it may not be lent."""
        self.abort()
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection is gone."""
        self._drivers_own.connection_lost(exc)
        self._end()

    def _end(self) -> None:
        """Tell the user, then the pool, once."""
        if self.lost:
            return
        self.lost = True
        self._on_closed(self)
        if self.user:
            self.user.upstream_lost()
        if self.on_lost:
            self.on_lost()

    def pause_writing(self) -> None:
        """asyncio: the buffer towards the server is full."""
        if self.user:
            self.user.upstream_full(full=True)

    def resume_writing(self) -> None:
        """asyncio: the buffer towards the server has room again."""
        if self.user:
            self.user.upstream_full(full=False)

    def ask_alive(self, on_answer: OnAnswer, on_nonsense: OnNonsense) -> None:
        """Send RESET. The server answers when it is READY again. No answer may be outstanding."""
        self._ask(message(Tag.RESET), on_answer, on_nonsense)

    def ask_table(self, database: str | None, user: str | None, bookmarks: tuple[str, ...], on_answer: OnAnswer,
                  on_nonsense: OnNonsense) -> None:
        """Send ROUTE, as the driver does. No answer may be outstanding."""
        names = {key: value for key, value in (("db", database), ("imp_user", user)) if value is not None}
        self._ask(message(Tag.ROUTE, self._raw.routing_context or {}, [*bookmarks], names), on_answer, on_nonsense)

    def _ask(self, question: bytes, on_answer: OnAnswer, on_nonsense: OnNonsense) -> None:
        self.user = _Answer(self, on_answer, on_nonsense)
        self.write(question)

    def close(self) -> None:
        """Send GOODBYE, and close once it is sent."""
        if not self.lost:
            self.write(message(Tag.GOODBYE))
        self._raw.kill()
        self._on_closed(self)

    def abort(self) -> None:
        """Close at once, even with data still to send. The server rolls back what was open."""
        # The driver's kill() would wait until the server has taken what is in the buffer, which may never happen.
        self._transport.abort()
        self._raw.kill()
        self._on_closed(self)


class _Answer:
    """Waits for the one answer to a RESET or a ROUTE, then leaves the connection to its keeper."""

    __slots__ = ("_body", "_connection", "_on_answer", "_on_nonsense", "_scanner")

    def __init__(self, connection: Connection, on_answer: OnAnswer, on_nonsense: OnNonsense) -> None:
        self._connection = connection
        self._on_answer = on_answer
        self._on_nonsense = on_nonsense
        self._scanner = Scanner()
        self._body = bytearray()

    def upstream_data(self, block: bytes) -> None:
        """Handle bytes that came from the server."""
        try:
            pieces = self._scanner.feed(block)
            for piece in pieces:
                self._body += self._scanner.block[piece.start:piece.stop]
            self._conclude(pieces)
        except ProtocolViolation as violation:
            self._leave()
            self._on_nonsense(str(violation))

    def _conclude(self, pieces: list[Piece]) -> None:
        if sum(piece.last for piece in pieces) > 1 or (pieces and pieces[0].last and not pieces[-1].last):
            self._leave()
            self._on_nonsense("more than one answer came")
        elif pieces and pieces[-1].last:
            self._leave()
            self._connection.cut_noop = cut_noop(self._scanner.block[pieces[-1].stop:])
            self._on_answer(pieces[-1].tag, body_of(bytes(self._body)))

    def _leave(self) -> None:
        self._connection.user = self._connection.keeper

    def upstream_lost(self) -> None:
        """Do nothing: the pool is told of every lost connection anyway."""

    def upstream_full(self, *, full: bool) -> None:
        """Do nothing: the question is short."""


def cut_noop(block: bytes) -> bytes:
    """Return what is left after the last whole NOOP in a block that contains nothing else."""
    return block[:len(block) % 2]


class Upstream:
    """The source of connections: one official ``neo4j.AsyncDriver``, which connects when it is asked to.

    ``seed`` is the address that the target names. ``connection_timeout`` limits all steps of opening a connection
    together, in seconds. ``opened`` counts all connections ever opened. ``on_version`` is called for each server that
    is too old while no connection is open, and with None for each that is not. Raises BadSetting if the driver refuses
    the target.
    """

    def __init__(self, target: Target, connection_timeout: float,
                 on_version: Callable[[TooOld | None], None] = lambda _: None) -> None:
        self.target = target
        self._on_version = on_version
        self.connection_timeout = connection_timeout
        self.opened = 0
        self._connections: set[Connection] = set()
        auth = (target.username, target.password) if target.username else None
        try:
            # The limit over all steps is kept here. The driver's own limit, for a single step, must not come before it.
            self._driver = AsyncGraphDatabase.driver(target.uri, auth=auth, user_agent=USER_AGENT,
                                                     connection_timeout=2 * connection_timeout, telemetry_disabled=True)
        except (DriverError, ValueError) as error:
            raise BadSetting(f"the upstream {target.uri} cannot be used: {error}") from error
        self._pool: Any = self._driver._pool
        self.seed = str(self._pool.address)

    @property
    def is_routed(self) -> bool:
        """Whether access mode, database and bookmarks decide which server a connection leads to."""
        return not self._pool.is_direct_pool

    @property
    def open(self) -> int:
        """Return how many connections are open now."""
        return len(self._connections)

    async def connect(self, place: Place) -> Connection:
        """Return a connection to a server, in the state READY. Raises UpstreamFailure with the cause."""
        is_seed = place.address == self.seed
        name = self.target.uri if is_seed else f"{place.address}, a member of {self.target.uri}"
        try:
            with _asking_for(place.version):
                raw = await self._open(self._pool.address if is_seed else neo4j.Address.parse(place.address))
            connection = Connection(raw, self._connections.discard)
        except (UnsupportedServerProduct, BoltHandshakeError) as error:
            if place.version:       # the server no longer speaks an earlier version of its own
                raise _failure(error, name) from error
            raise self._too_old(f"{name} speaks no Bolt that the Neo4j driver {driver_version} knows") from error
        except Exception as error:
            raise _failure(error, name) from error
        version = connection.server.version
        if not offers_of(version):
            connection.abort()
            raise self._too_old(f"{name} speaks Bolt {version}")
        self.opened += 1
        self._connections.add(connection)
        self._on_version(None)
        return connection

    def _too_old(self, what: str) -> TooOld:
        failure = TooOld(_UNKNOWN, f"{what}, {_NEW_ENOUGH}")
        if not self._connections:
            self._on_version(failure)
        return failure

    async def _open(self, address: Any) -> Any:
        """Try each address that a name resolves to, within one time limit for all of them."""
        loop, limit = asyncio.get_running_loop(), self.connection_timeout
        ends_at = loop.time() + limit
        addresses = await _within(limit, limit, _resolved(address))
        error: Exception = OSError(f"{address} stands for no address")
        for at, resolved in enumerate(addresses):
            share = (ends_at - loop.time()) / (len(addresses) - at)
            opening = self._pool.opener(resolved, self._pool.pool_config.auth, Deadline(2 * limit))
            try:
                return await _within(max(share, 0.0), limit, opening)
            except (DriverError, OSError) as failed:
                error = failed
        raise error

    async def close(self) -> None:
        """Close the driver. The pool closes the connections."""
        await self._driver.close()


async def _resolved(address: Any) -> list[Any]:
    resolving: Any = AsyncNetworkUtil.resolve_address
    return [resolved async for resolved in resolving(address)]


class _TooLate(OSError):
    """A step of opening a connection took too long."""


async def _within(seconds: float, limit: float, work: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a step of opening; raise _TooLate after ``seconds``. ``limit`` is for all the steps."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            raise _TooLate(f"timed out waiting for {_stage_of(work)} ({limit:g} s, WORKER_INIT_CONNECTION_TIMEOUT)")
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            task.add_done_callback(_clear_away)


def _clear_away(task: "asyncio.Task[Any]") -> None:
    """Close a connection that became ready in the moment in which it was given up."""
    if not task.cancelled() and not task.exception() and hasattr(task.result(), "kill"):
        task.result().kill()


def _stage_of(work: Any) -> str:
    """Return what a coroutine that opens a connection is waiting for, derived from its stack of functions."""
    stage, answering = "the resolution of the name", None
    while work is not None:
        name = getattr(work, "__name__", "")
        stage = _STAGES.get(name, stage)
        if name == "hello" and work.cr_frame is not None:
            answering = work.cr_frame.f_locals.get("self")
        work = getattr(work, "cr_await", None)
    waiting = getattr(answering, "responses", None)
    return f"the answer to {waiting[0].message.upper()}" if waiting else stage


def _failure(error: Exception, name: str) -> UpstreamFailure:
    """Return Neo4j's own failure; for any other error, a failure with the server's name and the cause.

    A client only knows the address and password of the relay. So a refused logon also says which server refused it.
    """
    if isinstance(error, Neo4jError) and error.code:
        message = error.message or str(error)
        if ".Security." in error.code:
            message = f"{message} (The upstream is {name}.)"
        return UpstreamFailure(error.code, message, gql_status=error.gql_status,
                               description=error.gql_status_description,
                               diagnostic_record=dict(error.diagnostic_record), cause=_cause_of(error))
    reachable = not isinstance(error, DriverError | OSError)
    cause, root = _in_a_line(error), error
    while root.__cause__ is not None and isinstance(root.__cause__, Exception):
        root = root.__cause__
    if root is not error and _in_a_line(root) not in cause:
        cause = f"{cause} ({_in_a_line(root)})"
    return UpstreamFailure(_UNKNOWN if reachable else UNREACHABLE,
                           f"the driver host has no connection to {name}: {cause}")


def _cause_of(error: BaseException) -> dict[str, Any] | None:
    """Return Neo4j's cause of a failure, in the form of a FAILURE."""
    cause = error.__cause__
    if not isinstance(cause, GqlError):
        return None
    fields = {"message": cause.message, "gql_status": cause.gql_status, "description": cause.gql_status_description,
              "diagnostic_record": dict(cause.diagnostic_record)}
    return fields | ({"cause": further} if (further := _cause_of(cause)) else {})


def _in_a_line(error: BaseException) -> str:
    """Return an error's text, or its name if it has none, as with asyncio's if the peer ends a TLS handshake."""
    return " ".join(str(error).split()) or type(error).__name__
