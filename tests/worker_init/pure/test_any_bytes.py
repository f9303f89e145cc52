"""Bytes of any kind, at random and those that were interesting once."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker_init.pure.byte_targets import TARGETS

# A line each: the target, and the input in hexadecimal.
CORPUS = [line.split() for line in (Path(__file__).parent / "corpus.txt").read_text().splitlines()]


@pytest.mark.parametrize("target", TARGETS)
@given(data=st.binary(max_size=300))
def test_any_bytes_do_what_is_allowed(target: str, data: bytes) -> None:
    TARGETS[target](data)


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_does_what_is_allowed(target: str) -> None:
    inputs = [bytes.fromhex(line[1]) if len(line) > 1 else b"" for line in CORPUS if line[0] == target]
    assert inputs
    for data in inputs:
        TARGETS[target](data)
