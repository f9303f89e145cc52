"""The part of PackStream that a relay needs: it reads a few fields, skips others, and writes its own answers.

Structures (nodes, dates, points ...) are read as :class:`Structure` and never written. Values may be nested to any
depth: nothing here is recursive. The server decides how deep is too deep.
"""

import re
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from worker_init.errors import ProtocolViolation


class Structure(NamedTuple):
    """A value that the relay passes on without knowing it."""

    tag: int
    fields: list[Any]


# Writing

def pack(value: Any) -> bytes:
    """Return the value's bytes. Raises TypeError for a type that the relay never sends."""
    out = bytearray()
    to_do = [value]
    while to_do:
        item = to_do.pop()
        if isinstance(item, dict):
            out += _size(len(item), 0xA0, 0xD8)
            for pair in reversed(item.items()):
                to_do += reversed(pair)
        elif isinstance(item, list | tuple):
            out += _size(len(item), 0x90, 0xD4)
            to_do += reversed(item)
        else:
            out += _single(item)
    return bytes(out)


def _single(value: Any) -> bytes:
    """Return the bytes of a value that contains no other values."""
    if value is None:
        return b"\xc0"
    if isinstance(value, bool | int | float):
        return _number(value)
    if isinstance(value, str):
        encoded = value.encode()
        return _size(len(encoded), 0x80, 0xD0) + encoded
    raise TypeError(f"{type(value).__name__} has no place in a message of the relay")


def _number(value: float) -> bytes:
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    return _integer(value) if isinstance(value, int) else struct.pack(">Bd", 0xC1, value)


def _integer(value: int) -> bytes:
    if -16 <= value < 128:
        return struct.pack(">b", value)
    for marker, code, bits in ((0xC8, "b", 7), (0xC9, "h", 15), (0xCA, "i", 31)):
        if -(1 << bits) <= value < 1 << bits:
            return struct.pack(f">B{code}", marker, value)
    return struct.pack(">Bq", 0xCB, value)


def _size(count: int, tiny: int, marker: int) -> bytes:
    if count < 16:
        return bytes((tiny | count,))
    if count < 0x100:
        return struct.pack(">BB", marker, count)
    if count < 0x10000:
        return struct.pack(">BH", marker + 1, count)
    return struct.pack(">BI", marker + 2, count)


def with_entries(data: bytes, added: dict[str, Any]) -> bytes:
    """Return a map's bytes with more entries in it. The bytes of its present entries are not changed.

    Raises ProtocolViolation if the bytes are not those of a map.
    """
    try:
        kind, count, at = _head(data, 0, data[0])
    except IndexError as error:
        raise ProtocolViolation(f"no PackStream: {error}") from error
    if kind != _MAP:
        raise ProtocolViolation("a map was expected")
    entries = (pack(part) for entry in added.items() for part in entry)
    return b"".join((_size(count + len(added), 0xA0, 0xD8), data[at:], *entries))


# Heads: the marker and, for values of variable size, the count after it

_TEXT, _LIST, _MAP, _STRUCTURE, _BYTES = 0x80, 0x90, 0xA0, 0xB0, 0xCC
# How many values each item of a list, a structure or a map has.
_VALUES_EACH = {_LIST: 1, _STRUCTURE: 1, _MAP: 2}
# Markers with a count after them: the kind of value, and the count's width. For text and bytes it counts bytes.
_SIZED = {first + power: (kind, 1 << power) for first, kind in (
    (0xCC, _BYTES), (0xD0, _TEXT), (0xD4, _LIST), (0xD8, _MAP)) for power in range(3)}
_SCALARS = {0xC1: ">d", 0xC8: ">b", 0xC9: ">h", 0xCA: ">i", 0xCB: ">q"}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
_UUID = 0xE0  # PackStream 2


def _fixed_size(marker: int) -> int:
    """Return how many bytes a value with this marker takes; 0 if the marker alone does not say."""
    if marker < 0x80 or marker >= 0xF0 or marker in _CONSTANTS:
        return 1
    if 0x80 <= marker < 0x90:
        return 1 + marker - 0x80
    if marker in _SCALARS:
        return 1 + struct.calcsize(_SCALARS[marker])
    return 17 if marker == _UUID else 0


def _head_size(marker: int) -> int:
    """Return how many bytes the head of a value of variable size takes; 0 if the marker is for another value."""
    if marker & 0xF0 == _STRUCTURE:
        return 2
    if marker & 0xF0 in (_LIST, _MAP):
        return 1
    return 1 + _SIZED[marker][1] if marker in _SIZED else 0


_FIXED_SIZES = bytes(map(_fixed_size, range(256)))
_HEAD_SIZES = bytes(map(_head_size, range(256)))


def _head(data: bytes, at: int, marker: int) -> tuple[int, int, int]:
    """Return the kind of a value of variable size, its count, and where its contents begin."""
    size = _HEAD_SIZES[marker]
    if not size:
        raise ProtocolViolation(f"PackStream knows no marker {marker:#x}")
    end = at + size
    if marker in _SIZED:
        return _SIZED[marker][0], int.from_bytes(_slice(data, at + 1, end), "big"), end
    return marker & 0xF0, marker & 0x0F, end


def _slice(data: bytes, start: int, stop: int) -> bytes:
    if stop > len(data):
        raise IndexError("the message ends within a value")
    return data[start:stop]


# Reading

def unpack(data: bytes, offset: int = 0) -> tuple[Any, int]:
    """Return the value that begins at ``offset`` and the offset after it.

    Bytes of text that are not UTF-8 become U+FFFD, as in Neo4j. Raises ProtocolViolation if the bytes are not
    PackStream, or if they end within the value.
    """
    try:
        return _unpack(data, offset)
    except (IndexError, struct.error) as error:
        raise ProtocolViolation(f"no PackStream at byte {offset}: {error}") from error


def unpack_map(data: bytes, offset: int = 0) -> tuple[dict[str, Any], int]:
    """Like :func:`unpack`, for a field that must be a map."""
    value, end = unpack(data, offset)
    if not isinstance(value, dict):
        raise ProtocolViolation(f"a map was expected at byte {offset}, not a {type(value).__name__}")
    return value, end


def _unpack(data: bytes, at: int) -> tuple[Any, int]:
    items: list[Any] = []
    size, kind, tag = 1, _LIST, 0
    outer: list[tuple[list[Any], int, int, int]] = []
    while True:
        while len(items) < size:
            marker = data[at]
            if leaf := _LEAVES[marker]:
                value, at = leaf(data, at)
                items.append(value)
            else:
                outer.append((items, size, kind, tag))
                kind, count, start = _head(data, at, marker)
                items, size, tag = [], count * _VALUES_EACH[kind], data[start - 1]
                at = start
        if not outer:
            return items[0], at
        value = _container(kind, tag, items)
        items, size, kind, tag = outer.pop()
        items.append(value)


def _container(kind: int, tag: int, items: list[Any]) -> Any:
    if kind == _LIST:
        return items
    if kind == _STRUCTURE:
        return Structure(tag, items)
    for key in items[::2]:
        if not isinstance(key, str):
            raise ProtocolViolation("a map has a key that is no text")
    return dict(zip(items[::2], items[1::2], strict=True))


def _tiny_integer(data: bytes, at: int) -> tuple[int, int]:
    return data[at], at + 1


def _negative_integer(data: bytes, at: int) -> tuple[int, int]:
    return data[at] - 0x100, at + 1


def _constant(data: bytes, at: int) -> tuple[bool | None, int]:
    return _CONSTANTS[data[at]], at + 1


def _tiny_text(data: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + (data[at] & 0x0F)
    return str(_slice(data, at + 1, end), "utf-8", "replace"), end


def _text(data: bytes, at: int) -> tuple[str, int]:
    _, count, at = _head(data, at, data[at])
    return str(_slice(data, at, at + count), "utf-8", "replace"), at + count


def _scalar(data: bytes, at: int) -> tuple[Any, int]:
    return struct.unpack_from(_SCALARS[data[at]], data, at + 1)[0], at + _FIXED_SIZES[data[at]]


def _bytes(data: bytes, at: int) -> tuple[bytes, int]:
    _, count, at = _head(data, at, data[at])
    return bytes(_slice(data, at, at + count)), at + count


def _uuid(data: bytes, at: int) -> tuple[bytes, int]:
    return bytes(_slice(data, at + 1, at + 17)), at + 17


_Leaf = Callable[[bytes, int], tuple[Any, int]]


def _leaf(marker: int) -> _Leaf | None:
    """Return the function that reads values with this marker; None if they contain others, or if there are none."""
    if marker < 0x80 or marker >= 0xF0:
        return _tiny_integer if marker < 0x80 else _negative_integer
    if marker in _CONSTANTS or marker in _SCALARS:
        return _constant if marker in _CONSTANTS else _scalar
    if marker & 0xF0 == _TEXT or marker == _UUID:
        return _tiny_text if marker & 0xF0 == _TEXT else _uuid
    kinds: dict[int, _Leaf] = {_TEXT: _text, _BYTES: _bytes}
    return kinds.get(_SIZED[marker][0]) if marker in _SIZED else None


_LEAVES = [_leaf(marker) for marker in range(256)]


# Skipping

def skip(data: bytes, offset: int = 0) -> int:
    """Return the offset after the value that begins at ``offset``, without creating the value.

    Raises ProtocolViolation as :func:`unpack` does, except for map keys that are not text. The time it takes grows with
    the value; :class:`Skipper` does the same in steps.
    """
    skipper, at = Skipper(), offset
    while not skipper.done:
        at = skipper.feed(data, at)
        if at == len(data) and not skipper.done:
            raise ProtocolViolation(f"no PackStream at byte {offset}: the message ends within a value")
    return at


# A pattern skips runs of numbers of the same size, such as those of a vector. This is ten times as fast.
_FEWEST_IN_A_RUN = 16
_MOST_IN_A_RUN = 4096
# This many values of a run take about as long as one single value.
_AS_ONE = 8
_ONE_BYTE = re.compile(rb"[\x00-\x7f\xf0-\xff\xc0\xc2\xc3]{0,%d}" % _MOST_IN_A_RUN).match
_RUNS = {marker: _ONE_BYTE for marker in range(256) if _FIXED_SIZES[marker] == 1 and marker != _TEXT} | {
    marker: re.compile(rb"(?:\x%02x.{%d}){0,%d}" % (marker, _FIXED_SIZES[marker] - 1, _MOST_IN_A_RUN), re.DOTALL).match
    for marker in _SCALARS}


class Skipper:
    """Skips values whose bytes arrive piece by piece, and keeps none of them.

    ``values`` is the number of values that follow each other: 2 for the query and the parameters of a RUN. ``done``
    says whether the last of them has ended.
    """

    __slots__ = ("_bytes_left", "_head", "_values_left")

    def __init__(self, values: int = 1) -> None:
        self._values_left = values
        # The bytes still to come of a value whose size is known.
        self._bytes_left = 0
        # The beginning of a head that is not complete: less than five bytes.
        self._head = b""

    @property
    def done(self) -> bool:
        """Whether all values have ended."""
        return not (self._values_left or self._bytes_left)

    def feed(self, data: bytes, at: int = 0, stop: int | None = None, *, budget: int = 20_000) -> int:
        """Skip the values in ``data[at:stop]``; return the offset that was reached.

        If the values are not done, the result ``stop`` means that more bytes are needed. A smaller result means that
        about ``budget`` values have been looked at: call again with that offset. Raises ProtocolViolation if a marker
        is unknown.
        """
        stop = len(data) if stop is None else stop
        if self._head:
            at = self._complete_head(data, at, stop)
        at = self._within(at + self._bytes_left, stop)
        while self._values_left and at < stop and budget > 0:
            reached, passed = self._run(data, at, stop)
            if not passed:
                reached, passed = self._one_by_one(data, at, stop, budget)
            at, budget = self._within(reached, stop), budget - passed
        return at

    def _within(self, reached: int, stop: int) -> int:
        """Note how much of a value lies after ``stop``."""
        self._bytes_left = max(reached - stop, 0)
        return min(reached, stop)

    def _complete_head(self, data: bytes, at: int, stop: int) -> int:
        marker = self._head[0]
        end = min(at + _HEAD_SIZES[marker] - len(self._head), stop)
        self._head += data[at:end]
        if len(self._head) == _HEAD_SIZES[marker]:
            self._bytes_left, self._values_left = self._opened(self._head, 0, marker, self._values_left)
            self._bytes_left -= len(self._head)
            self._head = b""
        return end

    @staticmethod
    def _opened(data: bytes, at: int, marker: int, values_left: int) -> tuple[int, int]:
        """Return where a value of variable size continues, and how many values are left there."""
        kind, count, at = _head(data, at, marker)
        if kind in _VALUES_EACH:
            return at, values_left - 1 + count * _VALUES_EACH[kind]
        return at + count, values_left - 1

    def _run(self, data: bytes, at: int, stop: int) -> tuple[int, int]:
        """Return where a run of numbers of one size ends, and its cost; 0 if the run is too short."""
        if self._values_left < _FEWEST_IN_A_RUN or not (pattern := _RUNS.get(data[at])):
            return at, 0
        size = _FIXED_SIZES[data[at]]
        run = pattern(data, at, min(stop, at + self._values_left * size))
        end = run.end() if run else at
        values = (end - at) // size
        self._values_left -= values
        return end, -(-values // _AS_ONE)

    def _one_by_one(self, data: bytes, at: int, stop: int, budget: int) -> tuple[int, int]:
        """Return where the next ``budget`` values end, or where a long list begins, and how many values were passed."""
        left, fixed, passed = self._values_left, _FIXED_SIZES, 0
        while left and at < stop and passed < budget:
            passed += 1
            marker = data[at]
            if size := fixed[marker]:
                at += size
                left -= 1
            elif at + _HEAD_SIZES[marker] > stop:
                self._head = bytes(data[at:stop])
                at = stop
            else:
                before = left
                at, left = self._opened(data, at, marker, left)
                if left - before >= _FEWEST_IN_A_RUN:
                    break
        self._values_left = left
        return at, passed
