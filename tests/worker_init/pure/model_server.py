"""A model of a Neo4j that answers by what it is asked alone, so that the same request has the same answer anywhere.

What a query does is in its text: ``mark:rows:batches:how``. The same model is the server behind the relay and, beside
each client, the oracle of what it would be answered without a relay. Its rules are those of a real Neo4j 2026.08.
"""

from enum import Enum, auto
from typing import Any, NamedTuple

from worker_init.bolt import Tag, message
from worker_init.errors import ProtocolViolation
from worker_init.handshake import Version
from worker_init.packstream import unpack

_FIRST_GQL_STATUS = Version(5, 7)
INVALID = "Neo.ClientError.Request.Invalid"
SYNTAX = "Neo.ClientError.Statement.SyntaxError"


class Stand(Enum):
    """The server's states."""

    READY = auto()
    STREAMING = auto()
    TRANSACTION = auto()
    FAILED = auto()
    GONE = auto()


# How many fields a request has, and in which states it may come.
_FIELDS: dict[int, int] = {Tag.RUN: 3, Tag.BEGIN: 1, Tag.PULL: 1, Tag.DISCARD: 1, Tag.COMMIT: 0, Tag.ROLLBACK: 0,
                           Tag.TELEMETRY: 1, Tag.ROUTE: 3, Tag.RESET: 0}
_RESULTS = (Stand.STREAMING, Stand.TRANSACTION)
_ALLOWED: dict[int, tuple[Stand, ...]] = {
    Tag.RUN: (Stand.READY, Stand.TRANSACTION), Tag.BEGIN: (Stand.READY,), Tag.PULL: _RESULTS, Tag.DISCARD: _RESULTS,
    Tag.COMMIT: (Stand.TRANSACTION,), Tag.ROLLBACK: (Stand.TRANSACTION,), Tag.TELEMETRY: (Stand.READY,),
    Tag.ROUTE: (Stand.READY,)}


class Answer(NamedTuple):
    """The messages that answer a request, the summary last, and whether the server closes behind them."""

    messages: tuple[bytes, ...]
    closes: bool = False


def query(mark: str, rows: int = 1, batches: int = 1, how: str = "ok") -> str:
    """Return a query's text: so many rows in each of so many batches; ``how`` is ok, fails or fails_late."""
    return f"{mark}:{rows}:{batches}:{how}"


def fields_of(body: bytes) -> list[Any]:
    """Return a message's fields. Raises ProtocolViolation."""
    fields, at = [], 2
    for _ in range(body[0] & 0x0F):
        value, at = unpack(body, at)
        fields.append(value)
    return fields


def failure(code: str, text: str, version: Version) -> bytes:
    """Return a FAILURE as this version of Bolt has it."""
    if version < _FIRST_GQL_STATUS:
        return message(Tag.FAILURE, {"code": code, "message": text})
    return message(Tag.FAILURE, {"neo4j_code": code, "message": text, "gql_status": "50N42", "description": "error",
                                 "diagnostic_record": {}})


class ModelServer:
    """One connection, logged on, of a version of Bolt."""

    def __init__(self, version: Version) -> None:
        self.stand = Stand.READY
        self._version = version
        # Results that are open: what is left of each, the one that was opened last at the end.
        self.results: dict[int, tuple[str, int, int, str]] = {}
        self._next = 0

    def answer(self, tag: int, body: bytes) -> Answer:
        """Return what a request is answered."""
        try:
            fields = fields_of(body)
        except ProtocolViolation:
            return Answer((), closes=True)
        # Fields are read before the state is asked: what is malformed fails again and again.
        if len(fields) != _FIELDS[tag] or (tag == Tag.RUN and not isinstance(fields[0], str)):
            return self._fail(INVALID, f"fields of {Tag(tag).name}")
        if tag == Tag.RESET:
            self._become(Stand.READY)
            return Answer((message(Tag.SUCCESS, {}),))
        if self.stand is Stand.FAILED:
            return Answer((message(Tag.IGNORED),))
        if self.stand not in _ALLOWED[tag]:
            return self._fail(INVALID, f"{Tag(tag).name} in {self.stand.name}", closes=True)
        return self._allowed(Tag(tag), fields)

    def _allowed(self, tag: Tag, fields: list[Any]) -> Answer:
        match tag:
            case Tag.RUN:
                return self._run(fields[0])
            case Tag.PULL | Tag.DISCARD:
                return self._rows(fields[0].get("qid", -1), pull=tag == Tag.PULL)
            case Tag.BEGIN:
                self._become(Stand.TRANSACTION)
                return Answer((message(Tag.SUCCESS, {"mark": fields[0].get("mark", "")}),))
            case Tag.COMMIT | Tag.ROLLBACK:
                self._become(Stand.READY)
                return Answer((message(Tag.SUCCESS, {"bookmark": "b"}),))
            case Tag.ROUTE:
                return Answer((message(Tag.SUCCESS, {"rt": {"ttl": 300, "db": "neo4j", "servers": []}}),))
        return Answer((message(Tag.SUCCESS, {}),))

    def _become(self, stand: Stand) -> None:
        self.stand = stand
        if stand is not Stand.STREAMING:
            self.results.clear()
            self._next = 0

    def _fail(self, code: str, text: str, *, closes: bool = False) -> Answer:
        self._become(Stand.GONE if closes else Stand.FAILED)
        return Answer((failure(code, text, self._version),), closes)

    def _run(self, text: str) -> Answer:
        mark, rows, batches, how = text.split(":")
        if how == "fails":
            return self._fail(SYNTAX, mark)
        metadata: dict[str, Any] = {"fields": [mark]}
        number = self._next
        if self.stand is Stand.TRANSACTION:
            metadata["qid"] = number
        else:
            self.stand = Stand.STREAMING
        self._next += 1
        self.results[number] = (mark, int(rows), int(batches), how)
        return Answer((message(Tag.SUCCESS, metadata),))

    def _rows(self, qid: int, *, pull: bool) -> Answer:
        number = [-1, *self.results][-1] if qid == -1 else qid
        if number not in self.results:
            return self._fail("Neo.ClientError.Request.InvalidFormat", f"No such statement: {qid}")
        mark, rows, batches, how = self.results[number]
        records = tuple(message(Tag.RECORD, [mark, row]) for row in range(rows if pull else 0))
        if how == "fails_late" and batches == 1:
            late = self._fail(SYNTAX, mark)
            return Answer((*records, *late.messages))
        if batches > 1:
            self.results[number] = (mark, rows, batches - 1, how)
            return Answer((*records, message(Tag.SUCCESS, {"has_more": True, "mark": mark})))
        del self.results[number]
        if self.stand is Stand.STREAMING:
            self._become(Stand.READY)
        return Answer((*records, message(Tag.SUCCESS, {"mark": mark})))
