"""What a server may do at odd places, as scripts that a query or a transaction names, and the conversations about it.

A script says for each kind of message what it is answered with, once or time after time. A server that is asked the
same says the same, so a conversation can be held with it directly and through a relay.
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from tests.worker_init.conversations import (
    COMMIT,
    DISCARD,
    NOOP,
    PULL,
    RESET,
    ROLLBACK,
    Conversation,
    begin,
    run,
)
from tests.worker_init.scripted import Member, Servers
from worker_init.bolt import Tag, chunked, message
from worker_init.handshake import Version
from worker_init.packstream import unpack

# What is done instead of writing: the server says no more, or breaks the connection.
END, RESET_CONNECTION = b"END", b"RESET_CONNECTION"

_ROW = message(Tag.RECORD, [1])
_DONE = message(Tag.SUCCESS, {"type": "r", "t_last": 1})
_RAN = message(Tag.SUCCESS, {"fields": ["x"], "t_first": 1})
_IGNORED = message(Tag.IGNORED)
_FIRST_GQL_STATUS = Version(5, 7)


class Script(NamedTuple):
    """What each kind of message is answered with: the first list for the first of its kind, the last for all others.

    With ``cut`` the answers are written in pieces of so many bytes.
    """

    answers: dict[int, list[list[bytes]]]
    cut: int = 0


def _script(cut: int = 0, **answers: list[bytes]) -> Script:
    return _script_of(answers, cut)


def _script_of(answers: dict[str, list[bytes]], cut: int = 0) -> Script:
    return Script({int(Tag[name]): [answer] for name, answer in answers.items()}, cut)


def failure(version: Version, code: str) -> bytes:
    """Return a FAILURE as a server of this version has it."""
    if version < _FIRST_GQL_STATUS:
        return message(Tag.FAILURE, {"code": code, "message": "as it was written"})
    cause = {"message": "below", "gql_status": "01N00", "description": "cause", "diagnostic_record": {"OPERATION": ""}}
    return message(Tag.FAILURE, {"neo4j_code": code, "message": "as it was written", "gql_status": "50N42",
                                 "description": "error", "diagnostic_record": {"_x": [1, None]}, "cause": cause})


def _in_chunks_of(size: int, wire: bytes) -> bytes:
    """Return a message that is one chunk in chunks of this size."""
    body = wire[2:-2]
    return b"".join(len(body[at:at + size]).to_bytes(2, "big") + body[at:at + size]
                    for at in range(0, len(body), size)) + NOOP


def _rich() -> dict[str, Any]:
    position = {"offset": 0, "line": 1, "column": 1}
    return {"type": "rw", "t_last": 3, "db": "neo4j", "stats": {"nodes-created": 1, "contains-updates": True},
            "notifications": [{"severity": "WARNING", "title": "has_more", "code": "Neo.X", "position": position}],
            "statuses": [{"gql_status": "01N52", "diagnostic_record": {"_position": position}}],
            "plan": {"operatorType": "x", "args": {"has_more": True}, "children": []}, "bookmark": "FB:1"}


def _failures(version: Version) -> Iterator[tuple[str, Script]]:
    fails = failure(version, "Neo.ClientError.Statement.SyntaxError")
    # What is pipelined behind something that was ignored is ignored as well.
    behind = {"BEGIN": ("RUN", "PULL", "DISCARD", "COMMIT", "ROLLBACK"), "RUN": ("PULL", "DISCARD")}
    for step in ("BEGIN", "RUN", "PULL", "DISCARD", "COMMIT", "ROLLBACK"):
        yield f"FAILURE to {step}", _script_of({step: [fails]})
        yield f"IGNORED for {step}", _script_of({each: [_IGNORED] for each in (step, *behind.get(step, ()))})
    yield "FAILURE behind rows", _script(PULL=[_ROW, _ROW, fails])
    yield "FAILURE between NOOPs", _script(RUN=[NOOP * 2, fails, NOOP])
    yield "FAILURE of a second batch", Script({int(Tag.PULL): [
        [_ROW, message(Tag.SUCCESS, {"has_more": True})], [_ROW, fails]]})
    for code in ("Neo.ClientError.Security.TokenExpired", "Neo.TransientError.General.DatabaseUnavailable",
                 "Neo.ClientError.Cluster.NotALeader", "Neo.TransientError.Transaction.DeadlockDetected", ""):
        yield f"FAILURE {code}", _script(PULL=[failure(version, code)])


def _shapes() -> Iterator[tuple[str, Script]]:
    more = message(Tag.SUCCESS, {"has_more": True})
    yield "nothing odd", _script()
    yield "no rows", _script(PULL=[_DONE])
    yield "two batches", Script({int(Tag.PULL): [[_ROW, more], [_ROW, _DONE]]})
    yield "batches without end", _script(PULL=[_ROW, more])
    yield "has_more that is false", _script(PULL=[_ROW, message(Tag.SUCCESS, {"has_more": False, "type": "r"})])
    yield "notifications", _script(RUN=[message(Tag.SUCCESS, {"fields": ["has_more"], "qid": 0})],
                                   PULL=[_ROW, message(Tag.SUCCESS, _rich())])
    yield "a node in a row", _script(PULL=[chunked(b"\xb1\x71\x91\xb4N\x01\x91\x81A\xa1\x81k\xc9\x01\x00\x81e"), _DONE])
    yield "a huge row", _script(PULL=[message(Tag.RECORD, ["x" * 1_000_000]), _DONE])
    yield "many rows", _script(PULL=[b"".join(
        message(Tag.RECORD, [number, "r" * 50]) for number in range(500)), _DONE])
    yield "a huge summary", _script(PULL=[_ROW, message(Tag.SUCCESS, {"plan": {"x": "y" * 300_000}})])
    yield "a row in chunks of one byte", _script(PULL=[_in_chunks_of(1, message(Tag.RECORD, ["x" * 500])), _DONE])
    yield "a summary in chunks of one byte", _script(RUN=[_in_chunks_of(1, _RAN)], PULL=[_ROW, _in_chunks_of(1, _DONE)])
    for cut in (1, 3):
        yield f"NOOPs everywhere, in pieces of {cut}", _script(
            cut, BEGIN=[NOOP, message(Tag.SUCCESS, {}), NOOP], RUN=[NOOP * 3, _RAN, NOOP],
            PULL=[NOOP, _ROW, NOOP * 2, _ROW, NOOP, _DONE], COMMIT=[NOOP * 5, message(Tag.SUCCESS, {"bookmark": "b"})])


def _ends() -> Iterator[tuple[str, Script]]:
    success = message(Tag.SUCCESS, {})
    for step, answer in (("BEGIN", success), ("RUN", _RAN), ("PULL", _DONE), ("COMMIT", success)):
        for how, end in (("an end", END), ("a reset", RESET_CONNECTION)):
            yield f"{how} before the answer to {step}", _script_of({step: [end]})
        for size in (1, 2, len(answer) - 1):
            yield f"an end {size} bytes into the answer to {step}", _script_of({step: [answer[:size], END]})
    yield "an end behind the answer to BEGIN", _script(BEGIN=[success, END])
    yield "an end behind the answer to RUN", _script(RUN=[_RAN, END])
    yield "an end behind a row", _script(PULL=[_ROW, END])
    yield "an end within a row", _script(PULL=[_ROW, _ROW[:4], END])
    yield "an end behind NOOPs", _script(PULL=[_ROW, NOOP * 2, END])
    yield "an end behind a FAILURE", _script(RUN=[failure(Version(5, 8), "Neo.X"), END])


# The server closes behind the last answer: directly that is the end, while a client of the relay has let go of it.
CLOSES_BEHIND_ROWS, CLOSES_BEHIND_COMMIT = "an end behind the last row", "an end behind the answer to COMMIT"
END_BEHIND_ALL = {CLOSES_BEHIND_ROWS: _script(PULL=[_ROW, _DONE, END]),
                  CLOSES_BEHIND_COMMIT: _script(COMMIT=[message(Tag.SUCCESS, {}), END])}


@lru_cache
def scripts(version: Version) -> dict[str, Script]:
    """Return all of them, by name."""
    return {**dict(_failures(version)), **dict(_shapes()), **dict(_ends()), **END_BEHIND_ALL}


def conversations(version: Version, hello: dict[str, Any], name: str) -> list[Conversation]:
    """Return conversations about a script; the last query is none of its, and behind it the connection is as before."""
    after = ((RESET,), (run("after"), PULL))
    starts, query = begin(tx_metadata={"script": name}), run(name)
    each: list[tuple[tuple[bytes, ...], ...]] = [
        ((query, PULL),), ((starts,), (query, PULL), (COMMIT,)), ((query,), (PULL,)), ((starts, query, PULL, COMMIT),),
        ((query, DISCARD),), ((starts,), (query, DISCARD), (ROLLBACK,))]
    if "batch" in name:
        each = [((query,), (PULL,), (PULL,)), ((starts, query, PULL, PULL, COMMIT),)]
    return [Conversation(version, hello, (*exchanges, *after)) for exchanges in each]


class Actor(Member):
    """A member that does what a script says: that of the query, or of the transaction around it."""

    def __init__(self, servers: Servers, number: int) -> None:
        super().__init__(servers, number)
        self._scripts = scripts(self.offers[0])
        self._script = _script()
        self._times: dict[int, int] = {}
        self._in_transaction = self._has_failed = self._is_over = False
        self._out: deque[bytes] = deque()

    def answer(self, tag: int, body: bytes) -> None:
        if self._is_over:
            return
        self._follow(tag, body)
        answers = self._script.answers.get(tag)
        if self._has_failed and tag != Tag.GOODBYE:
            self._say([_IGNORED])
        elif answers:
            times = self._times.get(tag, 0)
            self._times[tag] = times + 1
            self._say(answers[min(times, len(answers) - 1)])
        elif tag == Tag.PULL:
            self._say([_ROW, _DONE])
        else:
            super().answer(tag, body)

    def _follow(self, tag: int, body: bytes) -> None:
        """Take up the script that is named where something begins; RESET ends it."""
        if tag == Tag.RUN and not self._in_transaction:
            self._begin(unpack(body, 2)[0])
        elif tag == Tag.BEGIN:
            self._in_transaction = True
            self._begin(unpack(body, 2)[0].get("tx_metadata", {}).get("script", ""))
        elif tag in (Tag.COMMIT, Tag.ROLLBACK):
            self._in_transaction = False
        elif tag == Tag.RESET:
            self._in_transaction = self._has_failed = False
            self._begin("")

    def _begin(self, name: str) -> None:
        self._script, self._times = self._scripts.get(name, _script()), {}

    def succeed(self, **metadata: Any) -> None:
        self._say([message(Tag.SUCCESS, metadata)])

    def _say(self, answer: list[bytes]) -> None:
        """Write one piece in each turn of the loop, in order."""
        is_idle = not self._out
        for each in answer:
            self._has_failed = self._has_failed or each[2:4] == b"\xb1\x7f"
            size = self._script.cut or len(each)
            self._out += [each] if each in (END, RESET_CONNECTION) else [
                each[at:at + size] for at in range(0, len(each), size)]
        if is_idle:
            self._write()

    def _write(self) -> None:
        if self._is_over or not self._out:
            return
        piece = self._out.popleft()
        if piece == END:
            # What comes is still read: else the end would overtake what was said before it.
            self._is_over = True
            self.transport.write_eof()
        elif piece == RESET_CONNECTION:
            self._is_over = True
            self.transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        else:
            self.transport.write(piece)
            asyncio.get_running_loop().call_soon(self._write)
