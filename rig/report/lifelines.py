"""The first picture: the life of every connection of one DAG run, in a strip for each pattern, on one time axis.

A strip has a row for each worker process. The row has as many lanes as the process had connections open at once. A
connection whose owner is unknown (the stock hook's, or a shared driver's) gets the first free lane.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from patterns import identity
from rig.metrics.counting import in_window
from rig.metrics.model import CellSummary, Summary
from rig.metrics.raw import RawRun, Repeat
from rig.plural import plural
from rig.records import Connection
from rig.report import charts, headline, phrases, plot
from rig.report.plot import UNITS, Axis

SECONDS = "seconds since the first connection"
SHORTEST_SECONDS = 0.1      # a connection that only one sample saw lived at least for part of an interval
WORDS = {
    "problematic": "a new driver for every call", "improved": "one driver cached in each task's process",
    "hook": "the stock Neo4jHook", "worker": "one shared driver for each worker process",
    "shared": "one shared driver for the whole worker"}

_STRIPS = (("problematic", "none"), ("improved", "none"), ("worker", "process"), ("worker", "shared"))
_MOST_STRIPS = 3

# The heights of a row in pixels: in a strip with many lanes, they are thin.
_TALL, _THIN, _GAP = 7.0, 3.5, 2.0
_MANY_LANES = 24


class Life(NamedTuple):
    """A connection's life in seconds since the first connection of its DAG run; ``kept`` if it was open at the end."""

    id: int
    start: float
    end: float
    owner: str | None
    kept: bool


class Row(NamedTuple):
    """A worker process: its connections as an SVG path, and its description."""

    path: str
    title: str


class Strip(NamedTuple):
    """The connections of one DAG run. ``height`` and ``stroke`` are in pixels; ``units`` is the path's height."""

    pattern: str
    hue: str
    opened: str
    words: str
    rows: Sequence[Row]
    kept: int
    height: float
    units: float
    stroke: float


class Lifelines(NamedTuple):
    """All strips, their common axis, and a description of the whole."""

    executor: str
    x: Axis
    strips: Sequence[Strip]
    description: str


def lifelines(raw: RawRun, summary: Summary) -> Lifelines | None:
    """Return the picture of a run; None if nothing can be drawn."""
    executor, chosen = _chosen(raw, summary)
    if not chosen:
        return None
    found = [(cell, repeat, _lives(repeat)) for cell, repeat in chosen]
    x = plot.from_zero(max(life.end for _, _, lives in found for life in lives), SECONDS, room=1.0)
    strips = [_strip(cell, repeat, lives, x) for cell, repeat, lives in found]
    about = "; ".join(f"{strip.pattern}: {strip.opened} connections in {plural(len(strip.rows), 'row')}"
                      f"{f', {strip.kept} kept open' if strip.kept else ''}" for strip in strips)
    return Lifelines(executor, x, strips, f"The life of every connection of one DAG run on {executor}. {about}.")


def _chosen(raw: RawRun, summary: Summary) -> tuple[str, list[tuple[CellSummary, Repeat]]]:
    """Return the executor and the strips to draw: the headline's executor if it has any, else the first that has."""
    found = _drawable(raw, summary)
    executor = headline.executor_of(summary)
    return next(((name, found[name][:_MOST_STRIPS]) for name in (executor, *found) if name in found), ("", []))


def _drawable(raw: RawRun, summary: Summary) -> dict[str, list[tuple[CellSummary, Repeat]]]:
    """Return what can be drawn, by executor: the typical repeat of each pattern's cold cell."""
    found: dict[str, list[tuple[CellSummary, Repeat]]] = {}
    for wanted in _STRIPS:
        for cell, repeats in zip(summary.cells, raw.cells().values(), strict=True):
            if not summary.tells_of(cell) or (cell.pattern, cell.relay, cell.warm, cell.control, cell.driver) != (
                    *wanted, False, False, "sync"):
                continue
            number = charts.typical([number for number, repeat in enumerate(repeats) if _lives(repeat)], cell)
            if number is not None:
                found.setdefault(cell.executor, []).append((cell, repeats[number]))
    return found


def _lives(repeat: Repeat) -> list[Life]:
    """Return the connections of a DAG run in the order of their opening.

    Empty if none was seen, or if the clock was set.
    """
    if repeat.record is None or not repeat.samples or repeat.clock_step is not None:
        return []
    inside = in_window(repeat.record)
    seen = [one for one in repeat.connections if inside(one.id)]
    began, last = min((one.first_seen for one in seen), default=0.0), repeat.samples[-1].t
    return sorted((_life(one, began, last) for one in seen), key=lambda life: (life.start, life.id))


def _life(one: Connection, began: float, last: float) -> Life:
    agent = identity.parse(one.user_agent)
    start, end = one.first_seen - began, one.last_seen - began
    return Life(one.id, start, max(end, start + SHORTEST_SECONDS), agent.worker if agent else None,
                kept=one.last_seen >= last)


def _strip(cell: CellSummary, repeat: Repeat, lives: Sequence[Life], x: Axis) -> Strip:
    rows = list(_by_process(lives))
    lanes = [max(lane for lane, _ in row) + 1 for _, row in rows]
    thin = sum(lanes) > _MANY_LANES
    pitch = _THIN if thin else _TALL
    height = sum(lanes) * pitch + len(rows) * _GAP
    top, made = _GAP / 2, []
    for (name, row), count in zip(rows, lanes, strict=True):
        path = "".join(_stroke(life, x, top + (lane + 0.5) * pitch) for lane, life in row)
        made.append(Row(path, f"{name}: {plural(len(row), 'connection')}"))
        top += count * pitch + _GAP
    opened = repeat.record.opened if repeat.record else None
    words = WORDS["shared"] if cell.relay == "shared" else WORDS.get(cell.pattern, cell.pattern)
    return Strip(cell.pattern, phrases.hue(cell), phrases.number(len(lives) if opened is None else opened), words, made,
                 sum(life.kept for life in lives), round(height, 1), round(height, 1), 2.4 if thin else 4.5)


def _stroke(life: Life, x: Axis, y: float) -> str:
    start, end = round(UNITS * x.at(life.start), 1), round(UNITS * x.at(life.end), 1)
    return f"M{start:g} {y:g}H{end:g}"


def _by_process(lives: Iterable[Life]) -> Iterator[tuple[str, list[tuple[int, Life]]]]:
    """Yield each worker process with its connections and their lanes, in the order of their first opening."""
    owned: dict[str, list[Life]] = {}
    unowned: list[Life] = []
    for life in lives:
        (owned.setdefault(life.owner, []) if life.owner else unowned).append(life)
    for owner, of_owner in owned.items():
        yield f"worker process {owner}", list(_lanes(of_owner))
    by_lane: dict[int, list[tuple[int, Life]]] = {}
    for lane, life in _lanes(unowned):
        by_lane.setdefault(lane, []).append((0, life))
    for lane, row in by_lane.items():
        yield f"row {lane + 1}, of a shared driver or a client that names no process", row


def _lanes(lives: Iterable[Life]) -> Iterator[tuple[int, Life]]:
    """Yield each life with the first lane that is free when it begins."""
    free_from: list[float] = []
    for life in lives:
        lane = next((number for number, free in enumerate(free_from) if free <= life.start), len(free_from))
        free_from[lane:lane + 1] = [life.end]
        yield lane, life
