"""Charts as the templates draw them: geometry in thousandths of the plot, ticks in percent, and no colours.

The page stretches a plot to the available width. Strokes and texts keep their size, because strokes do not scale and
texts are not part of the drawing. The style sheet gives the colours, so light mode, dark mode and print need no script.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rig.report import phrases

UNITS = 1000
"""The width and the height of every plot, in its own units."""

_STEPS = (1, 2, 2.5, 5, 10)


class Tick(NamedTuple):
    """A mark on an axis: ``at`` is its position in percent of the axis."""

    at: float
    text: str


class Axis(NamedTuple):
    """A linear axis from ``low`` to ``high``, or a logarithmic one. ``title`` contains the unit.

    On an axis of ``counts``, only whole numbers are marked.
    """

    low: float
    high: float
    title: str
    log: bool = False
    counts: bool = False

    def at(self, value: float) -> float:
        """Return the position of a value on the axis, 0 to 1."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    @property
    def ticks(self) -> list[Tick]:
        """Return some round values on the axis, with their positions."""
        values = _powers(self.low, self.high) if self.log else _round_values(self.low, self.high)
        return [Tick(round(100 * self.at(value), 2), _tick_text(value)) for value in values
                if not self.counts or value == int(value)]


class Line(NamedTuple):
    """A line of a chart: ``path`` is in SVG, ``area`` is the path of a shape to fill, ``name`` is its label."""

    name: str
    hue: str
    path: str
    dash: str = ""
    bold: bool = True
    area: str = ""


class Dots(NamedTuple):
    """The points of one series in a chart."""

    name: str
    hue: str
    path: str


class Panel(NamedTuple):
    """One small chart. ``is_empty`` if nothing was measured."""

    title: str
    description: str
    hue: str | None
    x: Axis
    y: Axis
    lines: Sequence[Line] = ()
    dots: Sequence[Dots] = ()
    legend: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not any([line.path for line in self.lines] + [dots.path for dots in self.dots])


def from_zero(highest: float, title: str, *, room: float = 1.06, counts: bool = False) -> Axis:
    """Return an axis from 0 to slightly above the highest value; to 1 if no value is above 0."""
    return Axis(0.0, (highest if highest > 0 else 1.0) * room, title, counts=counts)


def of_powers(values: Iterable[float], title: str) -> Axis:
    """Return a logarithmic axis that includes the given positive values."""
    known = [value for value in values if value > 0]
    low, high = min(known, default=1.0), max(known, default=10.0)
    return Axis(low / 1.25, high * 1.25, title, log=True)


def steps(points: Iterable[tuple[float, float]], x: Axis, y: Axis) -> str:
    """Return the path of values that hold until the next one. A slope would show values that nobody saw."""
    parts: list[str] = []
    last: tuple[int, int] | None = None
    for across, up in _places(points, x, y):
        if last is None:
            parts.append(f"M{across} {up}")
        elif (across, up) != last:
            parts.append(f"H{across}" + (f"V{up}" if up != last[1] else ""))
        last = across, up
    return "".join(parts)


def under(upper: Sequence[tuple[float, float]], lower: Sequence[tuple[float, float]], x: Axis, y: Axis) -> str:
    """Return the path of the shape between two lines of steps that begin and end together."""
    if not upper or not lower:
        return ""
    return f"{steps(upper, x, y)}L{_joined(_corners(list(_places(lower, x, y)))[::-1])}Z"


def straight(points: Iterable[tuple[float, float | None]], x: Axis, y: Axis) -> str:
    """Return the path through the points, interrupted where a value is missing."""
    parts: list[str] = []
    drawing = False
    for across, value in points:
        if value is None:
            drawing = False
            continue
        parts.append(f"{'L' if drawing else 'M'}{_across(across, x)} {_up(value, y)}")
        drawing = True
    return "".join(parts)


def dots(points: Iterable[tuple[float, float]], x: Axis, y: Axis) -> str:
    """Return the path of dots: strokes of zero length, which round line ends make visible."""
    return "".join(f"M{across} {up}h0" for across, up in _places(points, x, y))


def _places(points: Iterable[tuple[float, float]], x: Axis, y: Axis) -> Iterable[tuple[int, int]]:
    return ((_across(across, x), _up(value, y)) for across, value in points)


def _across(value: float, axis: Axis) -> int:
    return round(UNITS * axis.at(value))


def _up(value: float, axis: Axis) -> int:
    return round(UNITS * (1 - axis.at(value)))


def _corners(places: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    found = list(places[:1])
    for across, up in places[1:]:
        found += [(across, found[-1][1]), (across, up)]
    return found


def _joined(places: Iterable[tuple[int, int]]) -> str:
    return " ".join(f"{across} {up}" for across, up in places)


def _round_values(low: float, high: float) -> list[float]:
    """Return four to seven round values between two numbers."""
    magnitude = 10.0 ** math.floor(math.log10((high - low) / 4))
    step = next(size * magnitude for size in _STEPS if (high - low) / (size * magnitude) <= 6)
    first = math.ceil(low / step)
    return [round(number * step, 9) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _powers(low: float, high: float) -> list[float]:
    """Return powers of ten, and their halves and doubles if there are few."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        found = [round(factor * 10.0 ** exponent, 9) for exponent in exponents for factor in factors]
        inside = [value for value in found if low <= value <= high]
        if len(inside) >= 3:
            return inside
    return inside


def _tick_text(value: float) -> str:
    return phrases.number(value) if value == int(value) else f"{value:g}"
