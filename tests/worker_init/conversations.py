"""Conversations with a Bolt server, written down: held directly and through a relay, they have to be the same.

A conversation is a list of exchanges; the messages of one exchange are sent at once, in pieces of any size, and the
next one begins when all of them are answered. What may differ between two connections to the same server is made equal
by :func:`normalised`; what a relay answers in its own words is in ``OWN_WORDS``.
"""

import random
import socket
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from worker_init.bolt import Scanner, Tag, body_of, chunked, message
from worker_init.handshake import LOGON, MAGIC, Version
from worker_init.packstream import pack, unpack

# A server that neither answers nor closes within this time does neither.
SILENCE_SECONDS = 3.0
# Times, bookmarks, and the connection's own number.
_ITS_OWN = frozenset(("t_first", "t_last", "bookmark", "connection_id", "advertised_address"))
# The relay's own address is in place of the server's; what the server calls itself since Bolt 5.8 is left out.
_ADDRESSES = frozenset(("addresses",))
# What the relay may say in its own words, or, over a routed upstream, in those of the member that it asks for a routing
# table: the code is the same, and what follows.
OWN_WORDS = frozenset(("Neo.ClientError.Request.Invalid", "Neo.ClientError.Database.DatabaseNotFound"))
# Hints that the relay answers for itself.
_HINTS = frozenset(("telemetry.enabled",))


class Said(NamedTuple):
    """What a server says to one exchange: its messages, made comparable, and whether it closed."""

    messages: tuple[str, ...]
    end: str


class Conversation(NamedTuple):
    """A version, what HELLO says, and what is sent then."""

    version: Version
    hello: dict[str, Any]
    exchanges: tuple[tuple[bytes, ...], ...]
    cuts: int = 0


def _is_goodbye(exchange: tuple[bytes, ...]) -> bool:
    return exchange[-1:] == (GOODBYE,)


def normalised(tag: int, body: bytes) -> str:
    """Return a message as text, without what may differ from connection to connection."""
    fields, at = [], 2
    while at < len(body):
        value, at = unpack(body, at)
        fields.append(_normal(value))
    name = Tag(tag).name
    if tag == Tag.FAILURE and fields and fields[0].get("neo4j_code") in OWN_WORDS:
        return f"{name} {fields[0]['neo4j_code']}"
    return f"{name} {fields}"


def _normal(value: Any) -> Any:
    if isinstance(value, list):
        return [_normal(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: _normal_entry(key, item) for key, item in value.items()
            if key not in _HINTS and not (key in _ITS_OWN and not isinstance(item, dict))}


def _normal_entry(key: str, item: Any) -> Any:
    if key in _ADDRESSES:
        return "an address"
    if key == "servers":
        return sorted(server["role"] for server in item)
    return _normal(item)


class _Wire:
    """A raw client."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=SILENCE_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._scanner = Scanner()
        self._open = b""
        self._ready: list[tuple[int, bytes]] = []

    def send(self, data: bytes, rnd: random.Random | None) -> None:
        try:
            while data and rnd:
                size = rnd.choice([1, 2, 7, 100, 5000])
                self._socket.sendall(data[:size])
                data = data[size:]
            self._socket.sendall(data)
        except ConnectionError:
            pass        # what it said before it closed is still to be read

    def exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._socket.recv(size - len(data))
            if not more:
                break
            data += more
        return data

    def receive(self) -> tuple[int, bytes]:
        """Return the next message's tag and body. Raises EOFError, TimeoutError."""
        while not self._ready:
            try:
                data = self._socket.recv(65536)
            except ConnectionError as error:
                raise EOFError from error
            if not data:
                raise EOFError
            for piece in self._scanner.feed(data):
                self._open += self._scanner.block[piece.start:piece.stop]
                if piece.last:
                    self._ready.append((piece.tag, body_of(self._open)))
                    self._open = b""
        return self._ready.pop(0)

    def answers(self, count: int) -> Said:
        """Return what is said to so many requests."""
        found: list[str] = []
        while count:
            try:
                tag, body = self.receive()
            except EOFError:
                return Said(tuple(found), "closed")
            except TimeoutError:
                return Said(tuple(found), "silent")
            found.append(normalised(tag, body))
            count -= tag != Tag.RECORD
        return Said(tuple(found), "")

    def farewell(self) -> Said:
        """Return how a connection ends after GOODBYE; what Neo4j may say before that is for nobody."""
        return Said((), self.answers(100).end)

    def close(self) -> None:
        self._socket.close()


def hold(conversation: Conversation, port: int, auth: tuple[str, str]) -> list[Said]:
    """Hold a conversation; return what was said to each exchange, the handshake's and the logon's first."""
    rnd = random.Random(conversation.cuts) if conversation.cuts else None
    wire = _Wire(port)
    try:
        wire.send(MAGIC + bytes((0, 0, conversation.version.minor, conversation.version.major)) + bytes(12), rnd)
        said = [Said((wire.exactly(4).hex(),), "")]
        for exchange in (_begins(conversation, auth), *conversation.exchanges):
            wire.send(b"".join(exchange), rnd)
            said.append(wire.farewell() if _is_goodbye(exchange) else wire.answers(_answers_due(exchange)))
            if said[-1].end:
                break
        return said
    finally:
        wire.close()


def _begins(conversation: Conversation, auth: tuple[str, str]) -> tuple[bytes, ...]:
    """Return HELLO and LOGON, which are one message before Bolt 5.1."""
    hello = {"user_agent": "conversation/1", "bolt_agent": {"product": "conversation/1"}} | conversation.hello
    logon = {"scheme": "basic", "principal": auth[0], "credentials": auth[1]}
    if conversation.version < LOGON:
        return (message(Tag.HELLO, hello | logon),)
    return message(Tag.HELLO, hello), message(Tag.LOGON, logon)


def _answers_due(exchange: tuple[bytes, ...]) -> int:
    """Return how many answers an exchange has: one for each message that is no NOOP."""
    return len([wire for wire in exchange if wire.strip(b"\0")])


def difference(conversation: Conversation, direct: list[Said], relayed: list[Said]) -> str:
    """Return what was said in another way through the relay, or nothing.

    Where both closed, one may have said a FAILURE less: a close with bytes unread overtakes what was said before it.
    """
    if _closed_alike(direct, relayed):
        return ""
    sent = [("handshake",), ("HELLO", "LOGON"),
            *(tuple(wire.hex() for wire in each) for each in conversation.exchanges)]
    for number in range(max(len(direct), len(relayed))):
        one, other = (said[number] if number < len(said) else Said((), "was not reached") for said in (direct, relayed))
        if one != other:
            return (f"{conversation.version} {conversation.hello} {_short(sent[number])}:\n  directly {_short(one)}\n"
                    f"  relay    {_short(other)}")
    return ""


def _closed_alike(direct: list[Said], relayed: list[Said]) -> bool:
    if not (direct[-1].end == relayed[-1].end == "closed"):
        return direct == relayed
    less, more = sorted(([text for said in each for text in said.messages] for each in (direct, relayed)), key=len)
    return less == more[:len(less)] and [text.split()[0] for text in more[len(less):]] in ([], ["FAILURE"])


def _short(shown: object) -> str:
    text = str(shown)
    return text if len(text) < 400 else f"{text[:300]} ... {text[-90:]}"


# What is sent

def run(query: str, parameters: dict[str, Any] | None = None, **extras: Any) -> bytes:
    return message(Tag.RUN, query, parameters or {}, extras)


def begin(**extras: Any) -> bytes:
    return message(Tag.BEGIN, extras)


PULL = message(Tag.PULL, {"n": -1})
PULL_ONE = message(Tag.PULL, {"n": 1})
DISCARD = message(Tag.DISCARD, {"n": -1})
COMMIT, ROLLBACK, RESET, GOODBYE, LOGOFF = (message(tag) for tag in (
    Tag.COMMIT, Tag.ROLLBACK, Tag.RESET, Tag.GOODBYE, Tag.LOGOFF))
NOOP = b"\x00\x00"
TELEMETRY = message(Tag.TELEMETRY, 1)
ROUTE = message(Tag.ROUTE, {}, [], {})
ROWS = "UNWIND range(1, 3) AS x RETURN x"

# How the server's states are reached.
STATES: dict[str, tuple[tuple[bytes, ...], ...]] = {
    "READY": (),
    "STREAMING": ((run(ROWS),),),
    "STREAMING, some rows read": ((run(ROWS), PULL_ONE),),
    "IN_TRANSACTION": ((begin(),),),
    "IN_TRANSACTION, a result open": ((begin(), run(ROWS)),),
    "FAILED": ((run("this is no Cypher"),),),
    "FAILED in a transaction": ((begin(), run("this is no Cypher")),),
    "FAILED late": ((run("UNWIND [1, 0] AS x RETURN 1 / x"), PULL),),
    "READY again": ((run(ROWS), PULL), (begin(), run(ROWS), PULL, COMMIT)),
    "AUTHENTICATION": ((LOGOFF,),),
}


def _run_of(parameters: bytes = b"\xa0", extras: bytes = b"\xa0", query: bytes = pack("RETURN 1 AS x")) -> bytes:
    return chunked(b"\xb3\x10" + query + parameters + extras)


# What may be sent in any of them: every message, as it should be and in ways in which it should not.
MESSAGES: dict[str, bytes] = {
    "RUN": run(ROWS), "BEGIN": begin(), "COMMIT": COMMIT, "ROLLBACK": ROLLBACK, "PULL": PULL, "PULL some": PULL_ONE,
    "DISCARD": DISCARD, "RESET": RESET, "GOODBYE": GOODBYE, "LOGOFF": LOGOFF, "TELEMETRY": TELEMETRY, "ROUTE": ROUTE,
    "HELLO": message(Tag.HELLO, {"user_agent": "x", "bolt_agent": {"product": "x/1"}}),
    "LOGON": message(Tag.LOGON, {"scheme": "basic", "principal": "nobody", "credentials": "nothing"}),
    "RUN with a mode": run(ROWS, mode="r"), "RUN in a database that is none": run(ROWS, db="nothere"),
    "RUN as another user": run(ROWS, imp_user="nobody"), "RUN with metadata": run(ROWS, tx_metadata={"a": [1, None]}),
    "RUN with a bookmark of nowhere": run(ROWS, bookmarks=["FB:x"]), "RUN with a timeout": run(ROWS, tx_timeout=10_000),
    "RUN with filters": run(ROWS, notifications_minimum_severity="OFF"),
    "RUN with a mode that is none": run(ROWS, mode="x"), "RUN with a database that is a number": run(ROWS, db=1),
    "RUN with bookmarks that are none": run(ROWS, bookmarks="x"), "RUN with no extras": _run_of(extras=b"\xc0"),
    "RUN with a reserved marker": _run_of(b"\xa1\x81x\xc7"),
    "RUN with a key that is no text": _run_of(extras=b"\xa1\x01\x01"),
    "RUN with a key twice": _run_of(extras=b"\xa2\x84mode\x81r\x84mode\x81w"),
    "RUN with too few fields": chunked(b"\xb2\x10" + pack(ROWS) + b"\xa0"),
    "RUN with too many fields": chunked(b"\xb4\x10" + pack(ROWS) + b"\xa0\xa0\xa0"),
    "RUN with bytes behind it": chunked(b"\xb3\x10" + pack(ROWS) + b"\xa0\xa0\x01\x02"),
    "RUN cut short": chunked(b"\xb3\x10" + pack(ROWS) + b"\xa0"),
    "RUN with a text that is no UTF-8": _run_of(b"\xa1\x81p\x82\xff\xfe", query=pack("RETURN $p AS x")),
    "RUN with metadata that is no UTF-8": _run_of(extras=b"\xa1" + pack("tx_metadata") + b"\xa1\x81p\x82\xff\xfe"),
    "RUN with metadata 900 deep": _run_of(
        extras=b"\xa1" + pack("tx_metadata") + b"\xa1\x81a" + b"\x91" * 900 + b"\x01"),
    "RUN with parameters 900 deep": _run_of(b"\xa1\x81p" + b"\x91" * 900 + b"\x01"),
    "RUN deeper than any stack": _run_of(b"\xa1\x81p" + b"\x91" * 100_000 + b"\x01"),
    "BEGIN with a mode that is none": begin(mode="x"), "BEGIN without extras": chunked(b"\xb0\x11"),
    "COMMIT with a field": message(Tag.COMMIT, 1), "RESET with a field": message(Tag.RESET, 1),
    "PULL without n": message(Tag.PULL, {}), "PULL nothing": message(Tag.PULL, {"n": 0}),
    "PULL of another result": message(Tag.PULL, {"n": -1, "qid": 5}),
    "PULL of the first": message(Tag.PULL, {"n": -1, "qid": 0}),
    "TELEMETRY of nothing": message(Tag.TELEMETRY), "TELEMETRY of an unknown kind": message(Tag.TELEMETRY, 99),
    "ROUTE of a database that is none": message(Tag.ROUTE, {}, [], {"db": "nothere"}),
    "ROUTE with too few fields": message(Tag.ROUTE, {}),
    "an unknown message": b"\x00\x02\xb0\x77\x00\x00", "a message of the server's": message(Tag.SUCCESS, {}),
    "a list": b"\x00\x02\x91\x10\x00\x00", "one byte": b"\x00\x01\xb0\x00\x00",
    "RUN in chunks of a byte": b"".join(struct.pack(">HB", 1, byte) for byte in body_of(run(ROWS))) + NOOP,
    "RUN behind NOOPs": NOOP * 3 + run(ROWS),
}


WELL_FORMED = frozenset(Tag.__members__) & frozenset(MESSAGES) - {"HELLO"}


def every_message_in_every_state(version: Version, hello: dict[str, Any]) -> Iterator[tuple[str, Conversation]]:
    """Yield a conversation for each message in each state; behind it comes a RESET, and a query if that is answered."""
    for state, before in STATES.items():
        for name, wire in MESSAGES.items():
            # Of one that has logged off, Neo4j reads the fields before it closes the connection; the relay does not.
            if state != "AUTHENTICATION" or name in WELL_FORMED:
                yield f"{name} in {state}", Conversation(
                    version, hello, (*before, (wire,), (RESET,), (run("RETURN 'after'"), PULL)))


QUERIES: tuple[tuple[str, dict[str, Any]], ...] = (
    (ROWS, {}), ("RETURN $x AS x", {"x": [1, None, 2.5, "é", {"a": [True]}]}),
    ("UNWIND range(1, 2000) AS x RETURN x, 'r' + x", {}),
    ("MATCH (n:NoSuchLabel) RETURN n.nothing", {}), ("RETURN 1 / 0", {}), ("UNWIND [1, 0] AS x RETURN 1 / x", {}),
    ("this is no Cypher", {}), ("RETURN $missing", {}),
    ("RETURN date('2026-11-27'), duration('P1D'), point({x: 1, y: 2})", {}),
    ("CREATE (n:Differential {x: 1}) DELETE n", {}), ("EXPLAIN MATCH (n) RETURN n", {}),
    ("RETURN $big AS x", {"big": "x" * 70_000}), ("RETURN size($many) AS x", {"many": [*range(3000)]}), ("", {}),
)
FILTERS: tuple[dict[str, Any], ...] = (
    {}, {"notifications_minimum_severity": "OFF"},
    {"notifications_minimum_severity": "WARNING", "notifications_disabled_classifications": ["UNRECOGNIZED"]},
    {"notifications_disabled_categories": ["UNRECOGNIZED"]})


# What ends a conversation; and what a router refuses: then the relay ignores everything until RESET, where the server
# itself would still say of what is malformed that it is.
_NOT_AT_RANDOM = frozenset(("HELLO", "LOGON", "LOGOFF", "RUN in a database that is none"))


class Writer:
    """Writes conversations at random: most make sense, some nearly do."""

    def __init__(self, seed: int, versions: tuple[Version, ...]) -> None:
        self.rnd = random.Random(seed)
        self.versions = versions

    def conversation(self) -> Conversation:
        """Return a conversation."""
        rnd = self.rnd
        exchanges: list[tuple[bytes, ...]] = []
        for _ in range(rnd.randint(1, 6)):
            exchanges += rnd.choice([self._auto_commit, self._auto_commit, self._transaction, self._transaction,
                                     self._aside, self._odd])()
            # By itself: it interrupts what is under way, which depends on who is quicker.
            if rnd.random() < 0.7:
                exchanges.append((RESET,))
        return Conversation(rnd.choice(self.versions), rnd.choice(FILTERS), tuple(exchanges),
                            rnd.choice([0, 0, rnd.randrange(1, 99)]))

    def _extras(self) -> dict[str, Any]:
        return self.rnd.choice([{}, {}, {"mode": "r"}, {"db": "neo4j"}, {"tx_timeout": 60_000},
                                {"tx_metadata": {"app": "é", "deep": [[[1]]]}},
                                {"notifications_minimum_severity": "INFORMATION"}])

    def _query(self) -> bytes:
        text, parameters = self.rnd.choice(QUERIES)
        return run(text, parameters, **self._extras())

    def _rows(self) -> tuple[bytes, ...]:
        return self.rnd.choice([(PULL,), (PULL,), (DISCARD,), (PULL_ONE, PULL),
                                (message(Tag.PULL, {"n": 100}), PULL_ONE, DISCARD), ()])

    def _auto_commit(self) -> list[tuple[bytes, ...]]:
        query, rows = self._query(), self._rows()
        return [(query, *rows)] if self.rnd.random() < 0.6 else [(query,), rows]

    def _transaction(self) -> list[tuple[bytes, ...]]:
        wires = [begin(**self._extras())]
        for _ in range(self.rnd.randint(0, 3)):
            wires += [run(*self.rnd.choice(QUERIES)), *self._rows()]
        wires.append(self.rnd.choice([COMMIT, COMMIT, ROLLBACK]))
        return [tuple(wires)] if self.rnd.random() < 0.5 else [(wire,) for wire in wires]

    def _aside(self) -> list[tuple[bytes, ...]]:
        return [(self.rnd.choice([RESET, TELEMETRY, ROUTE, NOOP + RESET]),)]

    def _odd(self) -> list[tuple[bytes, ...]]:
        """Return any message, in whatever state that is."""
        picked = self.rnd.sample([*MESSAGES.items()], self.rnd.randint(1, 3))
        return [(wire,) for name, wire in picked if name not in _NOT_AT_RANDOM]
