"""The two charts of the seed, as small panels that share one time axis."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rig.metrics.gauges import Point
from rig.metrics.model import CellSummary
from rig.metrics.raw import RawRun, Repeat
from rig.metrics.timeline import Timeline, timeline
from rig.report import phrases, plot
from rig.report.plot import Axis, Line, Panel

DASHES = {"none": "", "process": "6,3", "shared": "2,2", "none-async": "9,3,2,3", "process-async": "6,3,2,2",
          "shared-async": "12,3", "none-warm": "1,3", "process-warm": "3,6", "shared-warm": "2,6",
          "none-warm-async": "1,6", "process-warm-async": "9,6", "shared-warm-async": "2,3,6,3"}
DASHES |= {f"{stroke}-preloaded": f"{dash or '12,2'},1,2" for stroke, dash in DASHES.items()}
SECONDS = "seconds since the DAG run was started"


class Drawn(NamedTuple):
    """A cell with the timelines of its repeats, and the typical repeat."""

    cell: CellSummary
    timelines: dict[int, Timeline]
    typical: int | None


def drawn(raw: RawRun, cells: Sequence[CellSummary]) -> list[Drawn]:
    """Return every cell's timelines. ``cells`` are the summary's, in the order of the raw run's."""
    return [_drawn(cell, repeats) for cell, repeats in zip(cells, raw.cells().values(), strict=True)]


def idle_panels(all_drawn: Sequence[Drawn]) -> list[Panel]:
    """Return idle connections over time: a panel for each executor, a hue for each pattern."""
    shown = [one for one in all_drawn if is_on_idle_chart(one.cell)]
    x, y = _axes((line.idle for one in shown for line in one.timelines.values()), "idle connections")
    executors = dict.fromkeys(one.cell.executor for one in shown)
    return [_idle_panel(executor, [one for one in shown if one.cell.executor == executor], x, y)
            for executor in executors]


def is_on_idle_chart(cell: CellSummary) -> bool:
    """Return whether a cell is in the chart of idle connections: with second runs, the chart is not readable."""
    return not cell.warm and not cell.control


def opened_panels(all_drawn: Sequence[Drawn]) -> list[Panel]:
    """Return connections opened against closed: a panel for each cell that was run. The gap is what is open."""
    x, y = _axes((line.opened for one in all_drawn for line in one.timelines.values()), "connections")
    variants = list(dict.fromkeys(phrases.variant(one.cell) for one in all_drawn))
    # The executors of one pattern are beside each other, as in the bars above.
    return [_opened_panel(one, x, y)
            for one in sorted(filter(_was_run, all_drawn), key=lambda one: variants.index(phrases.variant(one.cell)))]


def typical(repeats: Iterable[int], cell: CellSummary) -> int | None:
    """Return the repeat whose idle connection-seconds are nearest to the cell's median, or else the first one."""
    metric = cell.metrics["idle_connection_seconds"]
    numbers = list(repeats)
    measured = [(abs(value - metric.median), number) for number in numbers
                if (value := metric.raw[number]) is not None and metric.median is not None]
    return min(measured)[1] if measured else next(iter(numbers), None)


def _drawn(cell: CellSummary, repeats: Sequence[Repeat]) -> Drawn:
    timelines = {number: found for number, repeat in enumerate(repeats) if (found := timeline(repeat))}
    return Drawn(cell, timelines, typical(timelines, cell))


def _was_run(one: Drawn) -> bool:
    return bool(one.timelines or one.cell.repeats_measured)


def _idle_panel(executor: str, in_panel: Sequence[Drawn], x: Axis, y: Axis) -> Panel:
    lines = [Line(phrases.variant(one.cell), phrases.hue(one.cell), plot.steps(found.idle, x, y),
                  DASHES[phrases.stroke(one.cell)], bold=number == one.typical)
             for one in in_panel for number, found in one.timelines.items()]
    about = "; ".join(f"{phrases.variant(one.cell)}: peak {phrases.median(one.cell.metrics['connections_idle_peak'])}, "
                      f"mean {phrases.median(one.cell.metrics['connections_idle'])}" for one in in_panel)
    return Panel(phrases.executor(executor), f"Idle connections over time on {executor}. {about}.", None, x, y,
                 # The typical ones come last, so that they are on top.
                 sorted(lines, key=lambda line: line.bold))


def _opened_panel(one: Drawn, x: Axis, y: Axis) -> Panel:
    hue = phrases.hue(one.cell)
    lines = [line for number, found in sorted(one.timelines.items(), key=lambda item: item[0] == one.typical)
             for line in (
                 Line("closed", hue, plot.steps(found.closed, x, y), "2,2", bold=number == one.typical),
                 Line("opened", hue, plot.steps(found.opened, x, y), bold=number == one.typical,
                      area=plot.under(found.opened, found.closed, x, y) if number == one.typical else ""))]
    opened, closed = (phrases.median(one.cell.metrics[name]) for name in ("connections_opened", "connections_closed"))
    return Panel(f"{phrases.variant(one.cell)} · {phrases.executor(one.cell.executor)}",
                 f"Connections opened and closed over time, {phrases.label(one.cell)}: {opened} opened, "
                 f"{closed} closed at the end.", hue, x, y, lines)


def _axes(timelines: Iterable[Sequence[Point]], title: str) -> tuple[Axis, Axis]:
    """Return both axes, the same for every panel: up to the last second and up to the highest value."""
    points = [point for one in timelines for point in one]
    return (plot.from_zero(max((point.t for point in points), default=1), SECONDS, room=1.01),
            plot.from_zero(max((point.value for point in points), default=1), title, counts=True))
