"""The two charts, as small panels that share one time axis: Plotly figures without any colour.

The page gives the colours, so that the same figure is readable in light and in dark: a trace's
``meta.hue`` names the pattern's.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import plotly.graph_objects as go

from rig.metrics.gauges import Point
from rig.metrics.model import CellSummary
from rig.metrics.raw import RawRun, Repeat
from rig.metrics.timeline import Timeline, timeline
from rig.report import phrases

DASHES = {"none": "solid", "process": "6px,3px", "shared": "2px,2px", "none-async": "9px,3px,2px,3px",
          "process-async": "6px,3px,2px,2px", "shared-async": "12px,3px",
          "process-warm": "solid", "shared-warm": "2px,6px", "process-warm-async": "9px,6px",
          "shared-warm-async": "2px,3px,6px,3px"}


class Line(NamedTuple):
    """One DAG run as the charts draw it; of a cell's repeats the typical one is drawn bold."""

    timeline: Timeline
    typical: bool


class Drawn(NamedTuple):
    """A cell with its lines, the typical one last so that it lies on top."""

    cell: CellSummary
    lines: list[Line]


class Panel(NamedTuple):
    """One small chart: ``figure`` is Plotly's JSON, None where nothing was sampled."""

    title: str
    description: str
    hue: str | None
    figure: dict[str, Any] | None


def drawn(raw: RawRun, cells: Sequence[CellSummary]) -> list[Drawn]:
    """Return every cell's timelines. ``cells`` are the summary's, which are in the order of the raw run's."""
    return [Drawn(cell, _lines(repeats, cell))
            for cell, repeats in zip(cells, raw.cells().values(), strict=True)]


def idle_panels(all_drawn: Sequence[Drawn]) -> list[Panel]:
    """Return idle connections over time: a panel for each executor, a hue for each pattern."""
    span = _span(line.timeline.idle for one in all_drawn for line in one.lines)
    executors = dict.fromkeys(one.cell.executor for one in all_drawn)
    return [_idle_panel(executor, [one for one in all_drawn if one.cell.executor == executor], span)
            for executor in executors]


def opened_panels(all_drawn: Sequence[Drawn]) -> list[Panel]:
    """Return connections opened against closed: a panel for each cell, the gap is what is open."""
    span = _span(line.timeline.opened for one in all_drawn for line in one.lines)
    variants = list(dict.fromkeys(phrases.variant(one.cell) for one in all_drawn))
    # The executors of one pattern side by side, as in the bars above.
    return [_opened_panel(one, span)
            for one in sorted(all_drawn, key=lambda one: variants.index(phrases.variant(one.cell)))]


def _lines(repeats: Sequence[Repeat], cell: CellSummary) -> list[Line]:
    timelines = {number: found for number, repeat in enumerate(repeats) if (found := timeline(repeat))}
    typical = _typical(cell, timelines)
    lines = [Line(found, number == typical) for number, found in timelines.items()]
    return sorted(lines, key=lambda line: line.typical)


def _typical(cell: CellSummary, numbers: Iterable[int]) -> int | None:
    """Return the repeat whose idle connection-seconds are nearest to the median, else the first one."""
    metric = cell.metrics["idle_connection_seconds"]
    measured = [(abs(value - metric.median), number) for number in numbers
                if (value := metric.raw[number]) is not None and metric.median is not None]
    return min(measured)[1] if measured else next(iter(numbers), None)


def _idle_panel(executor: str, in_panel: Sequence[Drawn], span: tuple[float, float]) -> Panel:
    traces = [_trace(line.timeline.idle, one.cell, line.typical, name=phrases.variant(one.cell),
                     line={"dash": DASHES[phrases.stroke(one.cell)]})
              for one in in_panel for line in one.lines]
    about = "; ".join(f"{phrases.variant(one.cell)}: peak {phrases.median(one.cell.metrics['connections_idle_peak'])}, "
                      f"mean {phrases.median(one.cell.metrics['connections_idle'])}" for one in in_panel)
    return Panel(phrases.executor(executor), f"Idle connections over time on {executor}. {about}.", None,
                 _figure(traces, span, "idle connections"))


def _opened_panel(one: Drawn, span: tuple[float, float]) -> Panel:
    traces = [trace for line in one.lines for trace in (
        _trace(line.timeline.closed, one.cell, line.typical, name="closed", line={"dash": "2px,2px"}),
        _trace(line.timeline.opened, one.cell, line.typical, name="opened",
               fill="tonexty" if line.typical else None))]
    opened, closed = (phrases.median(one.cell.metrics[name]) for name in ("connections_opened", "connections_closed"))
    return Panel(f"{phrases.variant(one.cell)} · {phrases.executor(one.cell.executor)}",
                 f"Connections opened and closed over time, {phrases.label(one.cell)}: {opened} opened, "
                 f"{closed} closed at the end.", phrases.hue(one.cell), _figure(traces, span, "connections"))


def _trace(points: Sequence[Point], cell: CellSummary, typical: bool, **how: Any) -> go.Scatter:
    # A timeline has steps and is drawn with them: a slope would show values that nobody saw.
    return go.Scatter(
        x=[point.t for point in points], y=[point.value for point in points], mode="lines", **how,
        line_shape="hv", line_width=2.25 if typical else 1, opacity=1 if typical else 0.4,
        meta={"hue": phrases.hue(cell)}, showlegend=False,
        hoverinfo=None if typical else "skip", hovertemplate="%{y:,}" if typical else None)


def _span(timelines: Iterable[Sequence[Point]]) -> tuple[float, float]:
    """Return the ends of both axes, the same for every panel: the last second and the highest value."""
    points = [point for one in timelines for point in one]
    return max((point.t for point in points), default=1), max((point.value for point in points), default=1)


def _figure(traces: Sequence[go.Scatter], span: tuple[float, float], title: str) -> dict[str, Any] | None:
    if not traces:
        return None
    seconds, highest = span
    figure = go.Figure(list(traces), {
        "template": "none", "height": 260, "margin": {"l": 44, "r": 12, "t": 8, "b": 38},
        "hovermode": "x unified", "dragmode": "zoom", "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": {"range": [0, seconds * 1.01], "title": {"text": "seconds since the DAG run was started"},
                  "zeroline": False, "unifiedhovertitle": {"text": "%{x:.1f} s"}},
        "yaxis": {"range": [0, max(1, highest) * 1.06], "title": {"text": title}, "zeroline": False,
                  "rangemode": "nonnegative"}})
    found: dict[str, Any] = figure.to_plotly_json()
    return found
