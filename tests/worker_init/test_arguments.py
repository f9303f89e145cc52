"""Numbers on a command line: what is accepted, and the one line about what is not."""

import argparse
from collections.abc import Callable

import pytest

from worker_init.arguments import real, whole


@pytest.mark.parametrize(("kind", "text", "number"), [
    (whole(1), "1", 1), (whole(1, 3), "3", 3), (whole(0), "0", 0), (real(0), "0", 0.0), (real(0, 1), "1", 1.0),
    (real(0.1), "1e3", 1000.0)])
def test_what_is_in_the_range_is_accepted(kind: Callable[[str], float], text: str, number: float) -> None:
    assert kind(text) == number


@pytest.mark.parametrize(("kind", "text", "line"), [
    (whole(1), "0", "'0' is not a whole number from 1 on"),
    (whole(1), "-3", "'-3' is not a whole number from 1 on"),
    (whole(1), "2.5", "'2.5' is not a whole number from 1 on"),
    (whole(0, 65535), "65536", "'65536' is not a whole number from 0 to 65535"),
    (real(0.1), "0", "'0' is not a number from 0.1 on"),
    (real(0), "nan", "'nan' is not a number from 0 on"),
    (real(0), "inf", "'inf' is not a number from 0 on"),
    (real(0, 1000), "1001", "'1001' is not a number from 0 to 1000"),
    (real(0), "soon", "'soon' is not a number from 0 on")])
def test_everything_else_is_refused_and_the_line_says_the_range(kind: Callable[[str], float], text: str,
                                                                line: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as refused:
        kind(text)
    assert str(refused.value) == line
