"""One client of the relay: what it is answered at once, and what it gets a connection for.

The relay is a server to its clients: it negotiates the version, answers HELLO, LOGON, LOGOFF and
TELEMETRY itself, and leases an upstream connection for one transaction at a time. What belongs to
the transaction passes through as it came; only ROUTE's answer is rewritten, and only RUN and BEGIN
of a client with notification filters of its own get a field more.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, cast

from worker_init.bolt import Piece, Scanner, Tag, body_of, chunked, message
from worker_init.conversation import Conversation
from worker_init.errors import ProtocolViolation, UpstreamFailure
from worker_init.handshake import Negotiation, Version, offers_of
from worker_init.packstream import pack, skip, unpack_map, with_entries
from worker_init.pool import Pool
from worker_init.upstream import Connection, Route, Server

log = logging.getLogger(__name__)

# Who has not logged on may send this much.
_LARGEST_BEFORE_LOGON = 64 * 1024
# What a client may have sent ahead while it waits, before its socket is no longer read.
_READ_AHEAD = 1024 * 1024
# A message that the relay has to read whole: RUN and BEGIN, parameters included; the others hold bookmarks
# or credentials at most.
_LARGEST_HELD = 256 * 1024 * 1024
_LARGEST_OTHER = 1024 * 1024

_PASSED_ON = frozenset({Tag.RUN, Tag.BEGIN, Tag.COMMIT, Tag.ROLLBACK, Tag.PULL, Tag.DISCARD, Tag.RESET,
                        Tag.TELEMETRY})
_BEGINS_LEASE = _PASSED_ON - {Tag.RESET, Tag.TELEMETRY}
_OPENS_TRANSACTION = frozenset({Tag.RUN, Tag.BEGIN})
_SUCCESS = message(Tag.SUCCESS, {})
_IGNORED = message(Tag.IGNORED)
_UNAUTHORIZED = {
    "neo4j_code": "Neo.ClientError.Security.Unauthorized",
    "code": "Neo.ClientError.Security.Unauthorized",
    "message": "The client is unauthorized due to authentication failure.",
    "gql_status": "42NFF",
    "description": "error: syntax error or access rule violation - permission/access denied. "
                   "Access denied, see the security logs for details.",
    "diagnostic_record": {"_classification": "CLIENT_ERROR"},
}


class Front(Protocol):
    """What a session needs of the relay that it belongs to."""

    pool: Pool
    server: Server | None
    greetings: dict[Version, bytes]
    address: str
    logon_timeout: float

    def ask_server(self, then: Callable[[UpstreamFailure | None], None]) -> None:
        """Find out what the server speaks; ``then`` is told when ``server`` is set, or why it cannot be."""

    def is_known(self, token: dict[str, Any]) -> bool:
        """Whether these credentials are the relay's own, or those of the upstream identity."""

    def joined(self, session: "Session") -> None:
        """Count a client that has connected."""

    def left(self, session: "Session") -> None:
        """Forget a client that is gone."""

    def learn(self, connection: Connection) -> None:
        """Note what the server said of itself."""

    def turned_away(self, why: str) -> None:
        """Count a client that was turned away."""


class Session(asyncio.Protocol):
    """A client's connection, from its handshake to its end."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._pool = front.pool
        self._transport: asyncio.Transport
        self._negotiation: Negotiation | None = Negotiation()
        self._version = Version(0, 0)
        self._asks = self._said_hello = self._is_known = False
        self._filters: dict[str, Any] = {}
        self._scanner = Scanner()
        self._queue: deque[tuple[bytes, Piece]] = deque()
        self._queued = 0
        self._held = bytearray()
        # What goes upstream and to the client when all that is here has been handled: one write for each.
        self._out: list[bytes] = []
        self._said: list[bytes] = []
        self._connection: Connection | None = None
        self._conversation = Conversation()
        self._answers = Scanner(skip_records=True)
        self._answer = bytearray()
        self._route_answer: bytearray | None = None
        self._on_grant: Callable[[Connection], None] | None = None
        # Whether it is the head of the queue that waits, or a message that has left it.
        self._head_waits = False
        self._failure: UpstreamFailure | None = None
        self._has_failed = False
        self._client_is_full = self._upstream_is_full = self._is_paused = False
        self._timer: asyncio.TimerHandle | None = None

    # The client's side, called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: a client is here, and has a limited time to say who it is."""
        self._transport = cast("asyncio.Transport", transport)
        self._set_timer()
        self._front.joined(self)

    def data_received(self, data: bytes) -> None:
        """asyncio: the client sent something."""
        try:
            if self._negotiation:
                self._negotiate(self._negotiation, data)
            else:
                self._take(data)
        except ProtocolViolation as violation:
            self._turn_away(str(violation))

    def connection_lost(self, _: Exception | None) -> None:
        """asyncio: the client is gone, in whatever state it was."""
        self._cancel_timer()
        self._front.left(self)
        self._queue.clear()
        if self._on_grant:
            self._pool.abandon(self)
            self._on_grant = None
        if connection := self._detach():
            if self._conversation.pending:
                self._pool.discard(connection)
            else:
                self._pool.reset_and_give_back(connection)

    def pause_writing(self) -> None:
        """asyncio: the client does not read what it asked for; stop reading it from the server."""
        self._client_is_full = True
        if self._connection:
            self._connection.pause_reading()

    def resume_writing(self) -> None:
        """asyncio: the client reads again."""
        self._client_is_full = False
        if self._connection:
            self._connection.resume_reading()

    # The handshake

    def _negotiate(self, negotiation: Negotiation, data: bytes) -> None:
        negotiation.feed(data)
        if not negotiation.wants_offers:
            self._conclude(negotiation)
        elif self._front.server:
            self._offer(None)
        elif not self._asks:
            self._asks = True
            self._cancel_timer()
            self._front.ask_server(self._offer)

    def _offer(self, failure: UpstreamFailure | None) -> None:
        """Answer the proposals. A client of a server that cannot be had is told so after its HELLO."""
        if not self._negotiation or self._transport.is_closing():
            return
        self._failure = failure
        if self._asks:
            self._set_timer()
        server = self._front.server
        self._transport.write(self._negotiation.answer(offers_of(server.version if server else None)))
        self.data_received(b"")

    def _conclude(self, negotiation: Negotiation) -> None:
        if negotiation.refused:
            self._turn_away("a client speaks no version of Bolt that the upstream connection can serve")
        elif negotiation.version:
            self._negotiation, self._version = None, negotiation.version
            self._take(negotiation.rest)

    # What the client sends

    def _take(self, data: bytes) -> None:
        for piece in self._scanner.feed(data):
            self._queue.append((self._scanner.block, piece))
            self._queued += piece.stop - piece.start
        self._work()

    def _work(self) -> None:
        """Handle what is queued until something has to be waited for; one write to each side for all of it."""
        while self._queue and not (self._on_grant or self._transport.is_closing()):
            block, piece = self._queue.popleft()
            if not self._handle(block[piece.start:piece.stop], piece):
                self._queue.appendleft((block, piece))
                break
            self._queued -= piece.stop - piece.start
        self._flush()
        if self._out and self._connection:
            self._connection.write(self._out[0] if len(self._out) == 1 else b"".join(self._out))
            self._out.clear()
        if self._queued or self._is_paused or self._upstream_is_full:
            self._adjust_reading()

    def _flush(self) -> None:
        if self._said:
            self._transport.write(b"".join(self._said))
            self._said.clear()

    def _close(self) -> None:
        """Close behind what is still to be said."""
        self._flush()
        self._transport.close()

    def _handle(self, raw: bytes, piece: Piece) -> bool:
        """Handle a piece of a message; False: it has to wait, put it back."""
        if self._connection and piece.tag in _PASSED_ON:
            self._pass_on(raw, piece)
            return True
        if piece.tag in _BEGINS_LEASE and self._is_known and not self._has_failed and not self._must_read(piece.tag):
            return self._lease(raw, piece)
        if self._connection:
            return self._wait_for_end()
        return self._hold(raw, piece)

    def _pass_on(self, raw: bytes, piece: Piece) -> None:
        if piece.first:
            self._conversation.request(piece.tag)
        self._out.append(raw)

    def _wait_for_end(self) -> bool:
        """Keep a message that the relay answers itself until the lease's end."""
        if not self._conversation.pending:
            raise ProtocolViolation("the client began something else within a transaction")
        return False

    def _must_read(self, tag: int) -> bool:
        return tag in _OPENS_TRANSACTION and (bool(self._filters) or self._pool.upstream.is_routed)

    def _hold(self, raw: bytes, piece: Piece) -> bool:
        """Gather a message that the relay reads, and handle it once it is whole."""
        if not self._is_known:
            largest = _LARGEST_BEFORE_LOGON
        else:
            largest = _LARGEST_HELD if piece.tag in _OPENS_TRANSACTION else _LARGEST_OTHER
        if len(self._held) + len(raw) > largest:
            raise ProtocolViolation(f"a message of more than {largest} bytes")
        if not piece.last:
            self._held += raw
            return True
        whole = bytes(self._held) + raw
        self._held.clear()
        self._message(piece.tag, whole)
        return True

    def _message(self, tag: int, raw: bytes) -> None:
        if tag == Tag.GOODBYE:
            self._close()
        elif not self._is_known:
            self._introduce(tag, raw)
        elif tag == Tag.RESET:
            self._reset()
        elif self._has_failed:
            self._answer_failed()
        elif tag == Tag.LOGOFF:
            self._is_known = False
            self._said.append(_SUCCESS)
        elif tag == Tag.TELEMETRY:
            self._said.append(_SUCCESS)
        elif tag in _OPENS_TRANSACTION or tag == Tag.ROUTE:
            self._open(tag, raw)
        else:
            raise ProtocolViolation(f"message {tag:#x} has no place here")

    def _introduce(self, tag: int, raw: bytes) -> None:
        if tag == Tag.HELLO and not self._said_hello:
            self._hello(body_of(raw))
        elif tag == Tag.LOGON and self._said_hello:
            self._logon(unpack_map(body_of(raw), 2)[0])
        else:
            raise ProtocolViolation(f"message {tag:#x} came before HELLO and LOGON")

    def _hello(self, body: bytes) -> None:
        server = self._front.server
        if not server:
            self._said.append(_failure_message(self._failure or UpstreamFailure("", "")))
            self._close()
            return
        self._said_hello = True
        if b"notifications_" in body:
            self._filters = {key: value for key, value in unpack_map(body, 2)[0].items()
                             if key.startswith("notifications_")}
        else:
            skip(body, 2)
        greetings = self._front.greetings
        if self._version not in greetings:
            greetings[self._version] = _greeting(server, self._version)
        self._said.append(chunked(greetings[self._version] + pack(f"worker-{id(self):x}")))

    def _logon(self, token: dict[str, Any]) -> None:
        if self._front.is_known(token):
            self._is_known = True
            self._cancel_timer()
            self._said.append(_SUCCESS)
        else:
            self._front.turned_away("wrong credentials")
            self._said.append(message(Tag.FAILURE, _UNAUTHORIZED))
            self._close()

    def _reset(self) -> None:
        """After a failure of the relay's own there is nothing upstream to reset; else it is a check."""
        if self._has_failed:
            self._has_failed, self._failure = False, None
            self._said.append(_SUCCESS)
        else:
            self._borrow(Route(), self._checked, must_check=True)

    def _checked(self, connection: Connection) -> None:
        self._pool.give_back(connection)
        self._said.append(_SUCCESS)

    def _answer_failed(self) -> None:
        """Answer with the failure once, then with IGNORED until RESET."""
        failure, self._failure = self._failure, None
        self._said.append(_failure_message(failure) if failure else _IGNORED)

    # Leases

    def _lease(self, raw: bytes, piece: Piece) -> bool:
        """Begin a lease with the first piece of a message; False: the client waits for a connection."""
        self._head_waits = True
        if not self._borrow(Route(), self._attach):
            return False
        self._head_waits = False
        if self._connection:
            self._pass_on(raw, piece)
        return True

    def _open(self, tag: int, raw: bytes) -> None:
        """Begin a lease with a message whose fields decide where it goes, or that has to be changed."""
        route = Route(read_only=True)
        if tag != Tag.ROUTE:
            raw, route = self._prepared(tag, body_of(raw))

        def begin(connection: Connection) -> None:
            self._attach(connection)
            if self._connection:
                self._route_answer = bytearray() if tag == Tag.ROUTE else None
                self._pass_on(raw, Piece(tag, 0, len(raw), first=True, last=True))

        self._borrow(route, begin)

    def _prepared(self, tag: int, body: bytes) -> tuple[bytes, Route]:
        """Return the message with the client's own filters, and the route that its extras ask for."""
        at = skip(body, skip(body, 2)) if tag == Tag.RUN else 2
        extras, end = unpack_map(body, at)
        missing = {key: value for key, value in self._filters.items() if key not in extras}
        if missing:
            body = body[:at] + with_entries(body[at:end], missing) + body[end:]
        return chunked(body), _route_of(extras) if self._pool.upstream.is_routed else Route()

    def _borrow(self, route: Route, then: Callable[[Connection], None], *, must_check: bool = False) -> bool:
        self._on_grant = then
        connection = self._pool.lend(self, route, must_check=must_check)
        if connection:
            self._use(connection)
        return connection is not None

    def granted(self, connection: Connection) -> None:
        """Pool: what was waited for is here."""
        self._use(connection)
        self._work()

    def _use(self, connection: Connection) -> None:
        then, self._on_grant, self._head_waits = self._on_grant, None, False
        if then:
            then(connection)

    def refused(self, failure: UpstreamFailure) -> None:
        """Pool: there is none. The client gets the failure as the answer to what it asked for."""
        self._on_grant = None
        head_waits, self._head_waits = self._head_waits, False
        self._failure, self._has_failed = failure, True
        if not head_waits:
            self._answer_failed()
        self._work()

    def _attach(self, connection: Connection) -> None:
        if connection.server != self._front.server and not self._is_served_by(connection):
            return
        self._connection = connection
        self._pool.counters.leases += 1
        connection.user = self
        if self._client_is_full:
            connection.pause_reading()

    def _is_served_by(self, connection: Connection) -> bool:
        """Whether this connection, which is not like the last one, speaks the client's version as well."""
        self._front.learn(connection)
        if self._version in offers_of(connection.server.version):
            return True
        self._pool.give_back(connection)
        self._turn_away(f"the server now speaks Bolt {connection.server.version}, a client {self._version}")
        return False

    def _detach(self) -> Connection | None:
        """Let go of the connection. Only a client that goes as well does so before the transaction's end."""
        connection, self._connection = self._connection, None
        self._upstream_is_full = False
        self._route_answer = None
        if connection:
            connection.user = None
            if self._client_is_full:
                connection.resume_reading()
        return connection

    # The server's side, called by the connection

    def upstream_data(self, block: bytes) -> None:
        """Pass on what the server sent, and end the lease with the transaction."""
        try:
            for piece in self._answers.feed(block):
                self._summary(piece)
        except ProtocolViolation as violation:
            log.error("%s: the server sent what is not Bolt: %s", self._front.address, violation)
            self._transport.abort()
            return
        if self._route_answer is None:
            self._transport.write(block)
        elif not self._conversation.pending:
            self._transport.write(bytes(self._route_answer))
        if self._conversation.is_over and self._answers.between_messages:
            self._end_lease()

    def _summary(self, piece: Piece) -> None:
        raw = self._answers.block[piece.start:piece.stop]
        if not (piece.first and piece.last):
            self._answer += raw
            if not piece.last:
                return
            raw = bytes(self._answer)
            self._answer.clear()
        body = body_of(raw)
        request = self._conversation.summary(piece.tag, body)
        if piece.tag == Tag.FAILURE and self._connection:
            failure = unpack_map(body, 2)[0]
            self._pool.failed(str(failure.get("neo4j_code") or failure.get("code") or ""), self._connection)
        if request == Tag.ROUTE and self._route_answer is not None:
            self._route_answer += _routed_to(self._front.address, body) if piece.tag == Tag.SUCCESS else raw

    def _end_lease(self) -> None:
        connection = self._detach()
        if connection:
            self._pool.give_back(connection)
        if self._queue or self._is_paused:
            self._work()

    def upstream_lost(self) -> None:
        """Break the client's connection as well: that is what it would see without a relay."""
        connection = self._detach()
        if connection:
            self._pool.discard(connection)
        self._transport.close()

    def upstream_full(self, *, full: bool) -> None:
        """Stop reading from a client that sends faster than the server takes it."""
        self._upstream_is_full = full
        self._adjust_reading()

    # Inside

    def _adjust_reading(self) -> None:
        """Read a waiting client a little ahead, so that its end is seen while it waits."""
        must_wait = self._upstream_is_full or self._queued > _READ_AHEAD
        if must_wait != self._is_paused:
            self._is_paused = must_wait
            (self._transport.pause_reading if must_wait else self._transport.resume_reading)()

    def _set_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._front.logon_timeout, self._too_late)

    def _cancel_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _too_late(self) -> None:
        self._turn_away(f"a client did not log on within {self._front.logon_timeout:g} s")

    def _turn_away(self, why: str) -> None:
        self._front.turned_away(why)
        self._queue.clear()
        self._close()


def _route_of(extras: dict[str, Any]) -> Route:
    bookmarks = extras.get("bookmarks")
    return Route(extras.get("mode") == "r", extras.get("db"), tuple(bookmarks) if isinstance(bookmarks, list) else (),
                 extras.get("imp_user"))


def _greeting(server: Server, version: Version) -> bytes:
    """Return the answer to HELLO, all but the connection's id, which comes last."""
    hints = {key: value for key, value in server.hints.items() if key != "telemetry.enabled"
             and (key != "ssr.enabled" or version >= (5, 8))}
    return b"\xb1\x70\xa3" + b"".join(map(pack, ("server", server.agent, "hints", hints, "connection_id")))


def _failure_message(failure: UpstreamFailure) -> bytes:
    """Return a FAILURE for every version of Bolt: before 5.7 the code had another key."""
    return message(Tag.FAILURE, {
        "neo4j_code": failure.code, "code": failure.code, "message": failure.message,
        "gql_status": failure.gql_status, "description": failure.description,
        "diagnostic_record": failure.diagnostic_record})


def _routed_to(address: str, body: bytes) -> bytes:
    """Return ROUTE's answer with the relay in every role: else a client would walk past it."""
    table = unpack_map(body, 2)[0].get("rt") or {}
    servers = [{"addresses": [address], "role": role} for role in ("ROUTE", "READ", "WRITE")]
    return message(Tag.SUCCESS, {"rt": table | {"servers": servers}})
