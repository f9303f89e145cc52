"""A driver behind an address: the relay of one slot, with its listening socket, its clients and its pool."""

import asyncio
import logging
import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from worker_init.bounds import SPOOL
from worker_init.client import Client, Verdict
from worker_init.commands import Command
from worker_init.door import Door
from worker_init.end_watch import EndWatch
from worker_init.errors import TooOld, UpstreamFailure
from worker_init.handshake import INTERCHANGEABLE, Version, offers_of
from worker_init.known_servers import KnownServers, Server
from worker_init.listener import Listener
from worker_init.measures import Gauges, Histogram, Measured, Totals
from worker_init.packstream import pack
from worker_init.pool import Pool
from worker_init.pool_actions import Limits
from worker_init.pool_states import OFF
from worker_init.routing import ANYWHERE
from worker_init.session import Session
from worker_init.spool import Spool
from worker_init.targets import Credentials, Target
from worker_init.upstream import Connection, Upstream

log = logging.getLogger(__name__)
_BACKLOG = 4096
# Reasons contain text that a client sent, and each is a line in the log, so their number is limited.
_MOST_REASONS = 100


class Shared:
    """What the relays of one host share."""

    def __init__(self) -> None:
        self.spool: Spool[Client] = Spool(SPOOL)
        self.end_watch = EndWatch()


class Relay:
    """One upstream's clients and connections.

    Its pool lends each client a connection that speaks the client's version of Bolt. ``on_version`` is passed to
    :class:`worker_init.upstream.Upstream`. ``unshared`` is the reason why tasks connect by themselves, if they do.
    """

    def __init__(self, name: str, target: Target, credentials: Credentials, *, limits: Limits,
                 connection_timeout: float, logon_timeout: float, on_client: Callable[[], None],
                 on_version: Callable[[TooOld | None], None], shared: Shared | None = None) -> None:
        self.name = name
        self.unshared: str | None = None
        self._first_answer: asyncio.Future[None] | None = None
        self.logon_timeout = logon_timeout
        self.target = target
        self.server: Server | None = None
        self._known = KnownServers()
        self.address = ""
        shared = shared or Shared()
        self.spool = shared.spool
        self.end_watch = shared.end_watch
        self.pool = Pool(Upstream(target, connection_timeout, on_version), limits, name)
        # What clients of each version are told about this server.
        self._greetings: dict[Version, bytes] = {}
        self._door = Door(credentials, target)
        self._on_client = on_client
        self._sessions: set[Session] = set()
        self._clients = 0
        self._asking: list[Callable[[UpstreamFailure | None], None]] = []
        self._turned_away: Counter[str] = Counter()
        self._server_faults: Counter[str] = Counter()
        self._own_faults: Counter[str] = Counter()
        self._listener: Listener | None = None

    async def listen(self, sock: socket.socket) -> None:
        """Serve the clients of a listening socket that belongs to the caller."""
        host, port = sock.getsockname()[:2]
        self.address = f"{host}:{port}"
        # On Linux and the BSDs, accepted sockets inherit this from the listening one, which saves a call for each.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.listen(_BACKLOG)
        self._listener = Listener(sock, lambda: Session(self), lambda: self.turned_away("too many open files"))

    async def drain(self, limit: float) -> None:
        """Accept no more clients, let transactions end within ``limit`` seconds, then close the driver."""
        if self._listener:
            self._listener.close()
        await self.pool.drain(limit)

    @property
    def has_clients(self) -> bool:
        """Whether a client is connected."""
        return bool(self._sessions)

    def close_idle(self) -> None:
        """Close every connection that is not lent."""
        self.pool.close_idle()

    def obey(self, command: Command) -> None:
        """Carry out an operator's command."""
        {Command.RECONNECT: self.pool.reconnect, Command.PAUSE: self.pool.pause,
         Command.RESUME: self.pool.resume}[command]()

    def version_for(self, version: Version) -> Version | None:
        """Return the version that a client's connections must speak; None if no member speaks anything newer."""
        newest = self._known.newest
        return None if newest is None or newest <= version else version

    # Facts for the clients' machines

    @property
    def offers(self) -> tuple[Version, ...] | None:
        """The versions that clients are offered; None while the server's version is not known."""
        self._agree(self._known.oldest(time.monotonic()))
        return offers_of(self.server.version) if self.server else None

    @property
    def offers_unseen(self) -> tuple[Version, ...]:
        """The versions that are offered if the server cannot be reached, so that the client can be told about it."""
        return INTERCHANGEABLE

    @property
    def is_routed(self) -> bool:
        """Whether access mode, database and bookmarks decide which server a connection leads to."""
        return self.pool.upstream.is_routed

    @property
    def patches(self) -> frozenset[str]:
        """The additions to the server's Bolt 4.4, which a client must ask for as well."""
        return self.server.patches if self.server else frozenset()

    @property
    def recv_timeout(self) -> float | None:
        """How many seconds a client waits for a sign of life, if the server has told it."""
        timeout = self.server.hints.get("connection.recv_timeout_seconds") if self.server else None
        return timeout if isinstance(timeout, int | float) and timeout > 0 else None

    def greeting(self, version: Version) -> bytes | None:
        """Return the answer to HELLO without its last part, the connection's id; None if the server is not known."""
        if not self.server:
            return None
        if version not in self._greetings:
            self._greetings[version] = _greeting(self.server, version)
        return self._greetings[version]

    def judge(self, token: dict[str, Any]) -> Verdict:
        """Return the judgement on a client's credentials."""
        return self._door.judge(token, time.monotonic())

    # Clients

    def joined(self, session: Session) -> None:
        """Count a client."""
        self._sessions.add(session)
        self._clients += 1
        self._on_client()

    def left(self, session: Session) -> None:
        """Forget a client."""
        self._sessions.discard(session)

    def ask_server(self, then: Callable[[UpstreamFailure | None], None]) -> None:
        """Find out what the server speaks. ``then`` is called when ``server`` is set, or with the reason why it is not.

        However many clients ask at once, one connection is opened for all of them.
        """
        self._asking.append(then)
        if len(self._asking) == 1 and (connection := self.pool.lend(self, ANYWHERE)):
            self.granted(connection)

    def granted(self, connection: Connection) -> None:
        """Pool: here is the very first connection."""
        self.learn(connection)
        self.pool.give_back(connection)
        self._tell(None)

    def refused(self, failure: UpstreamFailure) -> None:
        """Pool: there is none."""
        self._tell(failure)

    async def know_server(self, seconds: float) -> None:
        """Wait until the server has said what it speaks, or cannot be reached; at most so many seconds."""
        if self._first_answer is None:
            answer = self._first_answer = asyncio.get_running_loop().create_future()
            self.ask_server(lambda _: answer.set_result(None))
        await asyncio.wait({self._first_answer}, timeout=seconds)

    def _tell(self, failure: UpstreamFailure | None) -> None:
        asking, self._asking = self._asking, []
        for then in asking:
            then(failure)

    def learn(self, connection: Connection) -> None:
        """Note what the server said about itself: clients are told the same."""
        now = time.monotonic()
        self._known.learn(connection.link.place.address, connection.server, now)
        self._agree(self._known.oldest(now))

    def _agree(self, server: Server | None) -> None:
        """Tell clients about this server from now on."""
        if server != self.server:
            self.server = server
            self._greetings.clear()

    def turned_away(self, why: str) -> None:
        """Count a client that was turned away, and log it once for each reason."""
        self._count(self._turned_away, why, "turned a client away")

    def server_at_fault(self, why: str) -> None:
        """Count what a server did wrong, and log it once for each reason."""
        self._count(self._server_faults, why, "a lease ended")

    def own_fault(self, error: Exception, client: Client) -> None:
        """Count a bug in a client's machine, and log it once for each kind of error."""
        kind = f"{type(error).__name__}: {error}"
        if kind not in self._own_faults:
            log.error("%s: an error of the relay itself ended a client, %r", self.name, client, exc_info=error)
        self._own_faults[kind] += 1

    def _count(self, reasons: "Counter[str]", why: str, what: str) -> None:
        if why not in reasons and len(reasons) >= _MOST_REASONS:
            why = "other reasons"
        if not reasons[why]:
            log.warning("%s: %s: %s", self.name, what, why)
        reasons[why] += 1

    @property
    def state(self) -> str:
        """The pool's state; "off" where tasks connect by themselves."""
        return OFF if self.unshared else str(self.pool.state)

    def measured(self) -> Measured:
        """Return what metrics show. The result does not change any more."""
        pool, counters = self.pool, self.pool.counters
        nothing = Histogram()
        totals = Totals(counters.leases, counters.timeouts, counters.errors,
                        self._own_faults.total() + counters.own_faults, self._server_faults.total(),
                        counters.create.plus(nothing), counters.wait.plus(nothing, counters.served_at_once),
                        counters.use.plus(nothing))
        return Measured(totals, Gauges(pool.idle, pool.in_use, pool.limits.max_size, pool.waiting, len(self._sessions),
                                       Counter([self.state])))

    def status(self) -> dict[str, Any]:
        """Return the status that inspection shows: gauges, and counters since the host's start. It holds no secret."""
        pool, counters = self.pool, self.pool.counters
        opened, is_open = pool.upstream.opened, pool.upstream.open
        return {
            "state": self.state, "address": self.address, "upstream": self.target.uri,
            "bolt": str(self.server.version) if self.server else None,
            "connections": {"open": is_open, "opened": opened, "closed": opened - is_open, "idle": pool.idle,
                            "in_use": pool.in_use, "max_size": pool.limits.max_size},
            "leases": counters.leases,
            "waits": {"now": pool.waiting, "total": counters.waits, "timed_out": counters.timeouts,
                      "seconds": round(counters.wait_seconds, 3), "longest_seconds": round(pool.longest_wait, 3)},
            "clients": {"now": len(self._sessions), "total": self._clients, "refused": self._turned_away.total()},
            "errors": counters.errors, "last_error": self.unshared or pool.last_error,
            "faults": {"own": self._own_faults.total() + counters.own_faults, "server": self._server_faults.total()},
        }


def _greeting(server: Server, version: Version) -> bytes:
    """Return the answer to HELLO without its last part, the connection's id."""
    hints = {key: value for key, value in server.hints.items() if key != "telemetry.enabled"
             and (key != "ssr.enabled" or version >= (5, 8))}
    fields: dict[str, Any] = {"server": server.agent, "hints": hints}
    if server.patches:
        fields["patch_bolt"] = sorted(server.patches)
    count = len(fields) + 1
    return bytes((0xB1, 0x70, 0xA0 | count)) + b"".join(
        pack(name) + pack(value) for name, value in fields.items()) + pack("connection_id")
