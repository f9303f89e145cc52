"""The law's results as tables for people, and as an object for programs."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from rig.capacity.against import Row
from rig.capacity.law import Forecast, Load

LABELS = {"problematic": "problematic", "improved": "improved, hook", "process": "scope process",
          "shared": "scope shared"}


def forecasts(found: Sequence[Forecast], load: Load) -> Table:
    """Return the forecasts, a column for each way to get a driver."""
    table = Table("", box=None, caption=_caption(load), caption_justify="left")
    for one in found:
        table.add_column(LABELS[one.way], justify="right")
    for heading, cell in _rows(load):
        table.add_row(heading, *map(cell, found))
    return table


def _rows(load: Load) -> Iterator[tuple[str, Callable[[Forecast], str]]]:
    yield "connections opened per hour", lambda one: _count(one.opened)
    yield "connections open at once, at most", lambda one: str(one.peak)
    yield "connections open on average", lambda one: _count(one.open)
    yield "seconds per hour spent on connecting", lambda one: _count(one.connecting)
    yield (f"tasks per hour from which more than {load.limit} are open",
           lambda one: "never" if one.limit_met_at is None else _count(one.limit_met_at))
    yield "idle seconds for each opening saved", lambda one: "" if one.price is None else _count(one.price)
    yield f"tasks per hour from which that is at most {load.worth:g}", _pays


def errors(rows: Iterable[Row]) -> Table:
    """Return a table of the law's values and the measured ones."""
    table = Table("cell", "metric", box=None)
    for heading in ("law", "measured", "error"):
        table.add_column(heading, justify="right")
    for row in rows:
        through = "" if row.relay == "none" else f", {row.relay}"
        table.add_row(f"{row.executor} · {row.pattern}{through}{', warm' if row.warm else ''}", row.metric,
                      f"{row.law:.1f}", row.reason or "not known" if row.measured is None else f"{row.measured:.1f}",
                      _error(row))
    return table


def as_json(found: Iterable[Forecast], load: Load, rows: Iterable[Row] | None) -> dict[str, Any]:
    """Return all results for a program. The keys are those of :class:`Load`, :class:`Forecast` and :class:`Row`."""
    said: dict[str, Any] = {"load": {**asdict(load), "task_seconds": load.busy, "capacity": load.capacity},
                            "forecasts": [one._asdict() for one in found]}
    if rows is not None:
        said["against"] = [{**row._asdict(), "error": row.error} for row in rows]
    return said


def _caption(load: Load) -> str:
    places = f"{load.places} tasks at once, {load.busy:g} s each: {_count(load.capacity)} tasks an hour at most"
    if load.tasks_per_hour > load.capacity:
        return f"{places}. {_count(load.tasks_per_hour)} is more: the figures are for the most that can be done."
    share = 100 * load.tasks_per_hour / load.capacity
    return f"{places}; asked for {_count(load.tasks_per_hour)}, {share:.0f} % of it."


def _error(row: Row) -> str:
    if row.measured == row.law:
        return "exact"
    return "not known" if row.error is None else f"{100 * row.error:+.0f} %"


def _pays(one: Forecast) -> str:
    if one.pays_from is None:
        return "" if one.way in {"problematic", "improved"} else "never"
    return "any" if one.pays_from == 0 else _count(one.pays_from)


def _count(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"
