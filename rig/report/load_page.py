"""The page of a load test: response times and connections on one time axis, from the test's folder alone."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from rig.load import records, schedule, summary
from rig.load.records import LoadRun, LoadSample, LoadTestRecord
from rig.load.schedule import stages_of
from rig.report import phrases
from rig.report.charts import Panel
from rig.report.page import own_files, templates

WINDOW = 10.0       # seconds over which connections opened per second are averaged

# Key of the summary's latencies, what it is called, what it means.
LATENCIES = (
    ("trigger", "trigger", "the call that starts a DAG run, answered"),
    ("queued", "queued", "the first task of the workload at work"),
    ("run", "run", "the DAG run's end"),
    ("task_median", "task p50", "duration of a run's tasks, their median"),
    ("task_tail", "task p95", "duration of a run's tasks, their 95th percentile"))

Points = list[tuple[float, float | None]]


def report(folder: Path) -> tuple[dict[str, Any], str]:
    """Return a test's summary and its page. Raises BadInput where the folder cannot be read."""
    found = summary.summarise(folder)
    test, runs, series = records.read_test(folder), records.read_runs(folder), records.read_series(folder)
    page: str = templates().get_template("load.html.j2").render(
        summary=found, headline=headline(found), panels=list(panels(test, runs, series)), latencies=LATENCIES,
        left=phrases.number(found["outcome"]["connections_left"]), **own_files())
    return found, page


def headline(found: dict[str, Any]) -> str:
    """Return what the test came to, in a sentence."""
    outcome, load = found["outcome"], found["load"]
    how = f"{phrases.number(load['rate'])} DAG runs per second" if load["users"] is None else \
        phrases.plural(load["users"], "user")
    where = found["deployment"]["executor"] or found["deployment"]["airflow"]
    ended = f"{outcome['succeeded']} of {phrases.plural(outcome['arrivals'], 'DAG run')} succeeded"
    return (f"{load['pattern']} on {where}, {load['shape']}, {how}: {ended}, and Neo4j accepted "
            f"{phrases.number(outcome['connections_opened'])} connections.")


def panels(test: LoadTestRecord, runs: Sequence[LoadRun], series: Sequence[LoadSample]) -> Iterator[Panel]:
    """Yield the charts, all with the seconds since the start as their axis."""
    def of(value: Callable[[LoadSample], float | None]) -> Points:
        return [(sample.elapsed, value(sample)) for sample in series]

    end = max((sample.elapsed for sample in series), default=1.0)
    ended = [(run.due + run.run - test.started_at, run) for run in runs if run.run is not None]
    hue = test.load.pattern
    yield _panel("How long DAG runs take", "seconds since due", end, [
        _dots("queued", [(moment, run.queued) for moment, run in ended], "other"),
        _dots("run", [(moment, run.run) for moment, run in ended], hue)])
    yield _panel("DAG runs", "DAG runs", end, [
        _line("in flight", of(lambda sample: sample.in_flight), hue),
        _line("queued in Airflow", of(lambda sample: sample.runs_queued), "other", dash="2px,2px")])
    yield _panel("Open connections", "connections", end, [
        _line("open", of(lambda sample: sample.open), hue),
        _line("idle", of(lambda sample: sample.idle), "other", dash="6px,3px"),
        _line("in a transaction", of(lambda sample: sample.running), "other", dash="2px,2px")])
    yield _panel("Connections opened per second", "per second, mean of 10 s", end, [
        _line("opened", opened_per_second(series), hue)])
    yield _panel("Arrivals", "DAG runs per second", end, [_line("due", _rates(test), hue)])


def opened_per_second(series: Sequence[LoadSample]) -> Points:
    """Return what was opened per second over the WINDOW before each sample, None where it was not counted."""
    points, first = [], 0
    for number, sample in enumerate(series):
        while sample.t - series[first].t > WINDOW:
            first += 1
        before = series[first]
        counted = number > first and sample.opened is not None and before.opened is not None
        opened = (sample.opened or 0) - (before.opened or 0)
        points.append((sample.elapsed, opened / (sample.t - before.t) if counted and opened >= 0 else None))
    return points


def _rates(test: LoadTestRecord) -> Points:
    if test.load.users is not None:
        return []
    stages = stages_of(test.load)
    borders = [schedule.length(stages[:number]) for number in range(len(stages) + 1)]
    return [(border, schedule.rate_at(stages, border)) for border in borders]


def _line(name: str, points: Points, hue: str, dash: str = "solid") -> go.Scatter:
    return go.Scatter(x=[x for x, _ in points], y=[y for _, y in points], name=name, mode="lines", line_dash=dash,
                      line_shape="hv", line_width=2, meta={"hue": hue}, hovertemplate="%{y:,.3g}")


def _dots(name: str, points: Points, hue: str) -> go.Scatter:
    return go.Scatter(x=[x for x, _ in points], y=[y for _, y in points], name=name, mode="markers", marker_size=6,
                      meta={"hue": hue}, hovertemplate="%{y:,.3g} s")


def _panel(title: str, unit: str, end: float, traces: list[go.Scatter]) -> Panel:
    values = [value for trace in traces for value in trace.y if value is not None]
    highest = max(values, default=None)
    figure = go.Figure(traces, {
        "template": "none", "height": 260, "margin": {"l": 44, "r": 12, "t": 8, "b": 38}, "hovermode": "x unified",
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "showlegend": len(traces) > 1,
        "legend": {"orientation": "h", "y": 1.12},
        "xaxis": {"range": [0, max(1.0, end)], "title": {"text": "seconds since the start"}, "zeroline": False},
        "yaxis": {"range": [0, max(highest or 0, 0.01) * 1.1], "title": {"text": unit}, "zeroline": False}})
    return Panel(title, f"{title}: at most {phrases.number(highest)} {unit}", None,
                 figure.to_plotly_json() if values else None)
