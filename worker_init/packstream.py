"""The part of PackStream that a relay needs: to read a few fields, and to write its own answers.

Structures (nodes, dates, points ...) are read as :class:`Structure` and never written.
"""

import struct
from typing import Any, NamedTuple

from worker_init.errors import ProtocolViolation

# A value that nests deeper than this is nothing a driver sends in a field that the relay reads.
_DEEPEST = 100


class Structure(NamedTuple):
    """A value that the relay passes on without knowing it."""

    tag: int
    fields: list[Any]


def pack(value: Any) -> bytes:
    """Return the value's bytes. Raises TypeError for what the relay has no reason to send."""
    out = bytearray()
    _pack(value, out)
    return bytes(out)


def _pack(value: Any, out: bytearray) -> None:
    if value is None:
        out.append(0xC0)
    elif isinstance(value, bool | int | float):
        out += _number(value)
    elif isinstance(value, str):
        encoded = value.encode()
        out += _size(len(encoded), 0x80, 0xD0) + encoded
    elif isinstance(value, list | tuple):
        out += _size(len(value), 0x90, 0xD4)
        for item in value:
            _pack(item, out)
    elif isinstance(value, dict):
        _pack_map(value, out)
    else:
        raise TypeError(f"{type(value).__name__} has no place in a message of the relay")


def _pack_map(value: dict[str, Any], out: bytearray) -> None:
    out += _size(len(value), 0xA0, 0xD8)
    for key, item in value.items():
        _pack(key, out)
        _pack(item, out)


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


def unpack(data: bytes, offset: int = 0) -> tuple[Any, int]:
    """Return the value that begins at ``offset`` and the offset after it.

    Raises ProtocolViolation where the bytes are not PackStream, or end within the value.
    """
    try:
        return _unpack(data, offset, 0)
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise ProtocolViolation(f"no PackStream at byte {offset}: {error}") from error


def unpack_map(data: bytes, offset: int = 0) -> tuple[dict[str, Any], int]:
    """Like :func:`unpack`, for a field that has to be a map."""
    value, end = unpack(data, offset)
    if not isinstance(value, dict):
        raise ProtocolViolation(f"a map was expected at byte {offset}, not a {type(value).__name__}")
    return value, end


def skip(data: bytes, offset: int = 0) -> int:
    """Return the offset after the value that begins at ``offset``, without making the value.

    The parameters of a query may be millions of values, and all clients of a host wait meanwhile. Raises
    ProtocolViolation as :func:`unpack` does.
    """
    at, left, fixed = offset, 1, _FIXED_SIZES
    try:
        while left:
            left -= 1
            marker = data[at]
            if size := fixed[marker]:
                at += size
            else:
                at, count = _skip_head(data, at, marker)
                left += count
    except (IndexError, struct.error) as error:
        raise ProtocolViolation(f"no PackStream at byte {offset}: {error}") from error
    if at > len(data):
        raise ProtocolViolation(f"no PackStream at byte {offset}: the message ends within a value")
    return at


def _skip_head(data: bytes, at: int, marker: int) -> tuple[int, int]:
    """Return where a value of variable size goes on, and how many values it holds there."""
    kind, low = marker & 0xF0, marker & 0x0F
    if kind in _VALUES_EACH:
        return at + (2 if kind == 0xB0 else 1), low * _VALUES_EACH[kind]
    if marker not in _SIZED:
        raise ProtocolViolation(f"PackStream knows no marker {marker:#x}")
    kind, width = _SIZED[marker]
    count, at = _count(data, at + 1, width)
    return (at, count * _VALUES_EACH[kind]) if kind in _VALUES_EACH else (at + count, 0)


# How many values one item of a list, a structure, a map has.
_VALUES_EACH = {0x90: 1, 0xB0: 1, 0xA0: 2}
# Markers with a count behind them: what they are, and the count's width. Texts and bytes count bytes.
_SIZED = ({0xCC + n: (0x80, 1 << n) for n in range(3)} | {0xD0 + n: (0x80, 1 << n) for n in range(3)}
          | {0xD4 + n: (0x90, 1 << n) for n in range(3)} | {0xD8 + n: (0xA0, 1 << n) for n in range(3)})


def _fixed_size(marker: int) -> int:
    """Return how many bytes a value with this marker takes, 0 where the marker alone does not say."""
    if marker < 0x80 or marker >= 0xF0 or marker in _CONSTANTS:
        return 1
    if 0x80 <= marker < 0x90:
        return 1 + marker - 0x80
    if marker in _SCALARS:
        return 1 + struct.calcsize(_SCALARS[marker])
    return 17 if marker == 0xE0 else 0


def with_entries(data: bytes, added: dict[str, Any]) -> bytes:
    """Return a map's bytes with more entries in it; what it holds stays byte for byte as it is."""
    if data[0] & 0xF0 == 0xA0:
        at, count = 1, data[0] & 0x0F
    else:
        count, at = _count(data, 1, _SIZED[data[0]][1])
    out = bytearray(_size(count + len(added), 0xA0, 0xD8) + data[at:])
    for key, item in added.items():
        _pack(key, out)
        _pack(item, out)
    return bytes(out)


def _unpack(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    marker = data[at]
    at += 1
    if marker < 0x80 or marker >= 0xF0:
        return marker if marker < 0x80 else marker - 0x100, at
    kind, low = marker & 0xF0, marker & 0x0F
    if kind == 0x80:
        return _text(data, at, low)
    if kind == 0xC0:
        return _scalar(data, at, marker)
    if marker == 0xE0:  # UUID, PackStream 2
        return _slice(data, at, 16)
    if depth == _DEEPEST:
        raise ProtocolViolation(f"values nest deeper than {_DEEPEST}")
    if kind == 0xB0:
        fields, end = _list(data, at + 1, low, depth)
        return Structure(data[at], fields), end
    return _sized(data, at, marker, depth)


def _sized(data: bytes, at: int, marker: int, depth: int) -> tuple[Any, int]:
    """Read a list, a map or a text: its count is in the marker, or in the bytes after it."""
    kind, count = marker & 0xF0, marker & 0x0F
    if kind == 0xD0:
        kind = {0: 0x80, 1: 0x90, 2: 0xA0}.get(count >> 2, 0)
        width = 1 << (count & 3)
        if not kind or width > 4:
            raise ProtocolViolation(f"PackStream knows no marker {marker:#x}")
        count, at = _count(data, at, width)
    if kind == 0x80:
        return _text(data, at, count)
    if kind == 0x90:
        return _list(data, at, count, depth)
    if kind == 0xA0:
        return _map(data, at, count, depth)
    raise ProtocolViolation(f"PackStream knows no marker {marker:#x}")


_SCALARS = {0xC1: ">d", 0xC8: ">b", 0xC9: ">h", 0xCA: ">i", 0xCB: ">q"}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


def _scalar(data: bytes, at: int, marker: int) -> tuple[Any, int]:
    if marker in _CONSTANTS:
        return _CONSTANTS[marker], at
    if layout := _SCALARS.get(marker):
        return struct.unpack_from(layout, data, at)[0], at + struct.calcsize(layout)
    if marker in (0xCC, 0xCD, 0xCE):
        width = 1 << (marker - 0xCC)
        count, at = _count(data, at, width)
        return _slice(data, at, count)
    raise ProtocolViolation(f"PackStream knows no marker {marker:#x}")


def _count(data: bytes, at: int, width: int) -> tuple[int, int]:
    raw, end = _slice(data, at, width)
    return int.from_bytes(raw, "big"), end


def _slice(data: bytes, at: int, count: int) -> tuple[bytes, int]:
    if at + count > len(data):
        raise IndexError("the message ends within a value")
    return bytes(data[at:at + count]), at + count


def _text(data: bytes, at: int, count: int) -> tuple[str, int]:
    encoded, end = _slice(data, at, count)
    return encoded.decode(), end


def _list(data: bytes, at: int, count: int, depth: int) -> tuple[list[Any], int]:
    items = []
    for _ in range(count):
        item, at = _unpack(data, at, depth + 1)
        items.append(item)
    return items, at


def _map(data: bytes, at: int, count: int, depth: int) -> tuple[dict[str, Any], int]:
    items = {}
    for _ in range(count):
        key, at = _unpack(data, at, depth + 1)
        items[str(key)], at = _unpack(data, at, depth + 1)
    return items, at


_FIXED_SIZES = bytes(_fixed_size(marker) for marker in range(256))
