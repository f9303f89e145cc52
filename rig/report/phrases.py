"""The wording of figures and cells, the same on the page and in the terminal."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from patterns.registry import PATTERNS
from rig.metrics.intervals import Interval, Number
from rig.metrics.model import DagRunSummary, MetricSummary, Side
from rig.others import why_lower_bound
from rig.percentile import least_for

NOTHING = "\N{EN DASH}"
IN_ONE_DAG_RUN = " in one DAG run"

_MINUS, _UNBROKEN = "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}"
_RELAYS = {"process": "relay per process", "shared": "shared relay"}
_GLYPHS = {"LocalExecutor": "●", "CeleryExecutor": "▲"}


def number(value: Number | None) -> str:
    """Return a number with three significant digits: ``1,234``, ``27.5``, ``0.131``; a dash for None."""
    if value is None:
        return NOTHING
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".")


def signed(value: Number | None) -> str:
    """Return a difference with its sign, with a typographic minus."""
    if value is None:
        return NOTHING
    return f"{'+' if value > 0 else _MINUS if value < 0 else ''}{number(abs(value))}"


def median(metric: MetricSummary) -> str:
    """Return a metric's median, as "≥ n" if only a lower bound is known."""
    return bound(metric.median, metric.lower_bound)


def bound(value: Number | None, lower_bound: bool) -> str:
    """Return a value, as "≥ n" if only a lower bound is known."""
    return _bound(value, lower_bound, "≥")


def tail(value: Number | None, count: int) -> str:
    """Return the 95th percentile of ``count`` values; with too few for one, the maximum, as "at most n"."""
    return f"at most {number(value)}" if value is not None and count < least_for(95) else number(value)


def latency(figures: Mapping[str, Any]) -> str:
    """Return the tail of a load test's latency."""
    return tail(figures["highest" if figures["p95"] is None else "p95"], figures["count"])


def at_least(value: Number | None, lower_bound: bool) -> str:
    """Return a value for a sentence, as "at least n" if only a lower bound is known."""
    return _bound(value, lower_bound, "at least")


def _bound(value: Number | None, lower_bound: bool, sign: str) -> str:
    return f"{sign} {number(value)}" if lower_bound and value is not None else number(value)


def doubts(outcome: Mapping[str, Any]) -> Iterator[str]:
    """Yield why what a load test's connections came to is only a lower bound, or is not known."""
    if outcome["connections_lower_bound"]:
        yield why_lower_bound(outcome["others"])
    if outcome["connections_reason"] is not None:
        yield not_counted(outcome["connections_reason"])


def not_counted(reason: str) -> str:
    """Return that connections were not counted, and why."""
    return f"Connections were not counted: {reason}"


def most_others(dag_runs: Iterable[DagRunSummary]) -> int:
    """Return how many connections of others were seen in one DAG run at most: those of two may be the same."""
    return max((run.others or 0 for run in dag_runs), default=0)


def interval(ends: Interval | None) -> str:
    """Return an interval in brackets; empty if there is none."""
    return "" if ends is None else f"[{number(ends[0])}, {number(ends[1])}]"


def repeated(figure: Mapping[str, Any]) -> str:
    """Return the median of a load comparison's repeats with its interval in brackets, its range without one."""
    return f"{number(figure['median'])} {interval(figure['ci95'] or figure['range'])}".rstrip()


def percent(share: float | None) -> str:
    """Return a share of 1 in percent."""
    return NOTHING if share is None else f"{100 * share:.0f}{_UNBROKEN}%"


def direction(better: str | None) -> str:
    """Return the good direction, in words."""
    return {"lower": "lower is better", "higher": "higher is better"}.get(better or "", "neither is better")


def variant(cell: Side) -> str:
    """Return a cell's variant, without its executor."""
    more = [*([] if cell.relay == "none" else [_RELAYS[cell.relay]]), *(["preloaded"] if cell.preload else []),
            *(["warm"] if cell.warm else []), *([] if cell.driver == "sync" else ["async"]),
            *(["control"] if cell.control else [])]
    return f"{cell.pattern} ({', '.join(more)})" if more else cell.pattern


def executor(name: str) -> str:
    """Return an executor with the glyph that stands for it everywhere."""
    return f"{_GLYPHS.get(name, '■')} {name}"


def label(cell: Side) -> str:
    """Return a cell's name."""
    return f"{variant(cell)} on {cell.executor}"


def hue(cell: Side) -> str:
    """Return the name of the pattern's colour, which is the same on the whole page."""
    return cell.pattern if cell.pattern in PATTERNS else "other"


def stroke(cell: Side) -> str:
    """Return the name of the line's dash pattern, which distinguishes cells of the same hue in a chart."""
    return "-".join([cell.relay, *(["warm"] if cell.warm else []), *([] if cell.driver == "sync" else ["async"]),
                     *(["preloaded"] if cell.preload else [])])


def moment(seconds: float | None) -> str:
    """Return a time since the epoch as a date and time in UTC."""
    return NOTHING if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def leaves(value: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Yield every value in nested mappings that is not a mapping itself, with the keys that lead to it."""
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from leaves(item, (*path, key))
        else:
            yield (*path, key), item


def enumerate_words(words: list[str]) -> str:
    """Return "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""
