"""The wire: what the scanner says of a stream does not depend on how the stream is cut."""

import contextlib
import random
import struct

import pytest

from worker_init.bolt import Scanner, Tag, body_of, chunked, message
from worker_init.errors import ProtocolViolation
from worker_init.packstream import Structure, pack, skip, unpack, unpack_map, with_entries


def record(payload: bytes, chunk: int = 0xFFFF) -> bytes:
    body = b"\xb1\x71" + payload
    parts = [body[at:at + chunk] for at in range(0, len(body), chunk)]
    return b"".join(struct.pack(">H", len(part)) + part for part in parts) + b"\x00\x00"


def stream(seed: int) -> tuple[bytes, list[tuple[int, bytes]]]:
    """Return random messages, NOOPs between them, and what a scanner has to find."""
    chance = random.Random(seed)
    wire, found = b"", []
    for _ in range(60):
        kind = chance.random()
        if kind < 0.6:
            size = chance.choice([1, 2, 20, 60, 124, 125, 126, 127, 128, 200, 300, 70_000])
            # Payloads full of what looks like ends and summaries.
            payload = b"".join(chance.choice([b"\x00\x00", b"\x00\x02\xb0\x7e\x00\x00", b"\xb1\x70", b"\xb1\x71", b"x"])
                               for _ in range(size))[:size]
            wire += record(payload, chance.choice([2, 50, 0xFFFF]))
        elif kind < 0.7:
            wire += b"\x00\x00"
        else:
            body = b"\xb1\x70" + pack({"k": "v" * chance.choice([0, 10, 300, 70_000])})
            wire += chunked(body)
            found.append((int(Tag.SUCCESS), body))
    return wire, found


def scanned(blocks: list[bytes], *, skip_records: bool) -> list[tuple[int, bytes]]:
    scanner, found, open_message = Scanner(skip_records=skip_records), [], b""
    for block in blocks:
        for piece in scanner.feed(block):
            assert piece.first == (not open_message)
            open_message += scanner.block[piece.start:piece.stop]
            if piece.last:
                found.append((piece.tag, body_of(open_message)))
                open_message = b""
    assert scanner.between_messages
    return found


def cut(wire: bytes, seed: int, largest: int) -> list[bytes]:
    chance, blocks, at = random.Random(seed), [], 0
    while at < len(wire):
        size = chance.randint(1, largest)
        blocks.append(wire[at:at + size])
        at += size
    return blocks


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("largest", [7, 100, 5000, 1_000_000])
def test_messages_are_found_however_the_stream_is_cut(seed: int, largest: int) -> None:
    wire, expected = stream(seed)
    assert scanned(cut(wire, seed, largest), skip_records=True) == expected
    with_records = scanned(cut(wire, seed + 1, largest), skip_records=False)
    assert [found for found in with_records if found[0] != Tag.RECORD] == expected


def test_single_bytes_are_enough() -> None:
    wire = message(Tag.SUCCESS, {"a": 1}) + record(b"\x91\x01") + message(Tag.FAILURE, {})
    assert [tag for tag, _ in scanned([bytes((byte,)) for byte in wire], skip_records=True)] == [0x70, 0x7F]


def test_a_message_that_hides_its_tag_is_refused() -> None:
    with pytest.raises(ProtocolViolation):
        Scanner().feed(b"\x00\x01\xb1\x00\x01\x70")


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
