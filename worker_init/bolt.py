"""Bolt's messages on the wire: tags, chunks, and a scanner that follows them without copying.

A message is a structure, sent in chunks of at most 65,535 bytes. Each chunk has a two-byte length in front of it, and a
length of zero ends the message. A zero between two messages is a NOOP, which keeps a connection alive.
"""

import re
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Any, NamedTuple

from worker_init.errors import ProtocolViolation
from worker_init.packstream import pack

_LARGEST_CHUNK = 0xFFFF
_END = b"\x00\x00"
# A chunk's length, the structure's marker and its tag: these bytes tell a scanner which message it is. The first chunk
# may hold the marker alone; then the second one begins with the tag.
_OPENING = 4
_ENDED = 5
# A message of two bytes, the marker and the tag, in one chunk.
_SHORTEST = 6
_OPENING_IN_TWO = 6


class Tag(IntEnum):
    """The kind of a message, in either direction."""

    HELLO = 0x01
    GOODBYE = 0x02
    RESET = 0x0F
    RUN = 0x10
    BEGIN = 0x11
    COMMIT = 0x12
    ROLLBACK = 0x13
    DISCARD = 0x2F
    PULL = 0x3F
    TELEMETRY = 0x54
    ROUTE = 0x66
    LOGON = 0x6A
    LOGOFF = 0x6B
    SUCCESS = 0x70
    RECORD = 0x71
    IGNORED = 0x7E
    FAILURE = 0x7F


class Piece(NamedTuple):
    """The part of one message that lies in one block of bytes: ``block[start:stop]``.

    ``tag`` is a plain integer, because a peer may send one that :class:`Tag` does not know.
    """

    tag: int
    start: int
    stop: int
    first: bool
    last: bool


# Creating a plain tuple takes half the time of a named one, and every byte of traffic goes through pieces.
_new_piece = tuple.__new__


def message(tag: Tag, *fields: Any) -> bytes:
    """Return a whole message, chunked and ended."""
    body = bytes((0xB0 | len(fields), tag)) + b"".join(map(pack, fields))
    return chunked(body)


def chunked(body: bytes) -> bytes:
    """Return the message's bytes as they go over the wire."""
    if len(body) <= _LARGEST_CHUNK:
        return struct.pack(">H", len(body)) + body + _END
    parts = (body[at:at + _LARGEST_CHUNK] for at in range(0, len(body), _LARGEST_CHUNK))
    return b"".join(struct.pack(">H", len(part)) + part for part in parts) + _END


def body_of(raw: bytes) -> bytes:
    """Return what a message's chunks hold; ``raw`` is the whole message as it came."""
    size = raw[0] << 8 | raw[1]
    return raw[2:-2] if size + 4 == len(raw) else b"".join(_chunks(raw))


def _chunks(raw: bytes) -> Iterator[bytes]:
    at = 0
    while size := raw[at] << 8 | raw[at + 1]:
        yield raw[at + 2:at + 2 + size]
        at += 2 + size


class NoMessage(ProtocolViolation):
    """The next bytes in a stream are not a message. ``before`` holds the pieces in front of them in the same block."""

    def __init__(self, why: str, before: list[Piece]) -> None:
        super().__init__(why)
        self.before = before


class Unchunker:
    """Follows the chunks of one message, and tells which of its bytes on the wire belong to its body.

    ``ended`` says that the message is over.
    """

    __slots__ = ("_header", "_left", "ended")

    def __init__(self) -> None:
        self.ended = False
        self._left = 0
        # The first byte of a chunk's length, if the second one has not arrived yet.
        self._header = b""

    def feed(self, block: bytes, at: int = 0, stop: int | None = None) -> list[tuple[int, int]]:
        """Return the spans of ``block[at:stop]`` that hold the body, in order: (start, stop) of each."""
        stop = len(block) if stop is None else stop
        spans: list[tuple[int, int]] = []
        while at < stop and not self.ended:
            if self._left:
                end = min(at + self._left, stop)
                spans.append((at, end))
                self._left -= end - at
            else:
                end = min(at + 2 - len(self._header), stop)
                self._header += block[at:end]
                if len(self._header) == 2:
                    self._left, self._header = int.from_bytes(self._header, "big"), b""
                    self.ended = not self._left
            at = end
        return spans


class Scanner:
    """Follows the messages in a stream, block by block.

    ``feed`` returns the pieces of ``self.block``. That is the block that was fed, after the few bytes of the last block
    that did not yet say which message they begin. With ``skip_records`` the scanner follows RECORDs but does not return
    them.
    """

    __slots__ = ("_held", "_left", "_skip", "_tag", "between_messages", "block")

    def __init__(self, *, skip_records: bool = False) -> None:
        self.block = b""
        # Whether everything fed so far ends at the end of a message.
        self.between_messages = True
        self._held = b""
        self._left = 0
        self._tag: int | None = None
        self._skip: int | None = Tag.RECORD if skip_records else None

    def feed(self, block: bytes) -> list[Piece]:
        """Return the pieces of the messages in ``self.block``, in order.

        Raises NoMessage if a message ends before its tag.
        """
        self.block = block = self._held + block if self._held else block
        pieces: list[Piece] = []
        start, first = 0, self._tag is None
        if first:
            start = self._whole_messages(block, pieces)
            if start == len(block):
                self._held, self.between_messages = b"", True
                return pieces
        ended = start < len(block)
        while ended:
            if self._tag is None:
                try:
                    start, first = self._find_message(block, start), True
                except ProtocolViolation as violation:
                    raise NoMessage(str(violation), pieces) from violation
                if self._tag is None:
                    break
            tag = self._tag
            at, ended = self._follow_message(block, start)
            if tag != self._skip and at > start:
                pieces.append(Piece(tag, start, at, first, ended))
            start = at
        self._held = block[start:]
        self.between_messages = self._tag is None and not self._held
        return pieces

    def _whole_messages(self, block: bytes, pieces: list[Piece]) -> int:
        """Add the messages at the start that are whole and in one chunk, as nearly all are. Return where they end."""
        at, end, skip = 0, len(block), self._skip
        while end - at >= _SHORTEST:
            tag = block[at + 3]
            if tag == skip:
                after = _after_records(block, at, end)
                if after == at:
                    break
            else:
                after = at + (block[at] << 8 | block[at + 1]) + 4
                if after - at < _SHORTEST or after > end or block[after - 1] or block[after - 2]:
                    break
                pieces.append(_new_piece(Piece, (tag, at, after, True, True)))
            at = after
        return at

    def _find_message(self, block: bytes, at: int) -> int:
        """Return where the next message begins, and note its tag if enough of it has arrived."""
        end = len(block)
        while True:
            if self._skip is not None:
                at = _after_records(block, at, end)
            if end - at < 2:
                return at
            size = block[at] << 8 | block[at + 1]
            if size:
                break
            at = _after_noops(block, at)
        self._tag = _tag_of(block, at, end, size)
        return at

    def _follow_message(self, block: bytes, at: int) -> tuple[int, bool]:
        """Return how far the current message is known to reach, and whether that is its end."""
        end = len(block)
        while True:
            at += self._left
            if at > end:
                self._left = at - end
                return end, False
            self._left = 0
            if end - at < 2:
                return at, False
            self._left = block[at] << 8 | block[at + 1]
            at += 2
            if not self._left:
                self._tag = None
                return at, True


_after_noops_match = re.compile(b"(?:\x00\x00){1,4096}").match


def _after_noops(block: bytes, at: int) -> int:
    """Return where a run of NOOPs that begins at ``at`` ends. The run may be longer."""
    run = _after_noops_match(block, at)
    return run.end() if run else at


def _tag_of(block: bytes, at: int, end: int, size: int) -> int | None:
    """Return the tag of the message whose first chunk, of ``size`` bytes, begins at ``at``; None: not here yet."""
    if size > 1:
        return block[at + 3] if end - at >= _OPENING else None
    if end - at >= _ENDED and not (block[at + 3] or block[at + 4]):
        raise ProtocolViolation("a message of one byte has no tag")
    return block[at + 5] if end - at >= _OPENING_IN_TWO else None


# A compiled pattern skips runs of short RECORDs, six times as fast as the loop below it. The pattern is exact: each
# length has one alternative that takes exactly that many bytes, and the first match is the longest run. The repeat is
# an ordinary one, because up to Python 3.11.4 a possessive one takes a byte too many if it ends within an alternative
# (python/cpython#106052). It is bounded, because it stores a position to go back to for each repetition.
_SHORTEST_RECORD, _SHORT_RECORD = 3, 0x80
_TURNS = 4096
_WORTH_A_PATTERN = 512
_FULL_TURNS = _TURNS * (_SHORTEST_RECORD + 4)
_short_records = re.compile(
    b"(?:\x00(?:%b)\x00\x00){0,%d}" % (b"|".join(
        b"\\x%02x\xb1\x71.{%d}" % (size, size - 2) for size in range(_SHORTEST_RECORD, _SHORT_RECORD)), _TURNS),
    re.DOTALL).match


def _after_records(block: bytes, at: int, end: int) -> int:
    """Return where the run of whole, single-chunk RECORDs that begins at ``at`` ends.

    Nearly everything that goes through a relay is rows, and this is nearly all that the relay does with them.
    """
    last = end - _OPENING
    # If few bytes are left, starting the pattern takes longer than the loop.
    goes_on = end - at >= _WORTH_A_PATTERN and block[at + 3] == 0x71
    while goes_on and (run := _short_records(block, at)):
        goes_on, at = run.end() - at >= _FULL_TURNS, run.end()
    while at <= last and block[at + 3] == 0x71:
        after = at + (block[at] << 8) + block[at + 1] + 4
        if after > end or block[after - 1] or block[after - 2]:
            break
        at = after
    return at
