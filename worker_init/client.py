"""One client of the relay as a state machine: bytes and events in, actions out. No sockets, no clock, no event loop.

The table (:mod:`worker_init.client_table`) says what happens in which state. This module says how: each member of
``Do`` is a method with the same name in lower case. To its clients, the relay is a server: it agrees on the version,
answers HELLO, LOGON, LOGOFF and TELEMETRY itself, and has an upstream connection for one transaction at a time. The
messages of the transaction pass through as they came. There are two exceptions: the answer to ROUTE is changed, and if
a client has notification filters of its own, its RUN and BEGIN get one more field.

The relay looks at a message twice: when it arrives (is it Bolt, is it too large) and when its turn has come. Both
concern this one client alone: an error in what it sent is found here, and ends here.
"""

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, NamedTuple, Protocol

from worker_init.actions import (
    Abandon,
    Abort,
    Action,
    AskServer,
    Began,
    Borrow,
    Close,
    ComeBack,
    Discard,
    Failed,
    GiveBack,
    PauseClient,
    PauseServer,
    Report,
    ResetAndGiveBack,
    ResumeClient,
    ResumeServer,
    StartTimer,
    StopTimer,
    Timer,
    ToClient,
    ToServer,
    TurnAway,
    Wake,
)
from worker_init.bolt import Scanner, Tag, body_of, chunked, message
from worker_init.bounds import (
    LARGEST_BEFORE_LOGON,
    LARGEST_SUMMARY,
    LINGER_SECONDS,
    MOST_MESSAGES,
    SLICE,
    STALL_SECONDS,
    UNREAD_SECONDS,
    WRITTEN_AT_ONCE,
)
from worker_init.client_table import TABLE, Do, Event, State, unforeseen
from worker_init.errors import ProtocolViolation, ServerFault, UpstreamFailure
from worker_init.handshake import LOGON, Negotiation, Version
from worker_init.inbox import NOTHING, Inbox, Item
from worker_init.packstream import pack, unpack_map
from worker_init.query import QueryReader
from worker_init.routing import Route
from worker_init.server_state import ServerMachine
from worker_init.spool import Spool

_SUCCESS = message(Tag.SUCCESS, {})
_IGNORED = message(Tag.IGNORED)
_NOOP = b"\x00\x00"
_FAILURE = int(Tag.FAILURE)
_RUN = int(Tag.RUN)
_BEGAN, _GIVE_BACK, _COME_BACK = Began(), GiveBack(), ComeBack()
_ANY_CONNECTION = Borrow(Route(), must_check=False)

# Whether the client is in an explicit transaction after one of these messages.
_TRANSACTION_AFTER = {int(Tag.BEGIN): True, int(Tag.COMMIT): False, int(Tag.ROLLBACK): False, int(Tag.RESET): False}
_WAITING = frozenset((State.WAITING, State.WAITING_TO_ROUTE, State.CHECKING))
_LEASED = frozenset((State.ANSWERING, State.ROUTING, State.LEASED))
# Looking up a member of an enumeration is slower than an ordinary attribute access.
_CHOOSING, _ROUTING, _IS_LEASED, _CLOSING = State.CHOOSING, State.ROUTING, State.LEASED, State.CLOSING
_QUERY, _GRANTED, _ANSWERED, _OVER = Event.QUERY, Event.GRANTED, Event.ANSWERED, Event.OVER


class Verdict(NamedTuple):
    """The judgement on a client's credentials: None, or the failure that it is told after ``delay`` seconds.

    ``why`` is the reason under which the refusal is counted.
    """

    failure: UpstreamFailure | None
    delay: float = 0.0
    why: str = "wrong credentials"


class Facts(Protocol):
    """What a client's machine must know about its relay. Nothing here has side effects."""

    address: str
    logon_timeout: float
    spool: "Spool[Client]"

    @property
    def offers(self) -> tuple[Version, ...] | None:
        """The versions that clients are offered; None while the server's version is not known."""

    @property
    def offers_unseen(self) -> tuple[Version, ...]:
        """The versions that are offered if the server cannot be reached, so that the client can be told about it."""

    @property
    def is_routed(self) -> bool:
        """Whether access mode, database and bookmarks decide which server a connection leads to."""

    @property
    def patches(self) -> frozenset[str]:
        """The additions to the server's Bolt 4.4, which a client must ask for as well."""

    @property
    def recv_timeout(self) -> float | None:
        """How many seconds a client waits for a sign of life, if the server has told it."""

    def greeting(self, version: Version) -> bytes | None:
        """Return the answer to HELLO without its last part, the connection's id; None if the server is not known."""

    def judge(self, token: dict[str, Any]) -> Verdict:
        """Return the judgement on these credentials."""


class Sink(Enum):
    """Where the rest of a message goes once its first piece has been handled."""

    NOWHERE = auto()
    SERVER = auto()
    READER = auto()


class Client:
    """A client, from its handshake to its end. The actions to carry out are in ``actions``, oldest first."""

    __slots__ = (
        "_answer", "_answers", "_before_logon", "_client_is_full", "_comes_back", "_failure", "_filters",
        "_flow_is_held", "_head_waits", "_in_transaction", "_inbox", "_is_deaf", "_is_in", "_is_sending", "_last",
        "_moved", "_name", "_negotiation", "_parts", "_raw", "_reader", "_reads", "_route_answer", "_route_message",
        "_said", "_server", "_server_is_full", "_server_is_paused", "_sink", "_spent", "_stall_watched", "_tag",
        "_to_server", "_wanted", "_why", "actions", "facts", "is_paused", "state", "version", "wake")

    def __init__(self, facts: Facts, name: str) -> None:
        self.facts = facts
        self.state = State.OPENING
        self.actions: list[Action] = [StartTimer(Timer.LOGON, facts.logon_timeout)]
        self.is_paused = False
        # The shell calls this when there is room in the spool again: see Wake.
        self.wake: Callable[[], None] = nothing
        self._name = name
        self._negotiation: Negotiation | None = Negotiation()
        # The version of Bolt that was agreed; (0, 0) before that.
        self.version = Version(0, 0)
        self._filters: dict[str, Any] = {}
        # Whether RUN and BEGIN must be read.
        self._reads = False
        self._is_in = False
        self._before_logon = 0
        # The client's messages, the one that is being handled, and where the rest of it goes.
        self._inbox = Inbox()
        _, self._tag, self._raw, _, self._last = NOTHING
        self._sink = Sink.NOWHERE
        # Whether the message for which a connection is awaited is at the head of the queue.
        self._head_waits = False
        # A query that must be read, and the parts of it that must still be sent.
        self._reader: QueryReader | None = None
        self._parts: deque[bytes | memoryview] = deque()
        # Goes out once everything received has been handled: one write for each side.
        self._to_server: list[bytes | memoryview] = []
        self._said: list[bytes] = []
        # The lease. If it ends and the client stays, both are again as they were at its start.
        self._server = ServerMachine()
        self._answers = Scanner(skip_records=True)
        self._answer = bytearray()
        self._in_transaction = self._is_sending = False
        self._route_message = b""
        self._route_answer = bytearray()
        self._wanted = _ANY_CONNECTION
        self._failure: UpstreamFailure | None = None
        self._why = ""
        # Flow.
        self._client_is_full = self._server_is_full = self._server_is_paused = self._flow_is_held = False
        self._comes_back = self._stall_watched = self._moved = self._is_deaf = False
        self._spent = 0

    def __repr__(self) -> str:
        return f"<Client {self._name} {self.state.name}: {self.queued} messages and {self.held} bytes held>"

    @property
    def queued(self) -> int:
        """Return how many messages, or pieces of messages, wait for their turn."""
        return len(self._inbox.queue)

    @property
    def held(self) -> int:
        """Return how many bytes from the client are held."""
        return self._inbox.held + self.facts.spool.size_of(self)

    # What happens

    def client_sent(self, data: bytes) -> None:
        """Handle bytes that came from the client."""
        if self.state >= _CLOSING or self._is_deaf:
            return
        self._moved = True
        try:
            if self.state <= _CHOOSING:
                self._negotiate(data)
            else:
                self._take(data)
            if not self._is_in:
                self._count(len(data))
        except ProtocolViolation as violation:
            self._violate(str(violation))
        self._settle()

    def client_ended(self) -> None:
        """Note that the client is gone: from now on, nothing that it sent has an effect."""
        self._fire(Event.ENDED)
        self._forget()

    def client_full(self, *, full: bool) -> None:
        """Hold back while the client does not read what it is sent."""
        self._client_is_full = full
        if self.state >= State.CLOSING:
            return
        self.actions.append(StartTimer(Timer.UNREAD, UNREAD_SECONDS) if full else StopTimer(Timer.UNREAD))
        if not full and self.state not in _LEASED:
            self._come_back()
        self._settle()

    def waits(self) -> None:
        """Note that the requested connection is not available at once."""
        if self._is_kept_waiting and (timeout := self.facts.recv_timeout):
            self.actions.append(StartTimer(Timer.NOOP, timeout / 2))

    @property
    def _is_kept_waiting(self) -> bool:
        """Whether the client waits for an answer that only the relay delays.

        This is also true while the server has not yet taken all of a query that the relay held. Without a relay the
        client would still be sending that query, and no driver limits how long that takes.
        """
        return self.state in _WAITING or (bool(self._parts) and self._answers.between_messages)

    def granted(self, version: Version) -> None:
        """Note that the pool lends a connection that speaks this version of Bolt."""
        if version == self.version:
            self._fire(_GRANTED)
            try:
                self._advance()
            except ProtocolViolation as violation:
                self._violate(str(violation))
        elif version > self.version:
            self._fire(Event.NEWER)
        else:
            self._why = f"the server now speaks Bolt {version}, a client {self.version}"
            self._fire(Event.UNFIT)
        self._settle()

    def refused(self, failure: UpstreamFailure) -> None:
        """Note that the pool has no connection."""
        self._failure = failure
        self._fire(Event.FAILED)
        self._come_back()
        self._settle()

    def server_known(self, failure: UpstreamFailure | None) -> None:
        """Note that the server's versions are known and in the facts, or why they are not."""
        if self.state is not State.ASKING:
            return
        self._failure = failure
        self.actions.append(StartTimer(Timer.LOGON, self.facts.logon_timeout))
        try:
            self._offer(self.facts.offers or self.facts.offers_unseen)
        except ProtocolViolation as violation:
            self._violate(str(violation))
        self._settle()

    def server_sent(self, block: bytes) -> None:
        """Handle bytes that came from the server: pass them on, and end the lease when the transaction ends."""
        try:
            self._follow_answers(block)
        except (ServerFault, ProtocolViolation) as fault:
            self.actions.append(Report(f"a server sent what is not Bolt: {fault}"))
            self._fire(Event.SERVER_FAULT)
            return self._settle()
        if self.state is not _ROUTING:
            self.actions.append(ToClient(block))
        if not self._server.pending and self.state is not _IS_LEASED and self._answers.between_messages:
            if self._is_sending or self._parts:
                return self._answered_too_soon()
            self._fire(_OVER if self._server.is_over else _ANSWERED)
            if self._inbox.queue or self._inbox.unscanned:
                # Never called from the stack of a connection that others may have by now.
                self._come_back()
        if self.is_paused or self._said or self._client_is_full:
            self._settle()
        return None

    def _answered_too_soon(self) -> None:
        """End the lease of a message that was answered before it was complete: nobody else may get its rest."""
        self.actions.append(Report("a server answered a message before it was whole"))
        self._fire(Event.SERVER_LOST)
        self._settle()

    def server_lost(self) -> None:
        """Note that the connection is lost. The client's ends too: without a relay the client would see the same."""
        self._fire(Event.SERVER_LOST)
        self._settle()

    def server_full(self, *, full: bool) -> None:
        """Hold back while the server does not take what it is sent."""
        self._server_is_full = full
        if not full and self._parts:
            self._come_back()
        self._settle()

    def timer_ended(self, timer: Timer) -> None:
        """Note that a timer has run out."""
        if self.state is State.CLOSED or (self.state is State.CLOSING and timer is not Timer.LINGER):
            return
        if timer is Timer.LOGON:
            self._why = f"a client did not log on within {self.facts.logon_timeout:g} s"
            self._fire(Event.LATE)
        elif timer is Timer.PENALTY:
            self._fire(Event.DELAY_OVER)
        elif timer is Timer.NOOP:
            self._say_noop()
        elif timer is Timer.STALL:
            self._look_for_progress()
        elif timer is Timer.UNREAD:
            self._overdue(f"a client did not read for {UNREAD_SECONDS:g} s")
        else:
            self._fire(Event.LINGERED)
        self._settle()

    def go_on(self) -> None:
        """Go on with work that was left for later."""
        self._comes_back = False
        self._spent = 0
        if self.state >= State.CLOSING:
            return
        try:
            self._read_on()
            self._send_parts()
            self._advance()
        except ProtocolViolation as violation:
            self._violate(str(violation))
        self._settle()

    def broken(self) -> None:
        """End after an error of this package: release everything, and end the client."""
        self._fire(Event.BROKEN)
        self._forget()

    # The table

    def _fire(self, event: Event) -> None:
        """Do what the table says for this event in this state."""
        row = _COMPILED[self.state][event]
        if row is None:
            raise unforeseen(self.state, event)
        self.state = row[1]
        for do in row[0]:
            do(self)

    def _violate(self, why: str) -> None:
        """Note a protocol violation: it becomes the client's last message, and has its turn like the others.

        If an earlier message turns out to be wrong when its turn comes, that one is the last.
        """
        if self.state >= State.CLOSING:
            return
        if self._is_deaf:
            self._inbox.clear()
        self._is_deaf = True
        self._why = why
        self._inbox.end()
        try:
            self._work()
        except ProtocolViolation as earlier:
            self._violate(str(earlier))

    def _overdue(self, why: str) -> None:
        if self.state < State.CLOSING:
            self._why = why
            self._fire(Event.OVERDUE)

    # Agreeing on a version

    def _count(self, size: int) -> None:
        """Count the bytes that a client sends before it has logged on, including NOOPs.

        The block that completes the logon is not counted.
        """
        self._before_logon += size
        if self._before_logon > LARGEST_BEFORE_LOGON:
            raise ProtocolViolation(f"more than {LARGEST_BEFORE_LOGON} bytes before LOGON")

    def _negotiate(self, data: bytes) -> None:
        negotiation = self._negotiation
        assert negotiation  # noqa: S101 - there is one until AGREED, and this is called no longer then
        negotiation.feed(data)
        if self.state is State.CHOOSING:
            self._conclude(negotiation)
        elif self.state is State.OPENING and negotiation.wants_offers:
            offers = self.facts.offers
            if offers is None:
                self._fire(Event.PROPOSED)
            else:
                self._offer(offers)

    def _offer(self, offers: tuple[Version, ...]) -> None:
        negotiation = self._negotiation
        assert negotiation  # noqa: S101 - as above
        self._said.append(negotiation.answer(offers))
        if not (negotiation.version or negotiation.refused):
            self._fire(Event.OFFERED)
        self._conclude(negotiation)

    def _conclude(self, negotiation: Negotiation) -> None:
        if negotiation.refused:
            self._why = "a client speaks no version of Bolt that the upstream connection can serve"
            self._fire(Event.DISAGREED)
        elif negotiation.version:
            self._fire(Event.AGREED)

    def _ask(self) -> None:
        self.actions += (StopTimer(Timer.LOGON), AskServer())

    def _agree(self) -> None:
        negotiation, self._negotiation = self._negotiation, None
        if negotiation and negotiation.version:
            self.version = negotiation.version
            self._take(negotiation.rest)

    # What the client sends, when it arrives

    def _take(self, data: bytes) -> None:
        """Scan what has arrived, in slices, so that others get their turn in between."""
        inbox = self._inbox
        if inbox.unscanned or len(data) > SLICE:
            inbox.slice(data)
            self._advance()
        else:
            inbox.scan(data)
            self._work()
        if inbox.between_messages is self._stall_watched:
            self._watch_for_stalls(on=not self._stall_watched)

    def _watch_for_stalls(self, *, on: bool) -> None:
        self._stall_watched = on
        self.actions.append(StartTimer(Timer.STALL, STALL_SECONDS) if on else StopTimer(Timer.STALL))

    # … and when its turn has come

    def _advance(self) -> None:
        """Handle what has arrived, until the client must wait or others have waited long enough."""
        self._work()
        inbox = self._inbox
        while inbox.unscanned and not (inbox.queue or self._has_to_wait):
            if self._spent >= MOST_MESSAGES:
                return self._come_back()
            inbox.scan(inbox.unscanned.popleft())
            self._work()
        return None

    @property
    def _has_to_wait(self) -> bool:
        """Whether nothing can be done for the client until one side has read what is waiting for it."""
        return bool(self._parts) or (self._client_is_full and self.state not in _LEASED)

    def _work(self) -> None:
        """Handle the queue until the client must wait."""
        queue = self._inbox.queue
        while queue:
            if self._parts or (self._client_is_full and self.state not in _LEASED):
                return None
            if self._spent >= MOST_MESSAGES:
                return self._come_back()
            if not self._handle(queue[0]):
                return None
        return None

    def _handle(self, item: Item) -> bool:
        """Handle a message, or a piece of one; return False if it must wait."""
        event, tag, raw, first, last = item
        self._tag, self._raw, self._last = tag, raw, last
        if not first:
            self._inbox.take()
            self._continue()
            return True
        if self._reads and event is _QUERY and not (self._in_transaction and tag == _RUN):
            # Within a transaction, a RUN goes to the server that BEGIN went to.
            event = Event.READ_QUERY
        row = _COMPILED[self.state][event]
        if row is None:
            raise unforeseen(self.state, event)
        do, self.state, is_held = row
        if not is_held:
            self._inbox.take()
            self._spent += 1
        for each in do:
            each(self)
        return not is_held

    def _continue(self) -> None:
        """Handle a further piece of a message."""
        if self._sink is Sink.SERVER:
            self._to_server.append(self._raw)
            self._is_sending = not self._last
        elif self._sink is Sink.READER:
            self._feed_reader()

    def _hold(self) -> None:
        """Leave the message where it is. Nothing calls this: ``_handle`` does not take the message out."""

    def _pass(self) -> None:
        tag = self._tag
        self._server.pending.append(tag)
        self._to_server.append(self._raw)
        if tag in _TRANSACTION_AFTER:
            self._in_transaction = _TRANSACTION_AFTER[tag]
        if not self._last:
            self._sink = Sink.SERVER
            self._is_sending = True

    def _read_query(self) -> None:
        self._reader = QueryReader(self._tag, self._filters)
        self._sink = Sink.READER
        self._feed_reader()

    def _feed_reader(self) -> None:
        reader = self._reader
        if reader:
            before = reader.size
            try:
                reader.feed(self._raw, last=self._last)
            except ProtocolViolation as violation:
                self._why = str(violation)
                return self._fire(Event.EXCESS)
            self.facts.spool.add(self, reader.size - before)
            if not self._comes_back:
                self._read_on()
        return None

    def _read_on(self) -> None:
        """Read a part of a query, and leave the rest for later."""
        reader = self._reader
        if not reader or self.state is not State.READING:
            return
        if reader.go_on():
            self._come_back()
        if reader.is_read:
            self._fire(Event.READ)

    # Answering

    def _say_success(self) -> None:
        self._said.append(_SUCCESS)

    def _say_welcome(self) -> None:
        """Answer LOGON. From Bolt 5.8 on, a server gives the address at which others are to reach it."""
        address = {"advertised_address": self.facts.address} if self.version >= (5, 8) else {}
        self._said.append(message(Tag.SUCCESS, address))

    def _say_ignored(self) -> None:
        self._sink = Sink.NOWHERE
        self._said.append(_IGNORED)

    def _say_failure(self) -> None:
        """Answer the message that waits for a connection with the reason why there is none."""
        self._said.append(failure_message(self._failure or UpstreamFailure("", ""), self.version))
        self._failure = None
        self._route_message = b""
        self._end_reading()
        if self._head_waits:
            # The answers that follow are discarded.
            self._head_waits = False
            self._inbox.take()
            self._sink = Sink.NOWHERE

    def _say_noop(self) -> None:
        if self._is_kept_waiting:
            self._said.append(_NOOP)
            self.waits()

    def _say_unauthorized(self) -> None:
        self._said.append(failure_message(self._failure or UpstreamFailure("", ""), self.version))

    def _say_route(self) -> None:
        self._said.append(bytes(self._route_answer))
        self._route_answer.clear()

    def _greet(self) -> None:
        """Read HELLO: the client's notification filters and, before Bolt 5.1, its credentials."""
        if self.facts.greeting(self.version) is None:
            return self._fire(Event.UNSERVED)
        body = body_of(self._raw)
        if self.version < LOGON:
            return self._check_credentials()
        self._filters = {key: value for key, value in unpack_map(body, 2)[0].items()
                         if key.startswith("notifications_")}
        return self._fire(Event.GREETED)

    def _say_hello(self) -> None:
        """Answer HELLO with what the server said about itself."""
        self._said.append(chunked((self.facts.greeting(self.version) or b"") + pack(self._name)))

    def _check_credentials(self) -> None:
        token = unpack_map(body_of(self._raw), 2)[0]
        asked = token.get("patch_bolt")
        if missing := [patch for patch in self.facts.patches if not (isinstance(asked, list) and patch in asked)]:
            raise ProtocolViolation(f"a client of Bolt {self.version} does not ask for {', '.join(missing)}")
        verdict = self.facts.judge(token)
        if verdict.failure is None:
            return self._fire(Event.RIGHT)
        self._failure = verdict.failure
        self.actions.append(TurnAway(verdict.why))
        self._fire(Event.WRONG)
        self.actions.append(StartTimer(Timer.PENALTY, verdict.delay))
        return None

    def _enter(self) -> None:
        self._is_in = True
        self._reads = bool(self._filters) or self.facts.is_routed
        self.actions.append(StopTimer(Timer.LOGON))

    def _log_off(self) -> None:
        self._is_in = False
        self._before_logon = 0
        self.actions.append(StartTimer(Timer.LOGON, self.facts.logon_timeout))

    def _delay(self) -> None:
        self.actions.append(StopTimer(Timer.LOGON))

    def _turn_away(self) -> None:
        self.actions.append(TurnAway(self._why))
        self._close()

    def _out_of_place(self) -> None:
        self._why = f"message {Tag(self._tag).name} has no place there"
        self._said.append(failure_message(UpstreamFailure(
            "Neo.ClientError.Request.Invalid", f"Message {Tag(self._tag).name} has no place here.",
            gql_status="08N06", description=(
                "error: connection exception - protocol error. General network protocol error.")), self.version))
        self._turn_away()

    # The connection

    def _borrow(self) -> None:
        self._head_waits = not self._reader
        self._wanted = Borrow(self._reader.route, must_check=False) if self._reader else _ANY_CONNECTION
        self.actions.append(self._wanted)

    def _borrow_to_route(self) -> None:
        self._route_message = self._raw
        self._wanted = Borrow(Route(read_only=True), must_check=False)
        self.actions.append(self._wanted)

    def _borrow_checked(self) -> None:
        self._wanted = Borrow(Route(), must_check=True)
        self.actions.append(self._wanted)

    def _borrow_again(self) -> None:
        self.actions.append(self._wanted)

    def _begin(self) -> None:
        """Take the connection, with the query that was read for it."""
        self._head_waits = False
        self.actions.append(_BEGAN)
        if self._reader:
            self._server.request(self._reader.tag)
            self._in_transaction = self._reader.tag == Tag.BEGIN
            self._parts = self._reader.take_parts()
            self._reader = None
            self._send_parts()
            self.waits()

    def _send_parts(self) -> None:
        """Send some of a query that was read; the rest once the server has taken it and others have had their turn."""
        if not self._parts or self._server_is_full:
            return
        size = 0
        while self._parts and size < WRITTEN_AT_ONCE:
            part = self._parts.popleft()
            size += len(part)
            self._to_server.append(part)
        if self._parts:
            self._come_back()
        else:
            self._release()

    def _send_route(self) -> None:
        self._server.request(Tag.ROUTE)
        self._to_server.append(self._route_message)
        self._route_message = b""

    def _abandon(self) -> None:
        self.actions.append(Abandon())

    def _give_back(self) -> None:
        self._let_go()
        self.actions.append(_GIVE_BACK)

    def _reset_and_give_back(self) -> None:
        self._let_go()
        self.actions.append(ResetAndGiveBack())

    def _discard(self) -> None:
        self._to_server.clear()
        self._let_go()
        self.actions.append(Discard())

    def _let_go(self) -> None:
        """Return the connection to its normal state: it is read from, and holds nothing of this client's."""
        if self._said or self._to_server:
            self._flush()
        self._in_transaction = False
        self._server_is_full = False
        if self._server_is_paused:
            self._server_is_paused = False
            self.actions.append(ResumeServer())

    def _close(self) -> None:
        self._flush()
        self.actions += (Close(), StartTimer(Timer.LINGER, LINGER_SECONDS))
        self._forget()

    def _abort(self) -> None:
        self.actions.append(Abort())
        self._forget()

    # What the server sends

    def _follow_answers(self, block: bytes) -> None:
        answers = self._answers
        for tag, start, stop, first, last in answers.feed(block):
            raw = answers.block[start:stop]
            if first and last:
                self._summary(tag, raw)
            elif whole := self._gather_answer(raw, last=last):
                self._summary(tag, whole)

    def _summary(self, tag: int, raw: bytes) -> None:
        """Follow an answer: which request it ends, and whether the pool must know of it."""
        request = self._server.answer(tag, raw)
        if tag == _FAILURE:
            failure = unpack_map(body_of(raw), 2)[0]
            self.actions.append(Failed(str(failure.get("neo4j_code") or failure.get("code") or "")))
        if self.state is _ROUTING:
            is_table = request == Tag.ROUTE and tag == Tag.SUCCESS
            self._route_answer += _routed_to(self.facts.address, body_of(raw)) if is_table else raw

    def _gather_answer(self, raw: bytes, *, last: bool) -> bytes | None:
        """Return an answer that came in pieces, once it is complete; None before."""
        self._answer += raw
        if len(self._answer) > LARGEST_SUMMARY:
            raise ServerFault(f"an answer of more than {LARGEST_SUMMARY} bytes")
        if not last:
            return None
        whole = bytes(self._answer)
        self._answer.clear()
        return whole

    # Flow

    def _come_back(self) -> None:
        if not self._comes_back and self.state < State.CLOSING:
            self._comes_back = True
            self.actions.append(_COME_BACK)

    def _settle(self) -> None:
        """Write what has been gathered, one write for each side, and read as much as there is room for."""
        self._spent = 0
        if self._said or self._to_server:
            self._flush()
        inbox = self._inbox
        if (self._flow_is_held or self._client_is_full or self._server_is_full or self._reader or self._parts
                or self._is_deaf or ((inbox.queue or inbox.unscanned) and inbox.is_full)):
            self._adjust_flow()

    def _adjust_flow(self) -> None:
        if self.state >= State.CLOSING:
            return
        must_pause = self._client_is_full and self.state in _LEASED
        if must_pause != self._server_is_paused:
            self._server_is_paused = must_pause
            self.actions.append(PauseServer() if must_pause else ResumeServer())
        must_pause = (
            self._server_is_full or self._is_deaf or self._inbox.is_full or self._has_to_wait
            or (self._reader is not None and self.facts.spool.holds_back(self)))
        if must_pause != self.is_paused:
            self.is_paused = must_pause
            self.actions.append(PauseClient() if must_pause else ResumeClient())
        self._flow_is_held = self.is_paused or self._server_is_paused or bool(self._parts)

    def _flush(self) -> None:
        if self._said:
            self.actions.append(ToClient(b"".join(self._said)))
            self._said.clear()
        if parts := self._to_server:
            self.actions.append(ToServer(bytes(parts[0]) if len(parts) == 1 else b"".join(parts)))
            parts.clear()

    def _look_for_progress(self) -> None:
        """End a client that stopped within a message, unless the relay itself was not reading."""
        if self._is_deaf:
            return
        if not (self._moved or self.is_paused):
            self._overdue(f"a client stopped within a message for {STALL_SECONDS:g} s")
        else:
            self._moved = False
            self._watch_for_stalls(on=True)

    def _end_reading(self) -> None:
        if self._reader:
            self._reader = None
            self._sink = Sink.NOWHERE
        self._release()

    def _release(self) -> None:
        """Free the room that a query took up which had to be read."""
        if woken := self.facts.spool.remove(self):
            self.actions.append(Wake(woken))

    def _forget(self) -> None:
        """Drop everything that the client has sent: none of it is looked at any more."""
        self._inbox.clear()
        self._to_server.clear()
        self._parts.clear()
        self._end_reading()


def nothing() -> None:
    """Wake nobody."""


def failure_message(failure: UpstreamFailure, version: Version) -> bytes:
    """Return a FAILURE in the form of a Bolt version: before 5.7 it had only a code and a message."""
    if version < (5, 7):
        return message(Tag.FAILURE, {"code": failure.code, "message": failure.message})
    fields = {"neo4j_code": failure.code, "message": failure.message, "gql_status": failure.gql_status,
              "description": failure.description, "diagnostic_record": failure.diagnostic_record}
    return message(Tag.FAILURE, fields | ({"cause": failure.cause} if failure.cause else {}))


def _routed_to(address: str, body: bytes) -> bytes:
    """Return ROUTE's answer with the relay in every role. Otherwise a client would connect past the relay."""
    table = unpack_map(body, 2)[0].get("rt") or {}
    servers = [{"addresses": [address], "role": role} for role in ("ROUTE", "READ", "WRITE")]
    return message(Tag.SUCCESS, {"rt": table | {"servers": servers}})


def _compiled() -> list[list[tuple[tuple[Any, ...], State, bool] | None]]:
    """Return the table with the methods themselves in it, so that a row is found in two steps.

    The third value of a row says whether a message stays at the head of the queue: that is what HOLD means.
    """
    methods = {do: getattr(Client, f"_{do.name.lower()}") for do in Do}
    return [[(tuple(methods[do] for do in found.do if do is not Do.HOLD), found.to, Do.HOLD in found.do)
             if (found := TABLE[state].get(event)) else None for event in Event] for state in State]


_COMPILED = _compiled()
