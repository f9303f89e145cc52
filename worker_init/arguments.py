"""Numbers on a command line: types for :mod:`argparse` that refuse what cannot be used, with one clear line."""

import argparse
import math
from collections.abc import Callable


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return a type for whole numbers from ``least`` to ``most``; without ``most``, any number from ``least`` on.

    The type raises ArgumentTypeError for anything else; argparse then ends the program with exit code 2.
    """
    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = None
        if number is None or number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {_range(least, most)}")
        return number
    return read


def real(least: float, most: float | None = None) -> Callable[[str], float]:
    """Return a type for numbers from ``least`` to ``most``; without ``most``, any finite number from ``least`` on.

    The type raises ArgumentTypeError for anything else; argparse then ends the program with exit code 2.
    """
    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"{text!r} is not a number {_range(least, most)}")
        return number
    return read


def _range(least: float, most: float | None) -> str:
    return f"from {least:g} on" if most is None else f"from {least:g} to {most:g}"
