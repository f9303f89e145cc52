"""The page of a comparison: the values for the template, and the template itself."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from rig.capacity.tables import LABELS
from rig.environment import is_tapped
from rig.metrics import BY_NAME, CONDITIONS, METRICS
from rig.metrics.contrasts import side
from rig.metrics.intervals import LEAST_BLOCKS
from rig.metrics.model import CellSummary, Contrast, Side, Summary
from rig.metrics.raw import RawRun
from rig.metrics.registry import Between, Metric
from rig.plural import plural
from rig.report import charts, distributions, headline, phrases, task_time
from rig.report.advice import advice
from rig.report.deployment import deployment
from rig.report.lifelines import lifelines
from rig.report.limitations import limitations
from rig.report.verdicts import Verdict, verdict

_TEMPLATES = Path(__file__).parent / "templates"
PRICE = BY_NAME["idle_connection_seconds_kept"]
"""The cost of a connection while nobody uses it. It is shown beside the connections opened, everywhere."""

_MAIN = ("connections_opened", "connections_peak", "connections_idle_peak", "connections_idle",
         PRICE.name, "connections_left_5s", "connections_left_30s", "first_result_seconds", "scheduled_seconds",
         "makespan_seconds", "cpu_per_task")
_CONTRASTED = frozenset({
    "connections_opened", "connections_peak", PRICE.name, "connections_left_5s", "first_result_seconds", "call_seconds",
    "task_seconds", "scheduled_seconds", "makespan_seconds", "cpu_per_task"})
_GROUPS = {"database": "At the database", "tasks": "In the tasks", "executor": "In the executor",
           "machine": "On the machine", "conditions": "Conditions reached"}
_BETWEEN: Mapping[Between, str] = {
    "patterns": "Patterns: each against problematic", "executors": "Executors: CeleryExecutor against LocalExecutor",
    "preload": "Preloading: modules imported before the fork, against each task importing them",
    "control": "Noise: a cell against itself"}


class Pair(NamedTuple):
    """Two cells, and the contrast of each metric between them."""

    baseline: Side
    contender: Side
    verdicts: Mapping[str, Verdict]


class Contrasts(NamedTuple):
    """All pairs of one kind, with the metrics that are contrasted."""

    title: str
    metrics: Sequence[Metric]
    pairs: Sequence[Pair]


class Bar(NamedTuple):
    """A cell with the lengths of its two bars in percent of the longest: opened, and idle seconds."""

    cell: CellSummary
    opened: float
    idle: float


def html(raw: RawRun, summary: Summary) -> str:
    """Return the whole page. It contains its styles, script and drawings, and loads nothing."""
    drawn = charts.drawn(raw, summary.cells)
    times = task_time.task_times(raw, summary.cells)
    not_run = Counter(run.reason for run in summary.failures if not run.was_run)
    page: str = templates().get_template("report.html.j2").render(
        summary=summary, headline=headline.headline(summary), numbers=headline.figures(summary),
        subtitle=headline.subtitle(summary), outcome=headline.outcome(summary),
        alarms=headline.alarms(summary), exhibit=headline.exhibit(summary),
        claims=[(one, headline.claim_sentence(one)) for one in summary.seed_claim.executors],
        intervals=any(cell.repeats_measured >= LEAST_BLOCKS for cell in summary.cells),
        lifelines=lifelines(raw, summary), bars=_bars(summary.cells), price=PRICE,
        variants=_variants([cell for cell in summary.cells if charts.is_on_idle_chart(cell)]),
        main=[BY_NAME[name] for name in _MAIN],
        groups=[(title, [metric for metric in METRICS + CONDITIONS if metric.group == group])
                for group, title in _GROUPS.items()],
        idle_panels=charts.idle_panels(drawn), opened_panels=charts.opened_panels(drawn),
        task_times=times, parts=task_time.PARTS, database=_range([one.database for one in times]),
        distributions=distributions.distributions(raw, summary.cells), most_points=distributions.MOST_POINTS,
        contrasts=list(_contrasts(summary)), advice=advice(summary),
        failed=[run for run in summary.failures if run.was_run], not_run=not_run.most_common(),
        deployment=deployment(summary), ways=LABELS, limitations=limitations(summary),
        environment=_environment(summary), tapped=is_tapped(summary.environment), **own_files())
    return page


def templates() -> Environment:
    """Return the templates, with the filters that they use."""
    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)
    environment.filters.update({
        "number": phrases.number, "signed": phrases.signed, "median": phrases.median,
        "bound": phrases.bound, "interval": phrases.interval, "tail": phrases.tail, "latency": phrases.latency,
        "repeated": phrases.repeated,
        "percent": phrases.percent, "direction": phrases.direction, "variant": phrases.variant, "label": phrases.label,
        "executor": phrases.executor, "hue": phrases.hue, "stroke": phrases.stroke, "moment": phrases.moment,
        "plural": plural})
    environment.globals.update({"metric": BY_NAME, "dashes": charts.DASHES})
    return environment


def own_files() -> dict[str, Markup]:
    """Return what every page contains: its style, and the script that shows values under the pointer."""
    return {"style": _file("style.css"), "script": _file("hover.js")}


def _file(name: str) -> Markup:
    # Unescaped, because it is a file of this package and never recorded data.
    return Markup((_TEMPLATES / name).read_text(encoding="utf-8"))  # noqa: S704


def _bars(cells: Sequence[CellSummary]) -> list[Bar]:
    """Return the cells with the lengths of their bars; cells that run the same are beside each other."""
    order = list(dict.fromkeys(map(phrases.variant, cells)))
    longest = [max((cell.metrics[name].median or 0 for cell in cells), default=0) or 1
               for name in ("connections_opened", PRICE.name)]
    return [Bar(cell, *(round(100 * (cell.metrics[name].median or 0) / most, 2)
                        for name, most in zip(("connections_opened", PRICE.name), longest, strict=True)))
            for cell in sorted(cells, key=lambda cell: order.index(phrases.variant(cell)))]


def _variants(cells: Sequence[CellSummary]) -> list[CellSummary]:
    """Return one cell for each variant that was run, for the legends."""
    found: dict[str, CellSummary] = {}
    for cell in cells:
        found.setdefault(phrases.variant(cell), cell)
    return list(found.values())


def _range(shares: Sequence[float]) -> str:
    """Return "1 % to 3 %"."""
    lowest, highest = phrases.percent(min(shares, default=None)), phrases.percent(max(shares, default=None))
    return lowest if lowest == highest else f"{lowest} to {highest}"


def _contrasts(summary: Summary) -> Iterator[Contrasts]:
    """Yield the contrasts of each kind, grouped by pair of cells."""
    cells = {side(cell): cell for cell in summary.cells}
    for between, title in _BETWEEN.items():
        pairs: dict[tuple[Side, Side], dict[str, Verdict]] = {}
        for one in summary.contrasts:
            if one.between == between:
                pairs.setdefault((one.baseline, one.contender), {})[one.metric] = _verdict(one, cells)
        metrics = [metric for metric in METRICS if between in metric.contrasts
                   and (metric.name in _CONTRASTED or between == "preload")]
        if pairs:
            yield Contrasts(title, metrics, [Pair(*sides, verdicts) for sides, verdicts in pairs.items()])


def _verdict(one: Contrast, cells: Mapping[Side, CellSummary]) -> Verdict:
    return verdict(one, cells[one.baseline].metrics[one.metric].raw, cells[one.contender].metrics[one.metric].raw)


def _environment(summary: Summary) -> list[tuple[str, str]]:
    """Return the values in the environment's record in the form for people, with their paths."""
    return [(" · ".join(path).removesuffix("_bytes"), _leaf(path[-1], value))
            for path, value in phrases.leaves(summary.environment)]


def _leaf(key: str, value: object) -> str:
    if value is None:
        return phrases.NOTHING
    if key.endswith("_bytes") and isinstance(value, int):
        return f"{value / 2**30:.1f} GiB"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
