"""Messages on the wire. The scanner has tests of its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker_init.pure.test_scanner import chunked_by, cut
from worker_init.bolt import Scanner, Tag, Unchunker, body_of, chunked, message
from worker_init.errors import ProtocolViolation


def test_a_tag_in_the_second_chunk_is_found() -> None:
    assert [piece.tag for piece in Scanner().feed(b"\x00\x01\xb1\x00\x01\x70\x00\x00")] == [Tag.SUCCESS]


def test_a_message_without_a_tag_is_refused_as_soon_as_it_ends() -> None:
    scanner = Scanner()
    assert not scanner.feed(b"\x00\x01\xb1\x00")
    with pytest.raises(ProtocolViolation):
        scanner.feed(b"\x00")


def test_a_message_is_a_structure_in_chunks() -> None:
    assert message(Tag.PULL, {"n": 1}) == b"\x00\x06\xb1\x3f\xa1\x81n\x01\x00\x00"


@pytest.mark.parametrize("size", [0xFFFF, 0x10000, 0x1FFFE, 200_000])
def test_a_message_may_take_more_than_a_chunk(size: int) -> None:
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert body_of(chunked(body)) == body


@given(st.binary(min_size=1, max_size=300), st.lists(st.integers(1, 20), min_size=1, max_size=5),
       st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_a_body_is_found_however_it_is_chunked_and_cut(body: bytes, chunks: list[int], cuts: list[int]) -> None:
    wire = chunked_by(body, chunks)
    assert body_of(wire) == body
    unchunker, found = Unchunker(), b""
    for block in cut(wire, cuts):
        assert not unchunker.ended
        padded = b"x" + block + b"x"
        found += b"".join(padded[start:stop] for start, stop in unchunker.feed(padded, 1, len(padded) - 1))
    assert unchunker.ended
    assert found == body
    assert not unchunker.feed(b"\x00\x01x")
