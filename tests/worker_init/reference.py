"""A scanner that is slow and plainly right: the oracle for the one in the package.

It goes byte by byte, in the order of Bolt's specification, and uses neither patterns nor slices of unknown ends.
"""

from enum import Enum, auto
from typing import NamedTuple


class Found(NamedTuple):
    """A whole message: its tag, the bytes that its chunks hold, and its bytes on the wire."""

    tag: int
    body: bytes
    raw: bytes


class NoTag(Exception):
    """A message ended before its tag."""


class _Expected(Enum):
    HIGH = auto()
    LOW = auto()
    BODY = auto()


class ReferenceScanner:
    """Finds the messages of a stream; NOOPs are passed over."""

    def __init__(self) -> None:
        self._expected = _Expected.HIGH
        self._high = self._left = 0
        self._raw = bytearray()
        self._body = bytearray()

    @property
    def between_messages(self) -> bool:
        """Whether everything that was fed belongs to a whole message."""
        return not self._raw

    def feed(self, block: bytes) -> list[Found]:
        """Return the messages that ended in this block. Raises NoTag."""
        return [found for byte in block if (found := self._feed_byte(byte))]

    def _feed_byte(self, byte: int) -> Found | None:
        self._raw.append(byte)
        if self._expected is _Expected.HIGH:
            self._high = byte
            self._expected = _Expected.LOW
        elif self._expected is _Expected.LOW:
            self._left = 256 * self._high + byte
            self._expected = _Expected.BODY if self._left else _Expected.HIGH
            return None if self._left else self._end()
        else:
            self._body.append(byte)
            self._left -= 1
            self._expected = _Expected.BODY if self._left else _Expected.HIGH
        return None

    def _end(self) -> Found | None:
        body, raw = bytes(self._body), bytes(self._raw)
        self._body.clear()
        self._raw.clear()
        if not body:
            return None
        if len(body) == 1:
            raise NoTag
        return Found(body[1], body, raw)
