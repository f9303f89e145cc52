"""What bytes of any kind may do: nothing but what is allowed. Each function takes one input and raises otherwise.

One test calls them with random bytes, another with a corpus, and ``python -m tests.fuzz.anything`` for hours.
"""

from collections.abc import Callable

from tests.worker_init.pure.reference import NoTag, NoValue, ReferenceScanner, read_value
from tests.worker_init.pure.relay_world import OPENING, RIGHT, VERSION, Facts
from worker_init import actions as act
from worker_init.bolt import Scanner, Tag, Unchunker, body_of, chunked, message
from worker_init.client import Client
from worker_init.client_table import State
from worker_init.errors import ProtocolViolation, UpstreamFailure
from worker_init.handshake import Negotiation, Version, offers_of
from worker_init.packstream import Skipper, skip, unpack, with_entries

_UPSTREAMS = (Version(6, 1), Version(5, 8), Version(5, 7), Version(5, 4), Version(4, 4), None)
_MESSAGES = (Tag.RUN, Tag.BEGIN, Tag.COMMIT, Tag.ROLLBACK, Tag.RESET, Tag.PULL, Tag.DISCARD, Tag.TELEMETRY, Tag.ROUTE,
             Tag.LOGON, Tag.LOGOFF, Tag.GOODBYE, Tag.HELLO)
_ANSWERS = (Tag.SUCCESS, Tag.SUCCESS, Tag.RECORD, Tag.IGNORED, Tag.FAILURE)
# Made once: what is the same for each of millions of inputs.
_LOGS_ON = message(Tag.HELLO, {}) + message(Tag.LOGON, RIGHT)
_LOGS_ON_WITH_FILTERS = message(Tag.HELLO, {"notifications_minimum_severity": "OFF"}) + message(Tag.LOGON, RIGHT)
_SAID = {(tag, has_more): message(tag) if tag == Tag.IGNORED else message(tag, {"has_more": has_more})
         for tag in _ANSWERS for has_more in (False, True)}
# The reference calls itself for what nests.
_DEEPEST_REFERENCE = 300


class Source:
    """An input that is taken apart from its beginning; at its end there are zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_empty(self) -> bool:
        return self._at >= len(self._data)

    def number(self, most: int) -> int:
        """Return a number up to this one, which is below 256."""
        byte = self._data[self._at] if not self.is_empty else 0
        self._at += 1
        return byte % (most + 1)

    def take(self, size: int) -> bytes:
        taken = self._data[self._at:self._at + size]
        self._at += size
        return taken

    def pieces(self) -> list[bytes]:
        """Return the rest, in pieces of the size that comes first."""
        size = self.number(40) + 1
        rest = self.take(len(self._data))
        return [rest[at:at + size] for at in range(0, len(rest), size)]


def handshake(data: bytes) -> None:
    """Negotiate a version with a client that sends this."""
    source = Source(data)
    offers = offers_of(_UPSTREAMS[source.number(len(_UPSTREAMS) - 1)])
    negotiation = Negotiation()
    try:
        for piece in source.pieces():
            negotiation.feed(piece)
            if negotiation.wants_offers:
                negotiation.answer(offers)
            if negotiation.version or negotiation.refused:
                break
    except ProtocolViolation:
        return
    assert not negotiation.version or negotiation.version in offers
    assert not (negotiation.version and negotiation.refused)


def framing(data: bytes) -> None:
    """Find the messages in this; the reference finds the same, or refuses it too."""
    pieces = Source(data).pieces()
    for skips in (False, True):
        reference, scanner = ReferenceScanner(), Scanner(skip_records=skips)
        raw = b""
        for piece in pieces:
            expected = _expected(reference, piece, skips=skips)
            found = _found(scanner, piece, raw)
            assert (found is None) == (expected is None)
            if found is None or expected is None:
                break
            *whole, raw = found
            assert whole == expected
            assert scanner.between_messages == reference.between_messages


def _expected(reference: ReferenceScanner, piece: bytes, *, skips: bool) -> list[bytes] | None:
    try:
        return [each.raw for each in reference.feed(piece) if not (skips and each.tag == Tag.RECORD)]
    except NoTag:
        return None


def _found(scanner: Scanner, piece: bytes, raw: bytes) -> list[bytes] | None:
    """Return the messages that end in this piece, and what is here of the next one."""
    found = [raw]
    try:
        for _, start, stop, _, last in scanner.feed(piece):
            found[-1] += scanner.block[start:stop]
            if last:
                found.append(b"")
    except ProtocolViolation:
        return None
    return found


def packstream(data: bytes) -> None:
    """Read a value from this, whole and step by step."""
    try:
        value, end = unpack(data)
    except ProtocolViolation:
        value, end = None, -1
    if len(data) < _DEEPEST_REFERENCE:
        assert _reference_end(data) == end
    if end >= 0:
        assert skip(data) == end
        if isinstance(value, dict):
            assert skip(with_entries(data[:end], {"more": [1]})) > end
    # Keys may be anything for a reader that skips them.
    assert end == -1 or _passed_over(data) == end


def _reference_end(data: bytes) -> int:
    try:
        return read_value(data, 0)[1]
    except NoValue:
        return -1


def _passed_over(data: bytes) -> int:
    """Return where a value ends that comes piece by piece; -1 if it is none, or its end is not here."""
    skipper, passed = Skipper(), 0
    try:
        for piece in Source(b"\x02" + data).pieces():
            at = 0
            while at < len(piece) and not skipper.done:
                at = skipper.feed(piece, at, budget=2)
            passed += at
    except ProtocolViolation:
        return -1
    return passed if skipper.done else -1


class _Shell:
    """Does for a client's machine what can be done without a world: connections are there at once, or never."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.facts = Facts(is_routed=bool(source.number(1)), recv_timeout=4.0)
        self.facts.learn("server", VERSION)
        self.machine = Client(self.facts, "client")
        self.lent = 0
        self.waits = self.is_gone = False
        self.comes_back = False
        self.to_server = bytearray()

    def perform(self) -> None:
        while actions := self.machine.actions:
            self.machine.actions = []
            for action in actions:
                self._do(action)

    def _do(self, action: act.Action) -> None:
        if isinstance(action, act.Borrow):
            self.waits = True
        elif isinstance(action, act.Abandon):
            self.waits = False
        elif isinstance(action, act.GiveBack | act.ResetAndGiveBack | act.Discard):
            self.lent -= 1
        elif isinstance(action, act.ToServer):
            assert self.lent == 1
            self.to_server += action.data
        elif isinstance(action, act.ComeBack):
            self.comes_back = True
        elif isinstance(action, act.Close | act.Abort):
            self.is_gone = True
        assert 0 <= self.lent <= 1

    def tell(self, what: Callable[[], None]) -> None:
        what()
        self.perform()

    def step(self) -> None:
        """Have one thing happen, as the input says."""
        source, machine = self.source, self.machine
        kind = source.number(11)
        if kind < 2:
            self.tell(lambda: machine.client_sent(source.take(source.number(60))))
        elif kind < 6:
            tag = _MESSAGES[source.number(len(_MESSAGES) - 1)]
            body = bytes((0xB0 | source.number(3), tag)) + source.take(source.number(40))
            self.tell(lambda: machine.client_sent(chunked(body)))
        elif kind == 6 and self.waits:
            self.waits = False
            if source.number(4):
                self.lent += 1
                self.tell(lambda: machine.granted(VERSION))
            else:
                self.tell(lambda: machine.refused(UpstreamFailure("Neo.X", "no")))
        elif kind == 7 and self.comes_back:
            self.comes_back = False
            self.tell(machine.go_on)
        elif kind < 11 and self.lent:
            self._server_speaks()
        elif kind == 11:
            self._flow()

    def _server_speaks(self) -> None:
        source = self.source
        tag = _ANSWERS[source.number(len(_ANSWERS) - 1)]
        if source.number(5):
            said = _SAID[tag, tag != Tag.IGNORED and bool(source.number(1))]
        else:
            said = source.take(source.number(20))
        self.tell(lambda: self.machine.server_sent(said))

    def _flow(self) -> None:
        kind = self.source.number(3)
        full = bool(self.source.number(1))
        if kind == 0:
            self.tell(lambda: self.machine.client_full(full=full))
        elif kind == 1 and self.lent:
            self.tell(lambda: self.machine.server_full(full=full))
        elif kind == 2 and self.lent:
            self.tell(self.machine.server_lost)


def client(data: bytes) -> None:
    """Have a client and a server that send this, in turns that it says as well, and end them."""
    source = Source(data)
    shell = _Shell(source)
    stage = source.number(3)
    if stage:
        shell.tell(lambda: shell.machine.client_sent(OPENING))
    if stage > 1:
        shell.tell(lambda: shell.machine.client_sent(_LOGS_ON_WITH_FILTERS if stage > 2 else _LOGS_ON))
    while not (source.is_empty or shell.is_gone):
        shell.step()
    shell.tell(shell.machine.client_ended)
    assert shell.machine.state is State.CLOSED
    assert shell.lent == 0
    assert shell.machine.held == 0
    assert shell.facts.spool.total == 0


def extras(data: bytes) -> None:
    """Have a client with filters send a RUN of this, in chunks of any size: the server gets all of it, or more."""
    source = Source(data)
    size = source.number(50) + 1
    body = b"\xb3\x10" + source.take(len(data))
    wire = b"".join(chunked(body[at:at + size])[:-2] for at in range(0, len(body), size)) + b"\x00\x00"
    shell = _Shell(Source(b""))
    shell.tell(lambda: shell.machine.client_sent(OPENING + _LOGS_ON_WITH_FILTERS))
    for at in range(0, len(wire), 7):
        shell.tell(lambda at=at: shell.machine.client_sent(wire[at:at + 7]))  # type: ignore[misc]
    for _ in range(1000):
        if shell.waits:
            shell.waits = False
            shell.lent += 1
            shell.tell(lambda: shell.machine.granted(VERSION))
        if not shell.comes_back:
            break
        shell.comes_back = False
        shell.tell(shell.machine.go_on)
    sent = bytes(shell.to_server)
    unchunker = Unchunker()
    spans = unchunker.feed(sent)
    assert unchunker.ended
    got = b"".join(sent[start:stop] for start, stop in spans)
    assert got == body or len(got) > len(body)
    assert body_of(wire) == body


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (handshake, framing, packstream, client, extras)}
