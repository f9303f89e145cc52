"""The wire: messages and PackStream. The scanner has tests of its own."""

import contextlib
import random

import pytest

from worker_init.bolt import Scanner, Tag
from worker_init.errors import ProtocolViolation
from worker_init.packstream import Structure, pack, skip, unpack, unpack_map, with_entries


def test_a_tag_in_the_second_chunk_is_found() -> None:
    assert [piece.tag for piece in Scanner().feed(b"\x00\x01\xb1\x00\x01\x70\x00\x00")] == [Tag.SUCCESS]


def test_a_message_without_a_tag_is_refused() -> None:
    with pytest.raises(ProtocolViolation):
        Scanner().feed(b"\x00\x01\xb1\x00\x00\x00")


VALUES = [None, True, False, 0, -16, -17, 127, 128, -128, -129, 2**15, 2**31, -2**63, 2**63 - 1, 1.5, "", "é" * 300,
          "x" * 70_000, [], list(range(20)), {}, {str(key): key for key in range(300)}, {"a": [{"b": [None]}]}]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_what_is_packed_is_unpacked(value: object) -> None:
    packed = pack(value)
    assert unpack(b"\x00" + packed, 1) == (value, len(packed) + 1)
    assert skip(b"\x00" + packed, 1) == len(packed) + 1


@pytest.mark.parametrize(("data", "value"), [
    (b"\xcc\x02\x01\x02", b"\x01\x02"), (b"\xe0" + bytes(16), bytes(16)),
    (b"\xb2\x44\x01\x02", Structure(0x44, [1, 2]))])
def test_values_that_are_only_read(data: bytes, value: object) -> None:
    assert unpack(data) == (value, len(data))
    assert skip(data) == len(data)


@pytest.mark.parametrize("count", [0, 1, 14, 15, 16, 300])
def test_entries_are_added_to_a_map_that_else_stays_as_it_is(count: int) -> None:
    held = b"".join(pack(f"key{number}") + b"\xb1\x44\x07" for number in range(count))
    header = pack(dict.fromkeys(map(str, range(count))))[:1 if count < 16 else 2 if count < 256 else 3]
    changed = with_entries(header + held, {"more": [1], "and": "more"})
    assert held in changed
    value, end = unpack_map(changed)
    assert end == len(changed)
    assert value == {f"key{number}": Structure(0x44, [7]) for number in range(count)} | {"more": [1], "and": "more"}


BROKEN = [b"", b"\x81", b"\xd0", b"\xd0\x05abc", b"\x91", b"\xa1\x81a", b"\xcb\x00", b"\xc4", b"\xdf", b"\xcc\x09x",
          b"\x91" * 200 + b"\x01", b"\x82\xff\xff"]
# Depth and text can only be judged by who reads the value.
ANOTHERS_BUSINESS = BROKEN[-2:]


@pytest.mark.parametrize("data", BROKEN, ids=bytes.hex)
def test_what_is_no_packstream_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        unpack(data)


@pytest.mark.parametrize("data", [data for data in BROKEN if data not in ANOTHERS_BUSINESS], ids=bytes.hex)
def test_what_is_no_packstream_cannot_be_skipped(data: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        skip(data)


def test_a_map_is_asked_for() -> None:
    with pytest.raises(ProtocolViolation):
        unpack_map(b"\x01")


def test_random_bytes_never_do_worse_than_a_violation() -> None:
    chance = random.Random(7)
    for _ in range(5000):
        data = chance.randbytes(chance.randint(1, 60))
        with contextlib.suppress(ProtocolViolation):
            end = unpack(data)[1]
            assert end <= len(data)
            assert skip(data) == end
        with contextlib.suppress(ProtocolViolation):
            assert skip(data) <= len(data)
        with contextlib.suppress(ProtocolViolation):
            assert Scanner().feed(data) is not None
