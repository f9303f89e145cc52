"""The official driver as a source of upstream connections: the only place that knows its inside.

What the driver does well stays its own: addresses, TLS, handshake, logging on, routing tables. Taken
from it are authenticated connections in the state READY, whose bytes the relay then sends and
receives itself: the transport gets another protocol for as long as the relay holds the connection.

Nothing of this is public API. The versions in ``TESTED`` ran the whole test suite;
:mod:`worker_init.selftest` tells whether another one still has the same inside.
"""

import asyncio
import socket
import time
from typing import Any, NamedTuple, Protocol, cast

import neo4j
from neo4j import READ_ACCESS, WRITE_ACCESS, AsyncGraphDatabase
from neo4j._async.io._pool import AcquisitionDatabase
from neo4j.exceptions import DriverError, Neo4jError

from worker_init.bolt import Scanner, Tag, message
from worker_init.bolt_version import asking_for
from worker_init.errors import BadSetting, ProtocolViolation, UpstreamFailure
from worker_init.handshake import Version
from worker_init.targets import Target

TESTED = ("5.28.2", "6.0.3", "6.4.1")
USER_AGENT = "worker-init"
# The class of these is DatabaseUnavailable or TransientError at the client: worth a retry.
UNREACHABLE = "Neo.TransientError.General.DatabaseUnavailable"
_UNKNOWN = "Neo.DatabaseError.General.UnknownError"
_NOT_A_WRITER = (".NotALeader", ".ForbiddenOnReadOnlyDatabase")

# How long an impersonated user's home database is taken to be the same, where the server corrects a mistake.
_HOME_SECONDS = 60.0
_MOST_HOMES = 10_000

driver_version: str = neo4j.__version__


class Timeouts(NamedTuple):
    """Limits of the driver's own work, in seconds."""

    connection: float
    acquisition: float


class Route(NamedTuple):
    """What decides which server of a cluster a transaction goes to."""

    read_only: bool = False
    database: str | None = None
    bookmarks: tuple[str, ...] = ()
    impersonated: str | None = None


class Server(NamedTuple):
    """What the server said of itself when the connection was opened."""

    version: Version
    agent: str
    hints: dict[str, Any]


class ConnectionUser(Protocol):
    """Whoever holds a connection at the moment: a client's session, or the pool."""

    def upstream_data(self, block: bytes) -> None:
        """Take what came from the server."""

    def upstream_lost(self) -> None:
        """Take note that the connection is gone; nothing else will come."""

    def upstream_full(self, *, full: bool) -> None:
        """Hold back while the server does not keep up with what is sent to it."""


class Connection(asyncio.Protocol):
    """An authenticated upstream connection, as raw bytes. ``user`` is told what happens on it."""

    def __init__(self, raw: Any) -> None:
        self.user: ConnectionUser | None = None
        self.lost = False
        self.opened_at = self.idle_since = time.monotonic()
        self.server = Server(Version(*raw.server_info.protocol_version), raw.server_info.agent,
                             dict(raw.connection_hints))
        self._raw = raw
        self._transport = cast("asyncio.Transport", raw.socket._writer.transport)
        self._drivers_own = self._transport.get_protocol()
        # The driver's async sockets are made with protocol 0, so asyncio leaves Nagle on.
        self._transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport.set_protocol(self)
        self.write = self._transport.write
        self.pause_reading = self._transport.pause_reading
        self.resume_reading = self._transport.resume_reading
        self.abort = self._transport.abort

    def data_received(self, data: bytes) -> None:
        """asyncio: pass on what the server sent."""
        if self.user:
            self.user.upstream_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: tell the driver, which still counts this connection, and the user."""
        self.lost = True
        self._drivers_own.connection_lost(exc)
        if self.user:
            self.user.upstream_lost()

    def pause_writing(self) -> None:
        """asyncio: the buffer towards the server is full."""
        if self.user:
            self.user.upstream_full(full=True)

    def resume_writing(self) -> None:
        """asyncio: the buffer towards the server has room again."""
        if self.user:
            self.user.upstream_full(full=False)

    async def reset(self, timeout: float) -> None:
        """Bring the server's side back to READY. Raises UpstreamFailure where that cannot be had."""
        if self.lost:
            raise UpstreamFailure(UNREACHABLE, "the connection was lost")
        answer = _ResetAnswer()
        self.user = answer
        self.write(message(Tag.RESET))
        try:
            await asyncio.wait_for(answer.done, timeout)
        except TimeoutError:
            raise UpstreamFailure(UNREACHABLE, f"no answer to RESET within {timeout:g} s") from None
        finally:
            self.user = None


class _ResetAnswer:
    """Waits for the SUCCESS of a RESET that is sent with nothing else outstanding."""

    def __init__(self) -> None:
        self.done = asyncio.get_running_loop().create_future()
        self._scanner = Scanner()

    def upstream_data(self, block: bytes) -> None:
        try:
            ended = [piece.tag for piece in self._scanner.feed(block) if piece.last]
        except ProtocolViolation as error:
            return self._fail(str(error))
        if ended == [Tag.SUCCESS] and not self.done.done():
            self.done.set_result(None)
        elif ended:
            self._fail("RESET was not answered with SUCCESS")
        return None

    def upstream_lost(self) -> None:
        self._fail("the connection was lost during RESET")

    def upstream_full(self, *, full: bool) -> None:
        """Nothing to hold back: a RESET is four bytes."""

    def _fail(self, why: str) -> None:
        if not self.done.done():
            self.done.set_exception(UpstreamFailure(UNREACHABLE, why))


class Upstream:
    """One official ``neo4j.AsyncDriver``, lazily connected. ``opened`` counts connections ever made.

    With ``version`` its connections speak this version of Bolt and no other.

    Raises BadSetting where the driver refuses the target.
    """

    def __init__(self, target: Target, timeouts: Timeouts, version: Version | None = None) -> None:
        self.target = target
        self._version = version
        self.opened = 0
        self._timeouts = timeouts
        # A routing driver has its table under the database's name, also for who names none: then it is the
        # home database, each user's own. Impersonated users have theirs with the time it was asked for.
        self._home_database: str | None = None
        self._homes: dict[str, tuple[float, str]] = {}
        auth = (target.username, target.password) if target.username else None
        # How many connections there may be is the pool's decision (worker_init.pool), not the driver's.
        try:
            self._driver = AsyncGraphDatabase.driver(
                target.uri, auth=auth, user_agent=USER_AGENT, max_connection_pool_size=-1,
                connection_timeout=timeouts.connection, telemetry_disabled=True)
        except (DriverError, ValueError) as error:
            raise BadSetting(f"the upstream {target.uri} cannot be used: {error}") from error
        self._pool: Any = self._driver._pool
        self._open_one, self._pool.opener = self._pool.opener, self._counted_open
        self._reactions: set[asyncio.Task[None]] = set()

    @property
    def is_routed(self) -> bool:
        """Whether access mode, database and bookmarks decide which server a connection leads to."""
        return not self._pool.is_direct_pool

    @property
    def open(self) -> int:
        """Return how many connections are open now."""
        return sum(not raw.closed() for held in self._pool.connections.values() for raw in held)

    async def _counted_open(self, *args: Any) -> Any:
        with asking_for(self._version):
            raw = await self._open_one(*args)
        self.opened += 1
        return raw

    async def connect(self, route: Route) -> Connection:
        """Return a connection in the state READY. Raises UpstreamFailure with what hindered it."""
        try:
            database = await self._database_of(route)
            raw = await self._pool.acquire(
                access_mode=READ_ACCESS if route.read_only else WRITE_ACCESS, timeout=self._timeouts.acquisition,
                database=database, bookmarks=route.bookmarks, auth=None, liveness_check_timeout=None,
                database_callback=self._remember_home if database.guessed else None)
            return await self._ready(raw, self._home_database if database.guessed else database.name)
        except Exception as error:
            raise _failure(error, self.target) from error

    async def _database_of(self, route: Route) -> AcquisitionDatabase:
        """Return the database whose routing table decides: who names none means the user's home database."""
        if route.database or not self.is_routed:
            return AcquisitionDatabase(route.database)
        if route.impersonated and (home := await self._home_of(route.impersonated, route)):
            return AcquisitionDatabase(home)
        return AcquisitionDatabase(self._home_database, guessed=True)

    async def _home_of(self, user: str, route: Route) -> str | None:
        """Ask the server, as the driver does at each use where the server does not route by itself."""
        asked_at, known = self._homes.get(user, (float("-inf"), None))
        if known and self._pool.ssr_enabled and time.monotonic() - asked_at < _HOME_SECONDS:
            return known
        found: list[str | None] = []
        try:
            await self._pool.update_routing_table(
                database=None, imp_user=user, bookmarks=route.bookmarks, auth=None,
                acquisition_timeout=self._timeouts.acquisition, database_callback=found.append)
        except Neo4jError:
            # The query itself has the same failure, and the server's own words for it.
            return None
        home = found[0] if found else None
        if home:
            if len(self._homes) >= _MOST_HOMES:
                self._homes.clear()
            self._homes[user] = (time.monotonic(), home)
        return home

    def _remember_home(self, database: str | None) -> None:
        self._home_database = database or self._home_database

    async def _ready(self, raw: Any, database: str | None) -> Connection:
        """Flush what the driver has put in front of the first query: a change of credentials."""
        try:
            await raw.send_all()
            await raw.fetch_all()
        except BaseException:
            self._pool.kill_and_release(raw)
            raise
        raw.last_database = database
        return Connection(raw)

    async def give_back(self, connection: Connection) -> None:
        """Return a READY connection to the driver, whose routing decides where the next one leads to."""
        connection._transport.set_protocol(connection._drivers_own)
        connection._raw.idle_since = time.monotonic()
        await self._pool.release(connection._raw)

    def close_connection(self, connection: Connection) -> None:
        """Say GOODBYE where there is somebody to say it to, and close."""
        if not connection.lost:
            connection.write(message(Tag.GOODBYE))
        self.drop_connection(connection)

    def drop_connection(self, connection: Connection) -> None:
        """Close at once: the server ends what still runs on the connection and rolls it back."""
        connection.user = None
        # The pool's own kill_and_release() works in a task only, and nobody waits for its notification:
        # what is closed and not in use is taken out at the next acquire().
        connection._raw.kill()
        connection._raw.in_use = False

    def close_idle(self, idle_for: float) -> None:
        """Close what the driver itself holds and nobody has used for so many seconds (routed only)."""
        now = time.monotonic()
        held = [raw for held in self._pool.connections.values() for raw in held]
        for raw in held:
            if not (raw.in_use or raw.closed()) and now - raw.idle_since >= idle_for:
                raw.kill()

    def react_to(self, code: str, connection: Connection) -> bool:
        """Let the driver learn from a FAILURE as if it had read it; False: use no connection from before it."""
        raw = connection._raw
        if self.is_routed and code.endswith(_NOT_A_WRITER):
            self._later(self._pool.on_write_failure(address=raw.unresolved_address, database=raw.last_database))
        elif self.is_routed and code.endswith(".DatabaseUnavailable"):
            self._later(self._pool.deactivate(address=raw.unresolved_address))
        return not (".Security." in code and code.endswith("Expired"))

    def _later(self, reaction: Any) -> None:
        task = asyncio.ensure_future(reaction)
        self._reactions.add(task)
        task.add_done_callback(self._reactions.discard)

    async def close(self) -> None:
        """Close the driver with all its connections."""
        await self._driver.close()


def _failure(error: Exception, target: Target) -> UpstreamFailure:
    """Return Neo4j's own failure as it is, anything else with the server's name and its cause."""
    if isinstance(error, Neo4jError) and error.code:
        return UpstreamFailure(error.code, error.message or str(error), gql_status=error.gql_status,
                               description=error.gql_status_description,
                               diagnostic_record=dict(error.diagnostic_record))
    reachable = not isinstance(error, DriverError | OSError)
    cause, root = _in_a_line(error), error
    while root.__cause__ is not None and isinstance(root.__cause__, Exception):
        root = root.__cause__
    if root is not error and _in_a_line(root) not in cause:
        cause = f"{cause} ({_in_a_line(root)})"
    return UpstreamFailure(_UNKNOWN if reachable else UNREACHABLE,
                           f"the worker's driver has no connection to {target.uri}: {cause}")


def _in_a_line(error: BaseException) -> str:
    """Return what an error says; its name where it says nothing, as asyncio's do when a TLS handshake is hung up on."""
    return " ".join(str(error).split()) or type(error).__name__
