"""A driver behind an address: the relay of one slot, with its listening socket, clients and pool."""

import hmac
import logging
import socket
from asyncio import AbstractServer, get_running_loop
from collections import Counter
from collections.abc import Callable
from typing import Any

from worker_init.errors import UpstreamFailure
from worker_init.handshake import Version
from worker_init.pool import Limits, Pool
from worker_init.session import Session
from worker_init.targets import Credentials, Target
from worker_init.upstream import Connection, Route, Server, Timeouts, Upstream

log = logging.getLogger(__name__)
_BACKLOG = 4096
# Reasons hold what a client has sent, and each is a line in the log.
_MOST_REASONS = 100


class Relay:
    """One driver's clients and connections."""

    def __init__(self, name: str, target: Target, credentials: Credentials, *, limits: Limits,
                 connection_timeout: float, logon_timeout: float, on_client: Callable[[], None]) -> None:
        self.name = name
        self.logon_timeout = logon_timeout
        self.target = target
        self.server: Server | None = None
        # What clients of each version are told of this server.
        self.greetings: dict[Version, bytes] = {}
        self.address = ""
        self.pool = Pool(Upstream(target, Timeouts(connection_timeout, limits.acquisition_timeout)), limits, name)
        self._accepted = [(credentials.username, credentials.password), (target.username, target.password)]
        self._on_client = on_client
        self._sessions: set[Session] = set()
        self._clients = 0
        self._asking: list[Callable[[UpstreamFailure | None], None]] = []
        self._turned_away: Counter[str] = Counter()
        self._listener: AbstractServer | None = None

    async def listen(self, sock: socket.socket) -> None:
        """Serve clients of a listening socket that somebody else keeps."""
        host, port = sock.getsockname()[:2]
        self.address = f"{host}:{port}"
        # Accepted sockets take it over from the listening one: a fact of Linux and the BSDs, and a call less for each.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._listener = await get_running_loop().create_server(lambda: Session(self), sock=sock, backlog=_BACKLOG)

    async def drain(self, limit: float) -> None:
        """Take no more clients, let transactions end for so many seconds, close the driver."""
        if self._listener:
            self._listener.close()
        await self.pool.drain(limit)

    def is_known(self, token: dict[str, Any]) -> bool:
        """Whether these credentials are the relay's own, or those of the upstream identity."""
        if token.get("scheme") != "basic":
            return False
        given = f"{token.get('principal')}\0{token.get('credentials')}".encode()
        return any(hmac.compare_digest(given, f"{name}\0{password}".encode()) for name, password in self._accepted)

    def joined(self, session: Session) -> None:
        """Count a client."""
        self._sessions.add(session)
        self._clients += 1
        self._on_client()

    def left(self, session: Session) -> None:
        """Forget a client."""
        self._sessions.discard(session)

    def ask_server(self, then: Callable[[UpstreamFailure | None], None]) -> None:
        """Find out what the server speaks; ``then`` is told when ``server`` is set, or why it cannot be.

        However many clients ask at once, one connection is opened for all of them.
        """
        self._asking.append(then)
        if len(self._asking) == 1 and (connection := self.pool.lend(self, Route())):
            self.granted(connection)

    def granted(self, connection: Connection) -> None:
        """Pool: the first connection of all."""
        self.learn(connection)
        self.pool.give_back(connection)
        self._tell(None)

    def refused(self, failure: UpstreamFailure) -> None:
        """Pool: there is none."""
        self._tell(failure)

    def _tell(self, failure: UpstreamFailure | None) -> None:
        asking, self._asking = self._asking, []
        for then in asking:
            then(failure)

    def learn(self, connection: Connection) -> None:
        """Note what the server said of itself: it is what clients are told."""
        self.server = connection.server
        self.greetings.clear()

    def turned_away(self, why: str) -> None:
        """Count a client that was turned away, and say why once for each reason."""
        if why not in self._turned_away and len(self._turned_away) >= _MOST_REASONS:
            why = "other reasons"
        if not self._turned_away[why]:
            log.warning("%s: turned a client away: %s", self.name, why)
        self._turned_away[why] += 1

    def status(self) -> dict[str, Any]:
        """Return what inspection shows: gauges, counters since the host's start, no secret."""
        pool, counters = self.pool, self.pool.counters
        opened, is_open = pool.upstream.opened, pool.upstream.open
        return {
            "state": str(pool.state), "address": self.address, "upstream": self.target.uri,
            "bolt": str(self.server.version) if self.server else None,
            "connections": {"open": is_open, "opened": opened, "closed": opened - is_open, "in_use": pool.in_use,
                            "max_size": pool.limits.max_size},
            "leases": counters.leases,
            "waits": {"now": pool.waiting, "total": counters.waits, "timed_out": counters.timeouts,
                      "seconds": round(counters.wait_seconds, 3), "longest_seconds": round(pool.longest_wait, 3)},
            "clients": {"now": len(self._sessions), "total": self._clients, "refused": self._turned_away.total()},
            "errors": counters.errors, "last_error": pool.last_error,
        }
