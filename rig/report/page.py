"""The page: what the template needs, and the template."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from rig.metrics import BY_NAME, CONDITIONS, METRICS
from rig.metrics.intervals import LEAST_REPEATS
from rig.metrics.model import CellSummary, Contrast, Summary
from rig.metrics.raw import RawRun
from rig.report import charts, headline, phrases
from rig.report.limitations import limitations

_TEMPLATES = Path(__file__).parent / "templates"
_MAIN = ("connections_opened", "connections_peak", "connections_idle_peak", "connections_idle",
         "idle_connection_seconds", "connections_left_5s", "connections_left_30s", "first_result_seconds",
         "queued_seconds", "makespan_seconds")
_GROUPS = {"database": "At the database", "tasks": "In the tasks", "executor": "In the executor",
           "conditions": "Conditions reached"}


def html(raw: RawRun, summary: Summary) -> str:
    """Return the whole page: styles, scripts and figures are in it, and nothing is loaded."""
    drawn = charts.drawn(raw, summary.cells)
    page: str = templates().get_template("report.html.j2").render(
        summary=summary, headline=headline.headline(summary), outcome=headline.outcome(summary),
        alarms=headline.alarms(summary), exhibit=headline.exhibit(summary), claims=[(one, headline.claim_sentence(one))
                                               for one in summary.seed_claim.executors],
        intervals=any(cell.repeats_measured >= LEAST_REPEATS for cell in summary.cells),
        bars=_bars(summary.cells), main=[BY_NAME[name] for name in _MAIN],
        groups=[(title, [metric for metric in METRICS + CONDITIONS if metric.group == group])
                for group, title in _GROUPS.items()],
        idle_panels=charts.idle_panels(drawn), opened_panels=charts.opened_panels(drawn),
        contrasts=_contrasts(summary.contrasts), limitations=limitations(summary),
        environment=list(_flat(summary.environment)),
        **own_files())
    return page


def templates() -> Environment:
    """Return the templates with the filters that they use."""
    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)
    environment.filters.update({
        "number": phrases.number, "signed": phrases.signed, "median": phrases.median, "interval": phrases.interval,
        "percent": phrases.percent, "direction": phrases.direction, "variant": phrases.variant, "label": phrases.label,
        "executor": phrases.executor, "hue": phrases.hue, "stroke": phrases.stroke, "moment": phrases.moment,
        "verdict": phrases.verdict, "plural": phrases.plural})
    environment.globals.update({"metric": BY_NAME, "dashes": charts.DASHES})
    return environment


def own_files() -> dict[str, Markup]:
    """Return what every page has in itself: its style, and the scripts that draw."""
    return {"plotly": _trusted(get_plotlyjs()), "style": _file("style.css"), "script": _file("charts.js")}


def _file(name: str) -> Markup:
    return _trusted((_TEMPLATES / name).read_text(encoding="utf-8"))


def _trusted(text: str) -> Markup:
    """Leave a text unescaped: only for files of installed packages, never for what a run recorded."""
    return Markup(text)  # noqa: S704


def _bars(cells: Sequence[CellSummary]) -> list[tuple[str, list[tuple[CellSummary, float]]]]:
    """Return the cells by what they run, each with its bar's length as a share of the longest."""
    longest = max((cell.metrics["connections_opened"].median or 0 for cell in cells), default=0) or 1
    found: dict[str, list[tuple[CellSummary, float]]] = {}
    for cell in cells:
        length = (cell.metrics["connections_opened"].median or 0) / longest
        found.setdefault(phrases.variant(cell), []).append((cell, length))
    return list(found.items())


def _contrasts(contrasts: Sequence[Contrast]) -> dict[str, list[list[Contrast]]]:
    """Return the contrasts between patterns and between executors, those of one pair of cells together."""
    pairs = [list(pair) for _, pair in groupby(contrasts, key=lambda c: (c.between, c.baseline, c.contender))]
    return {between: [pair for pair in pairs if pair[0].between == between]
            for between in ("patterns", "executors")}


def _flat(value: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the environment's leaves with their paths."""
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{path}{key} · ")
        else:
            yield f"{path}{key}".removesuffix("_bytes"), _leaf(key, item)


def _leaf(key: str, value: object) -> str:
    if value is None:
        return phrases.NOTHING
    if key.endswith("_bytes") and isinstance(value, int):
        return f"{value / 2**30:.1f} GiB"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
