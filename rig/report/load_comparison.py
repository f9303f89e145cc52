"""The page of a comparison of loads: throughput and latency, connections, and each cell's highest rate that holds."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

from patterns.facts import MOST_STRESS_RUNS
from rig import others
from rig.console import figures_table
from rig.load import knee, records, summary
from rig.load.records import CellTestRecord, LoadCell, Phase
from rig.metrics import intervals
from rig.report import phrases, plot
from rig.report.page import own_files, templates
from rig.report.plot import Line, Panel

BRACKETS = ("In brackets: of six repeats and more an interval that holds their median with 95 %, of fewer the lowest "
            "and the highest.")
IN_ONE_TEST = " in one test"
DASHES = {"LocalExecutor": "", "CeleryExecutor": "6,3"}


def report(folder: Path) -> tuple[dict[str, Any], str]:
    """Return a comparison's summary and its page. Raises BadInput if the folder cannot be read."""
    found = summarise(folder)
    page: str = templates().get_template("load_comparison.html.j2").render(
        summary=found, headline=headline(found), found=panels(found), knee_of=knee_of, near=knee.NEAR,
        at_once=MOST_STRESS_RUNS, brackets=BRACKETS, bounds=list(bounds(found)), **own_files())
    return found, page


def summarise(folder: Path) -> dict[str, Any]:
    """Return, for each cell, its searches, its closed loops, the rate that ``holds`` and the figures of its long tests.

    ``knee`` is the first search. Before its long test, a cell's rate is the one from its searches.
    """
    record, tests = records.read_comparison(folder), records.read_tests(folder)
    cells = [_cell(folder, cell, [test for test in tests if test.cell == number])
             for number, cell in enumerate(record.cells)]
    return {**record.model_dump(exclude={"cells"}), "cells": sorted(cells, key=lambda one: (
        one["executor"], one["pattern"]))}


def _cell(folder: Path, cell: LoadCell, tests: Sequence[CellTestRecord]) -> dict[str, Any]:
    def of(phase: Phase) -> list[CellTestRecord]:
        return [test for test in tests if test.phase == phase]

    knees = [summary.summarise(folder / test.folder)["knee"] for test in of("knee")]
    held = of("held")
    rates = knee.as_rates([one["last_rate_that_held"] for one in knees])
    return {
        **cell.model_dump(), "knee": knees[0] if knees else None,
        # Of several long tests the last one counts: those before it did not hold.
        "holds": held[-1].held if held else knee.rate_to_hold(rates),
        "searches": {**repeats(rates), "open": sum(not one["found"] for one in knees)},
        "saturated": repeats([test.throughput for test in tests if test.throughput is not None]),
        "held": _long(folder, held), "below": _long(folder, of("below")),
        "tests": [test.model_dump(include={"phase", "folder", "held", "throughput"}) for test in tests]}


def _long(folder: Path, tests: Sequence[CellTestRecord]) -> dict[str, Any] | None:
    """Return what the last of some tests of a constant rate came to; None if there is none."""
    if not tests:
        return None
    test = summary.summarise(folder / tests[-1].folder)
    return {"rate": test["load"]["rate"], "seconds": test["load"]["seconds"], "status": test["status"],
            "kept_up": test["kept_up"], "share": test["share"], **test["outcome"]}


def repeats(values: Sequence[float]) -> dict[str, Any]:
    """Return a figure's repeats, their median, and how sure that is.

    ``ci95`` is an interval that holds the median with 95 %, from six repeats on; ``range`` has the lowest and the
    highest of two and more.
    """
    return {"values": list(values), "median": median(values) if values else None,
            "ci95": intervals.of_median(values), "range": intervals.range_of(values)}


def headline(found: dict[str, Any]) -> str:
    """Return a sentence with the lowest and the highest rate that held on each executor."""
    searched = [cell for cell in found["cells"] if cell["knee"]]
    parts = [f"{name} {_range([cell['holds'] for cell in searched if cell['executor'] == name])}"
             for name in DASHES if any(cell["executor"] == name for cell in searched)]
    return f"DAG runs per second that hold: {', '.join(parts)}." if parts else "No cell was measured."


def _range(rates: list[float | None]) -> str:
    known = sorted(rate for rate in rates if rate is not None)
    lowest, highest = (f"{known[0]:g}", f"{known[-1]:g}") if known else (phrases.NOTHING, phrases.NOTHING)
    return lowest if lowest == highest else f"{lowest} to {highest}, by pattern"


def panels(found: dict[str, Any]) -> list[Panel]:
    """Return the charts: a line for each cell, with a point for each rate that it was driven at."""
    return [_panel(title, y, unit, found) for title, y, unit in (
        ("Latency against rate: run, 95th percentile, of fewer than 20 runs the maximum", "run_tail", "seconds"),
        ("Latency against rate: queued, 95th percentile, of fewer than 20 runs the maximum", "queued_tail", "seconds"),
        ("Throughput against rate", "throughput", "DAG runs per second that ended"),
        ("Connections against rate", "opened_per_second", "connections opened per second"))]


def bounds(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence where a cell's long tests have only a lower bound of what was opened, or no count at all."""
    tests = [(_name(cell), test) for cell in found["cells"] for test in (cell["held"], cell["below"]) if test]
    marked = [(name, test["others"] or 0) for name, test in tests if test["connections_lower_bound"]]
    if marked:
        names = [name for name, _ in marked]
        yield f"{others.why_lower_bound(max(seen for _, seen in marked), IN_ONE_TEST)}, for {_each(names)}."
    for reason in dict.fromkeys(test["connections_reason"] for _, test in tests if test["connections_reason"]):
        names = [name for name, test in tests if test["connections_reason"] == reason]
        yield f"{phrases.not_counted(reason)}, for {_each(names)}."


def _each(names: list[str]) -> str:
    return phrases.enumerate_words(list(dict.fromkeys(names)))


def _name(cell: dict[str, Any]) -> str:
    return LoadCell(executor=cell["executor"], pattern=cell["pattern"], relay=cell["relay"]).name


def tables(found: Mapping[str, Any]) -> list[Table]:
    """Return what was found, and what happened when it was held, each with a row for each cell, for the terminal."""
    loops = bool(found["saturated_seconds"])
    rates = _table(("cell", "knee", "searches", *(["saturated"] if loops else []), "holds"),
                   f"{found['slots']} slots; DAG runs per second. {BRACKETS}")
    for cell in found["cells"]:
        rates.add_row(_name(cell), knee_of(cell), str(len(cell["searches"]["values"])),
                      *([phrases.repeated(cell["saturated"])] if loops else []), phrases.number(cell["holds"]))
    held = "the rate that holds" + (", then 80 % of the saturated throughput" if loops else "")
    for_long = _table(("cell", "per second", "run", "queued", "opened/s", "opened\nper run", "failed"), " ".join((
        f"Held for {found['held_seconds']:g} s: {held}; latencies in s, p95.", *bounds(found))))
    for cell in found["cells"]:
        for test in (cell["held"], cell["below"]):
            if test:
                for_long.add_row(_name(cell), *_of_long(test))
    return [rates, for_long]


def _table(columns: Sequence[str], caption: str) -> Table:
    made = figures_table(caption=caption)
    for title in columns:
        made.add_column(title, justify="left" if title == "cell" else "right")
    return made


def _of_long(test: dict[str, Any]) -> Iterator[str]:
    lower = test["connections_lower_bound"]
    yield phrases.number(test["rate"])
    yield from (phrases.latency(test["latencies"][name]) for name in ("run", "queued"))
    yield from (phrases.bound(test[name], lower) for name in (
        "connections_opened_per_second", "connections_opened_per_run"))
    yield phrases.number(test["failed"])


def knee_of(cell: dict[str, Any]) -> str:
    """Return a cell's knee with its interval; it may be more where a search met no rate that does not hold."""
    return phrases.repeated(cell["searches"]) + (" or more" if cell["searches"]["open"] else "")


def _panel(title: str, value: str, unit: str, found: dict[str, Any]) -> Panel:
    searched = [cell for cell in found["cells"] if cell["knee"]]
    steps = [step for cell in searched for step in cell["knee"]["steps"]]
    values = [step[value] for step in steps if step[value] is not None]
    x = plot.from_zero(max((step["rate"] for step in steps), default=1.0), "DAG runs per second, due")
    y = plot.from_zero(max(values, default=1.0), unit)
    lines = [Line(f"{cell['pattern']} · {phrases.executor(cell['executor'])}", cell["pattern"],
                  plot.straight([(step["rate"], step[value]) for step in cell["knee"]["steps"]], x, y),
                  DASHES[cell["executor"]]) for cell in searched] if values else []
    points = [plot.Dots(line.name, line.hue, plot.dots(
        [(step["rate"], step[value]) for step in cell["knee"]["steps"] if step[value] is not None], x, y))
        for line, cell in zip(lines, searched, strict=False)]
    return Panel(title, f"{title}, in {unit}, for {len(lines)} cells", None, x, y, lines, points)
