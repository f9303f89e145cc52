"""Popular advice, item by item, with what this run measured about it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rig.metrics.model import CellSummary, Summary
from rig.report import headline, phrases


class Advice(NamedTuple):
    """An item of advice, its measured effect (None if this run did not try it), and how to try it."""

    advice: str
    effect: str | None
    how: str


class _Tried(NamedTuple):
    advice: str
    how: str
    effect: Callable[[Summary], str | None]


def advice(summary: Summary) -> list[Advice]:
    """Return every item of advice, with its effect in this run."""
    return [Advice(one.advice, one.effect(summary), one.how) for one in _ALL]


def _cell(summary: Summary, pattern: str, relay: str = "none", executor: str | None = None) -> CellSummary | None:
    """Return the cold cell of a pattern that was counted, on the given executor or else on that of the headline."""
    cells = [cell for cell in summary.cells
             if summary.tells_of(cell) and cell.is_counted
             and (cell.pattern, cell.relay, cell.warm, cell.control, cell.driver) == (
                 pattern, relay, False, False, "sync")]
    wanted = executor or headline.executor_of(summary)
    return next((cell for cell in cells if cell.executor == wanted), None if executor else next(iter(cells), None))


def _from_to(baseline: CellSummary | None, contender: CellSummary | None, *, idle: bool = True) -> str | None:
    if baseline is None or contender is None:
        return None
    opened = _change("connections_opened", baseline, contender)
    seconds = f"; {_change('idle_connection_seconds_kept', baseline, contender)}" if idle else ""
    where = baseline.executor if baseline.executor == contender.executor else \
        f"{baseline.executor} → {contender.executor}"
    return f"{opened}{seconds} ({where})"


_WORDS = {"connections_opened": "connections opened", "idle_connection_seconds_kept": "connection-seconds idle"}


def _change(name: str, baseline: CellSummary, contender: CellSummary) -> str:
    before, after = baseline.metrics[name].median, contender.metrics[name].median
    words = f"{phrases.number(before)} → {phrases.number(after)} {_WORDS[name]}"
    if before is None or after is None or not before:
        return words
    if before == after:
        return f"{words}, the same"
    return f"{words}, {phrases.percent(abs(after / before - 1))} {'fewer' if after < before else 'more'}"


def _patterns(pattern: str, *relays: str, baseline: str = "problematic") -> Callable[[Summary], str | None]:
    def effect(summary: Summary) -> str | None:
        tried = next((cell for relay in relays or ("none",) if (cell := _cell(summary, pattern, relay))), None)
        return _from_to(tried and _cell(summary, baseline, executor=tried.executor), tried)
    return effect


def _executors(summary: Summary) -> str | None:
    found = [said for pattern in ("problematic", "improved") if (said := _from_to(
        _cell(summary, pattern, executor="LocalExecutor"), _cell(summary, pattern, executor="CeleryExecutor"),
        idle=False))]
    return f"with problematic {found[0]}" + (f"; with improved {found[1]}" if len(found) > 1 else "") if found else None


def _closing(summary: Summary) -> str | None:
    kept, closed = _cell(summary, "problematic"), _cell(summary, "improved")
    if kept is None or closed is None:
        return None
    left = kept.metrics["connections_left_5s"].median
    also = closed.metrics["connections_left_5s"].median
    if left is None or also is None:
        return None
    return (f"{phrases.number(left)} connections left 5 s after the task that never closes one, {phrases.number(also)} "
            "after the task that does: they end with the task’s process")       # noqa: RUF001 - typography


def _before_the_fork(summary: Summary) -> str | None:
    runs = [run for run in summary.dag_runs if run.is_exhibit]
    return f"it breaks: {headline.breakage(runs)}" if runs else None


_ALL: Sequence[_Tried] = (
    _Tried("Cache one driver per process", "--patterns problematic,improved", _patterns("improved")),
    _Tried("Close the driver when the task ends", "--patterns problematic,improved", _closing),
    _Tried("Use the provider’s Neo4jHook", "--patterns problematic,hook", _patterns("hook")),  # noqa: RUF001
    _Tried("Move to CeleryExecutor: its processes live on", "--executors local,celery", _executors),
    _Tried("Open the driver before the fork, and let the tasks inherit it",
           "--patterns inherited --executors celery --tasks 60", _before_the_fork),
    _Tried("Share one driver for each worker process", "--patterns problematic,worker",
           _patterns("worker", "process")),
    _Tried("The same, with the stock hook and not a line of code changed",
           "--patterns problematic,hook --relays none,process", _patterns("hook", "process", "shared")),
    _Tried("Share one driver for all tasks of a machine", "--patterns problematic,worker --relays none,shared",
           _patterns("worker", "shared")))
