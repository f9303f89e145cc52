"""PackStream: what is written is read, what is no PackStream is refused, and what is passed over ends where it ends."""

import math
import struct
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.worker_init.pure.reference import NoValue, read_value
from tests.worker_init.pure.test_scanner import cut
from worker_init.errors import ProtocolViolation
from worker_init.packstream import Skipper, Structure, pack, skip, unpack, unpack_map, with_entries

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


@pytest.mark.parametrize("data", [b"", b"\xd8", b"\xd9\x00", b"\x91\x01", b"\xc7", b"\x01"], ids=bytes.hex)
def test_entries_are_only_added_to_a_map(data: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        with_entries(data, {"more": 1})


BROKEN = [b"", b"\x81", b"\xd0", b"\xd0\x05abc", b"\x91", b"\xa1\x81a", b"\xcb\x00", b"\xc4", b"\xdf", b"\xcc\x09x",
          b"\xa1\x81a\xd6\x00\x00\x00", b"\xb1", b"\xd6\xff\xff\xff\xff\x01", b"\xe0" + bytes(15)]


@pytest.mark.parametrize("data", BROKEN, ids=bytes.hex)
@pytest.mark.parametrize("reader", [unpack, skip])
def test_what_is_no_packstream_is_refused(data: bytes, reader: Any) -> None:
    with pytest.raises(ProtocolViolation):
        reader(data)


def test_a_key_has_to_be_a_text() -> None:
    with pytest.raises(ProtocolViolation):
        unpack(b"\xa1\x01\x01")


def test_a_text_that_is_no_utf8_is_read_as_neo4j_reads_it() -> None:
    assert unpack(b"\x83a\xffb") == ("a\ufffdb", 4)


def test_a_map_is_asked_for() -> None:
    with pytest.raises(ProtocolViolation):
        unpack_map(b"\x01")


@pytest.mark.parametrize("opening", [b"\x91", b"\xa1\x81k", b"\xb1\x58", b"\xd6\x00\x00\x00\x01"], ids=bytes.hex)
def test_depth_has_no_bound(opening: bytes) -> None:
    deep = opening * 20_000 + b"\x07"
    value, end = unpack(deep)
    assert end == skip(deep) == len(deep)
    while not isinstance(value, int):
        value = value.fields[0] if isinstance(value, Structure) else value["k"] if "k" in value else value[0]
    assert value == 7


def test_what_is_deep_can_be_written() -> None:
    value: Any = 7
    for _ in range(20_000):
        value = [{"k": value}]
    assert pack(value) == b"\x91\xa1\x81k" * 20_000 + b"\x07"


# Any bytes that are PackStream, the shortest form or not, and values that hold others.
_LENGTHS = {"text": (0xD0, 0xD1, 0xD2), "list": (0xD4, 0xD5, 0xD6), "map": (0xD8, 0xD9, 0xDA),
            "bytes": (0xCC, 0xCD, 0xCE)}
_LETTERS = "aZ\0\x7fé€\U0001f600"
_TINY = {"text": 0x80, "list": 0x90, "map": 0xA0}


@st.composite
def heads(draw: st.DrawFn, kind: str, count: int) -> bytes:
    """Draw the head of a value, in one of its forms."""
    forms = [struct.pack(">B" + code, marker, count) for marker, code, most in zip(
        _LENGTHS[kind], "BHI", (0xFF, 0xFFFF, 0xFFFFFFFF), strict=True) if count <= most]
    if kind in _TINY and count < 16:
        forms.append(bytes((_TINY[kind] | count,)))
    return draw(st.sampled_from(forms))


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """Draw a text, valid UTF-8 or not, or bytes."""
    raw = draw(st.one_of(st.text(_LETTERS, max_size=20).map(str.encode), st.binary(max_size=300)))
    return draw(heads(draw(st.sampled_from(["text", "bytes"])), len(raw))) + raw


@st.composite
def containers(draw: st.DrawFn, items: st.SearchStrategy[bytes]) -> bytes:
    """Draw a list, a map or a structure."""
    kind = draw(st.sampled_from(["list", "map", "structure"]))
    held = draw(st.lists(items, max_size=6))
    if kind == "structure":
        return bytes((0xB0 | len(held), draw(st.integers(0, 255)))) + b"".join(held)
    if kind == "map":
        held = [draw(st.text(_LETTERS, max_size=3).map(pack)) + item for item in held]
    return draw(heads(kind, len(held))) + b"".join(held)


_SINGLE = st.one_of(
    st.integers(-2**63, 2**63 - 1).map(pack), st.integers(-20, 200).map(pack), st.floats().map(pack),
    st.booleans().map(pack), st.just(b"\xc0"), texts(),
    st.binary(min_size=16, max_size=16).map(lambda raw: b"\xe0" + raw))


@st.composite
def vectors(draw: st.DrawFn) -> bytes:
    """Draw a long list of numbers of one size, and of another size from somewhere on."""
    first, second = draw(st.integers(0, 40)), draw(st.integers(0, 40))
    head = draw(heads("list", first + second))
    return b"".join((head, draw(_SINGLE) * first, draw(_SINGLE) * second))


values = st.recursive(st.one_of(_SINGLE, vectors()), containers, max_leaves=20)


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal; NaN is equal to itself here."""
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, Structure) and isinstance(other, Structure):
        return one.tag == other.tag and same(one.fields, other.fields)
    if isinstance(one, dict) and isinstance(other, dict):
        return [*one] == [*other] and same([*one.values()], [*other.values()])
    return type(one) is type(other) and bool(one == other)


@given(values, st.binary(max_size=5))
def test_values_are_read_as_the_reference_reads_them(data: bytes, behind: bytes) -> None:
    value, end = unpack(data + behind)
    expected, expected_end = read_value(data, 0)
    assert end == expected_end == len(data)
    assert same(value, expected)
    assert skip(data + behind) == len(data)


@given(values, st.integers(0, 400))
def test_values_that_are_cut_short_are_refused(data: bytes, end: int) -> None:
    for reader in (unpack, skip):
        with pytest.raises(ProtocolViolation):
            reader(data[:min(end, len(data) - 1)])


@given(st.binary(max_size=60))
@example(b"\xa1\x01\x01")
@example(b"\xd6\x00\x00\x00\x14" + bytes(19) + b"\xc8\x01")
def test_any_bytes_are_read_as_the_reference_reads_them_or_refused(data: bytes) -> None:
    try:
        expected = read_value(data, 0)
    except NoValue:
        with pytest.raises(ProtocolViolation):
            unpack(data)
    else:
        value, end = unpack(data)
        assert end == expected[1] == skip(data)
        assert same(value, expected[0])


def passed_over(blocks: list[bytes], count: int, budget: int) -> tuple[int, bool]:
    """Return how many bytes of the blocks a Skipper has passed over, and whether it is done."""
    skipper, passed = Skipper(count), 0
    for block in blocks:
        padded, at = b"\x01" + block + b"\x01", 1
        while not skipper.done and at <= len(block):
            before, at = at, skipper.feed(padded, at, len(block) + 1, budget=budget)
            assert at > before
        passed += at - 1
    return passed, skipper.done


@given(st.lists(values, min_size=1, max_size=3), st.lists(st.integers(1, 60), min_size=1, max_size=6),
       st.integers(1, 50), st.binary(max_size=5))
def test_values_end_where_they_end_however_they_are_cut(parts: list[bytes], cuts: list[int], budget: int, behind: bytes,
                                                        ) -> None:
    data = b"".join(parts)
    assert passed_over(cut(data + behind, cuts), len(parts), budget) == (len(data), True)
    assert passed_over([bytes((byte,)) for byte in data], len(parts), 1) == (len(data), True)
    assert not passed_over(cut(data[:-1], cuts), len(parts), budget)[1]


@pytest.mark.parametrize("item", [pack(item) for item in (1, -16, None, 1.5, -17, 2**8, 2**16, 2**32)], ids=bytes.hex)
@pytest.mark.parametrize("count", [1, 15, 16, 17, 4095, 4096, 4097, 10_000])
def test_a_run_of_numbers_ends_with_its_list(item: bytes, count: int) -> None:
    """What follows looks like one more of them."""
    data = b"\xd6" + struct.pack(">I", count) + item * count
    assert skip(data + item) == len(data)
    assert passed_over([data[:20], data[20:], item * 20], 2, 100) == (len(data) + len(item), True)


def test_a_skipper_refuses_an_unknown_marker() -> None:
    with pytest.raises(ProtocolViolation):
        Skipper().feed(b"\xc7")


@pytest.mark.parametrize("item", [b"\x01", b"\xc1" + bytes(8), b"\x01\x81a", b"\x93\x01\x02\xc0"], ids=bytes.hex)
def test_a_budget_bounds_a_step(item: bytes) -> None:
    """Millions of values take many steps, each as short as the budget says."""
    count = 1_000_000 // len(item)
    data = b"\xd6" + struct.pack(">I", count * (2 if item == b"\x01\x81a" else 1)) + item * count
    skipper, at, steps = Skipper(), 0, []
    while not skipper.done:
        start = time.thread_time()
        at = skipper.feed(data, at, budget=1000)
        steps.append(time.thread_time() - start)
    assert at == len(data)
    assert len(steps) > 10
    assert sorted(steps)[len(steps) // 2] < 0.005
