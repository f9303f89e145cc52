"""The scanner against the reference: the same messages, whatever is sent and however it is cut."""

import itertools
import struct
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.worker_init.pure.reference import Found, NoTag, ReferenceScanner
from worker_init.bolt import Scanner, Tag, body_of
from worker_init.errors import ProtocolViolation

NOOP = b"\x00\x00"
# Bytes that look like ends, summaries and rows.
_TRAPS = [b"\x00\x00", b"\x00\x02\xb0\x7e\x00\x00", b"\x00\x03\xb1\x71\x90\x00\x00", b"\xb1\x70", b"\xb1\x71", b"\x00",
          b"x"]
# Short rows around the sizes at which the scanner changes its way, and longer ones.
_SIZES = st.one_of(st.integers(0, 12), st.integers(120, 132), st.sampled_from([255, 256, 1000]))
_TAGS = st.sampled_from([Tag.RECORD] * 6 + [Tag.SUCCESS, Tag.FAILURE, Tag.IGNORED, Tag.RUN, 0x00, 0x99])


def chunked_by(body: bytes, sizes: Sequence[int]) -> bytes:
    """Return the body in chunks of these sizes, over and over; the last one is as long as it has to be."""
    wire, at = bytearray(), 0
    for size in itertools.cycle(sizes):
        part = body[at:at + size]
        if not part:
            return bytes(wire + NOOP)
        wire += struct.pack(">H", len(part)) + part
        at += size
    raise ValueError("no sizes")


@st.composite
def messages(draw: st.DrawFn, sizes_of: st.SearchStrategy[int] = _SIZES) -> bytes:
    """One message on the wire, in chunks of any size, NOOPs before it."""
    size = draw(sizes_of)
    traps = draw(st.lists(st.sampled_from(_TRAPS), min_size=1, max_size=4))
    payload = (b"".join(traps) * size)[:size]
    body = bytes((draw(st.sampled_from([0xB0, 0xB1, 0xB3])), draw(_TAGS))) + payload
    sizes = draw(st.sampled_from([[0xFFFF]] * 4 + [[1], [2], [1, 0xFFFF], [2, 1], [50], [0x71], [0x100]]))
    return NOOP * draw(st.sampled_from([0] * 5 + [1, 2])) + chunked_by(body, sizes)


streams = st.lists(messages(), min_size=1, max_size=12).map(b"".join)
cuts = st.lists(st.integers(1, 300), min_size=1, max_size=8)


def cut(wire: bytes, sizes: Sequence[int]) -> list[bytes]:
    """Return the stream in blocks of these sizes, over and over."""
    ends = itertools.takewhile(lambda end: end < len(wire), itertools.accumulate(itertools.cycle(sizes)))
    return [wire[start:stop] for start, stop in itertools.pairwise([0, *ends, len(wire)])]


def expected_of(blocks: list[bytes]) -> tuple[list[Found], bool]:
    reference = ReferenceScanner()
    found = [message for block in blocks for message in reference.feed(block)]
    return found, reference.between_messages


def found_by(scanner: Scanner, blocks: list[bytes]) -> list[Found]:
    found, raw = [], b""
    for block in blocks:
        reached = 0
        for piece in scanner.feed(block):
            assert reached <= piece.start < piece.stop <= len(scanner.block)
            assert piece.first == (not raw)
            reached = piece.stop
            raw += scanner.block[piece.start:piece.stop]
            if piece.last:
                found.append(Found(piece.tag, body_of(raw), raw))
                raw = b""
    return found


def check(blocks: list[bytes]) -> None:
    expected, is_between = expected_of(blocks)
    for skips in (False, True):
        scanner = Scanner(skip_records=skips)
        wanted = [message for message in expected if not (skips and message.tag == Tag.RECORD)]
        assert found_by(scanner, blocks) == wanted
        assert scanner.between_messages == is_between


@given(streams, cuts)
@example(bytes.fromhex("0003b17090000000" "03b1719000000003b170900000"), [300])
def test_every_cut_of_every_stream_says_the_same(wire: bytes, sizes: list[int]) -> None:
    check([wire])
    check(cut(wire, sizes))


@given(streams.filter(lambda wire: len(wire) < 400))
def test_single_bytes_say_the_same(wire: bytes) -> None:
    check([bytes((byte,)) for byte in wire])
    check(cut(wire, [1, 2]))


@given(st.lists(messages(st.sampled_from([1, 65_533, 65_534, 140_000])), min_size=1, max_size=3).map(b"".join),
       st.lists(st.integers(100, 70_000), min_size=1, max_size=4))
@settings(max_examples=10)
def test_messages_of_more_than_a_chunk_say_the_same(wire: bytes, sizes: list[int]) -> None:
    check(cut(wire, sizes))


@given(streams, st.integers(0, 400), cuts)
def test_a_stream_that_ends_within_a_message_says_the_same(wire: bytes, end: int, sizes: list[int]) -> None:
    check(cut(wire[:end], sizes))


@given(st.binary(max_size=200), cuts)
def test_any_bytes_say_the_same_or_are_refused_by_both(wire: bytes, sizes: list[int]) -> None:
    blocks = cut(wire, sizes)
    try:
        expected_of(blocks)
    except NoTag:
        for skips in (False, True):
            with pytest.raises(ProtocolViolation):
                found_by(Scanner(skip_records=skips), blocks)
    else:
        check(blocks)


@pytest.mark.parametrize("payload", [1, 3, 40, 125, 126])
@pytest.mark.parametrize("rows", [4095, 4096, 4097, 9000])
def test_long_runs_of_rows_end_where_they_end(rows: int, payload: int) -> None:
    """A SUCCESS, many rows, a SUCCESS; what is behind them is cut at every byte."""
    row, summary = chunked_by(b"\xb1\x71" + bytes(payload), [0xFFFF]), chunked_by(b"\xb1\x70\xa0", [0xFFFF])
    for kept in range(len(summary) + 1):
        scanner = Scanner(skip_records=True)
        found = found_by(scanner, [summary + row * rows + summary[:kept], summary[kept:]])
        assert [message.raw for message in found] == [summary, summary]
        assert scanner.between_messages


def test_a_row_of_short_rows_ends_at_the_right_byte() -> None:
    """The pattern that went a byte too far on Python 3.11.2: SUCCESS, RECORD, SUCCESS."""
    summary, row = bytes.fromhex("0003b170a00000"), bytes.fromhex("0004b17191010000")
    scanner = Scanner(skip_records=True)
    pieces = scanner.feed(summary + row + summary)
    assert [(piece.start, piece.stop) for piece in pieces] == [(0, 7), (15, 22)]
