"""The page of a load test: response times and connections on one time axis, made only from the test's folder."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rig.load import records, schedule, summary
from rig.load.figures import RATE_SECONDS, counted, opened_per_second
from rig.load.records import LoadRun, LoadSample, LoadTestRecord, Resources
from rig.load.schedule import stages_of
from rig.percentile import tail_name
from rig.plural import plural
from rig.report import phrases, plot
from rig.report.headline import Figure
from rig.report.page import own_files, templates
from rig.report.plot import Axis, Dots, Line, Panel

MIB = 2**20

Points = list[tuple[float, float | None]]


def report(folder: Path) -> tuple[dict[str, Any], str]:
    """Return a test's summary and its page. Raises BadInput if the folder cannot be read."""
    found = summary.summarise(folder)
    test, runs = records.read_test(folder), records.read_runs(folder)
    series = counted(records.read_series(folder))
    page: str = templates().get_template("load.html.j2").render(
        summary=found, headline=headline(found), subtitle=subtitle(found), numbers=numbers(found),
        lower=found["outcome"]["connections_lower_bound"],
        doubts=list(phrases.doubts(found["outcome"])),
        found=[] if found["clock_set"] else list(panels(test, runs, series)),
        latencies=list(latencies(found["load"]["tasks"])),
        left=phrases.number(found["outcome"]["connections_left"]), **own_files())
    return found, page


def headline(found: dict[str, Any]) -> str:
    """Return the test's result in one sentence."""
    outcome = found["outcome"]
    succeeded = f"{outcome['succeeded']} of {plural(outcome['arrivals'], 'DAG run')} succeeded"
    if outcome["connections_opened"] is None:
        return f"{succeeded}, and connections were not counted."
    return (f"{succeeded}, and Neo4j accepted "
            f"{phrases.at_least(outcome['connections_opened'], outcome['connections_lower_bound'])} connections.")


def latencies(tasks: int) -> Iterator[tuple[str, str, str]]:
    """Yield, for each latency in the summary of a test with ``tasks`` tasks, its key, its name and its meaning."""
    yield "trigger", "trigger", "the call that starts a DAG run, answered"
    yield "queued", "queued", "the first task of the workload at work"
    yield "run", "run", "the DAG run's end"
    yield "task_median", "task p50", "duration of a run's tasks, their median"
    name = tail_name(tasks, 95)
    yield "task_tail", f"task {name}", ("duration of a run's tasks, " + (
        "the longest of them" if name == "max" else "their 95th percentile"))


def subtitle(found: dict[str, Any]) -> str:
    """Return what was driven, where and how."""
    load = found["load"]
    how = f"{phrases.number(load['rate'])} DAG runs per second" if load["users"] is None else \
        plural(load["users"], "user")
    at_random = "" if load["seed"] is None else f" at random (Poisson, seed {load['seed']})"
    where = found["deployment"]["executor"] or found["deployment"]["airflow"]
    return f"{load['pattern']} on {where}, {load['shape']}, {how}{at_random}."


def numbers(found: dict[str, Any]) -> list[Figure]:
    """Return the large numbers: connections per DAG run, and how long a DAG run took and waited."""
    outcome, hue = found["outcome"], found["load"]["pattern"]
    run, queued = outcome["latencies"]["run"], outcome["latencies"]["queued"]
    lower = outcome["connections_lower_bound"]
    return [
        Figure(phrases.bound(outcome["connections_opened_per_run"], lower), hue, "connections opened per DAG run",
               f"{phrases.bound(outcome['connections_opened_per_second'], lower)} per second, at most "
               f"{phrases.number(outcome['connections_peak'])} open"),
        _tail(run, hue, "seconds to a DAG run's end"), _tail(queued, hue, "seconds to its first task at work")]


def _tail(latency: Mapping[str, Any], hue: str, what: str) -> Figure:
    """Return the 95th percentile; for too few values, the maximum, labelled as such."""
    few = latency["p95"] is None
    return Figure(phrases.number(latency["highest" if few else "p95"]), hue, f"{what}, {'at most' if few else 'p95'}",
                  f"median {phrases.number(latency['median'])}")


def panels(test: LoadTestRecord, runs: Sequence[LoadRun], series: Sequence[LoadSample]) -> Iterator[Panel]:
    """Yield the charts, all with the seconds since the start as their axis."""
    def of(value: Callable[[LoadSample], float | None]) -> Points:
        return [(sample.elapsed, value(sample)) for sample in series]

    x = plot.from_zero(max((sample.elapsed for sample in series), default=1.0), "seconds since the start", room=1.0)
    ended = [(run.due + run.run - test.started_at, run) for run in runs if run.run is not None]
    hue = test.load.pattern
    yield _dots_panel("How long DAG runs take", "seconds since due", x, [
        _Series("queued", "other", [(moment, run.queued) for moment, run in ended]),
        _Series("run", hue, [(moment, run.run) for moment, run in ended])])
    yield _panel("DAG runs", "DAG runs", x, [
        _Series("in flight", hue, of(lambda sample: sample.in_flight)),
        _Series("queued in Airflow", "other", of(lambda sample: sample.runs_queued), "2,2")], counts=True)
    yield _panel("Open connections", "connections", x, [
        _Series("open", hue, of(lambda sample: sample.open)),
        _Series("idle", "other", of(lambda sample: sample.idle), "6,3"),
        _Series("in a transaction", "other", of(lambda sample: sample.running), "2,2")], counts=True)
    yield _panel("Connections opened per second", f"per second, mean of {RATE_SECONDS:g} s", x, [
        _Series("opened", hue, [(sample.elapsed, rate) for sample, rate in zip(
            series, opened_per_second(series), strict=True)])])
    if any(sample.resources for sample in series):
        def taken(value: Callable[[Resources], float | None]) -> Points:
            return of(lambda sample: value(sample.resources) if sample.resources else None)
        yield _panel("Memory of the stack", "MiB", x, [
            _Series("resident", "other", taken(lambda each: each.memory / MIB), "6,3"),
            _Series("PSS: shared memory counted once", hue, taken(lambda each: each.pss and each.pss / MIB))])
        yield _panel("Open files of the stack", "descriptors", x, [
            _Series("descriptors", hue, taken(lambda each: each.descriptors))], counts=True)
    yield _panel("Arrivals", "DAG runs per second", x, [_Series("due", hue, _rates(test))])


def _rates(test: LoadTestRecord) -> Points:
    if test.load.users is not None:
        return []
    stages = stages_of(test.load)
    borders = [schedule.length(stages[:number]) for number in range(len(stages) + 1)]
    return [(border, schedule.rate_at(stages, border)) for border in borders]


class _Series(NamedTuple):
    """Values over time; None where a value is missing."""

    name: str
    hue: str
    points: Points
    dash: str = ""


def _panel(title: str, unit: str, x: Axis, series: Sequence[_Series], *, counts: bool = False) -> Panel:
    y, about = _vertical(title, unit, series, counts=counts)
    lines = [Line(one.name, one.hue, "".join(plot.steps(part, x, y) for part in _unbroken(one.points)), one.dash)
             for one in series]
    return Panel(title, about, None, x, y, lines, legend=len(lines) > 1)


def _dots_panel(title: str, unit: str, x: Axis, series: Sequence[_Series]) -> Panel:
    y, about = _vertical(title, unit, series)
    points = [Dots(one.name, one.hue, "".join(plot.dots(part, x, y) for part in _unbroken(one.points)))
              for one in series]
    return Panel(title, about, None, x, y, dots=points, legend=True)


def _vertical(title: str, unit: str, series: Sequence[_Series], *, counts: bool = False) -> tuple[Axis, str]:
    """Return the axis of the values, and a description of the panel."""
    highest = max((value for one in series for _, value in one.points if value is not None), default=None)
    axis = plot.from_zero(highest or 0.0, unit, room=1.1, counts=counts)
    return axis, f"{title}: at most {phrases.number(highest)} {unit}"


def _unbroken(points: Points) -> Iterator[list[tuple[float, float]]]:
    """Yield the parts in which every point has a value."""
    stretch: list[tuple[float, float]] = []
    for moment, value in points:
        if value is not None:
            stretch.append((moment, value))
        elif stretch:
            yield stretch
            stretch = []
    if stretch:
        yield stretch
