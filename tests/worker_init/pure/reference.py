"""A scanner and a reader of PackStream that are slow and plainly right: the oracles for those in the package.

The scanner goes byte by byte, in the order of Bolt's specification; the reader calls itself for what a value holds.
"""

import struct
from enum import Enum, auto
from typing import Any, NamedTuple

from worker_init.packstream import Structure


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


class NoValue(Exception):
    """The bytes are not PackStream, or end within the value."""


def read_value(data: bytes, at: int) -> tuple[Any, int]:
    """Return the value at this offset and the offset after it. Raises NoValue."""
    marker, at = _number(data, at, 1)
    if marker < 0x80 or marker >= 0xF0:
        return (marker if marker < 0x80 else marker - 0x100), at
    if 0x80 <= marker < 0xC0:
        return _sized(data, at, ["text", "list", "map", "structure"][(marker - 0x80) // 16], marker % 16)
    if marker in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[marker], at
    if marker in (0xC1, 0xC8, 0xC9, 0xCA, 0xCB):
        layout = {0xC1: ">d", 0xC8: ">b", 0xC9: ">h", 0xCA: ">i", 0xCB: ">q"}[marker]
        raw, at = _take(data, at, struct.calcsize(layout))
        return struct.unpack(layout, raw)[0], at
    if marker == 0xE0:
        return _take(data, at, 16)
    for first, kind in ((0xCC, "bytes"), (0xD0, "text"), (0xD4, "list"), (0xD8, "map")):
        if first <= marker < first + 3:
            count, at = _number(data, at, 2 ** (marker - first))
            return _sized(data, at, kind, count)
    raise NoValue(marker)


def _sized(data: bytes, at: int, kind: str, count: int) -> tuple[Any, int]:
    if kind in ("bytes", "text"):
        raw, at = _take(data, at, count)
        return (raw if kind == "bytes" else raw.decode("utf-8", "replace")), at
    tag = None
    if kind == "structure":
        tag, at = _number(data, at, 1)
    items = []
    for _ in range(2 * count if kind == "map" else count):
        item, at = read_value(data, at)
        items.append(item)
    if kind == "map":
        if not all(isinstance(key, str) for key in items[::2]):
            raise NoValue("a key")
        return dict(zip(items[::2], items[1::2], strict=True)), at
    return (items if tag is None else Structure(tag, items)), at


def _number(data: bytes, at: int, width: int) -> tuple[int, int]:
    raw, at = _take(data, at, width)
    return int.from_bytes(raw, "big"), at


def _take(data: bytes, at: int, count: int) -> tuple[bytes, int]:
    if at + count > len(data):
        raise NoValue(at)
    return data[at:at + count], at + count
