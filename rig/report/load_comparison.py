"""The page of a comparison of loads: throughput and latency, connections, and each cell's highest rate that holds."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from rig import others
from rig.load import records, summary
from rig.load.records import LoadCell
from rig.report import phrases, plot
from rig.report.page import own_files, templates
from rig.report.plot import Line, Panel

DASHES = {"LocalExecutor": "", "CeleryExecutor": "6,3"}


def report(folder: Path) -> tuple[dict[str, Any], str]:
    """Return a comparison's summary and its page. Raises BadInput if the folder cannot be read."""
    found = summarise(folder)
    page: str = templates().get_template("load_comparison.html.j2").render(
        summary=found, headline=headline(found), found=panels(found), bounds=list(bounds(found)), **own_files())
    return found, page


def summarise(folder: Path) -> dict[str, Any]:
    """Return, for each cell, its steps, the rate that ``holds`` and the figures of the long test at that rate.

    Before its long test, a cell's rate is the one from its steps.
    """
    record, tests = records.read_comparison(folder), records.read_tests(folder)
    cells = []
    for number, cell in enumerate(record.cells):
        of_cell = [test for test in tests if test.cell == number]
        # Of several long tests the last one counts: those before it did not hold.
        of_phase = {test.phase: summary.summarise(folder / test.folder) for test in of_cell}
        knee, held = of_phase.get("knee"), of_phase.get("held")
        cells.append({
            **cell.model_dump(), "holds": of_cell[-1].held if of_cell else None, "knee": knee and knee["knee"],
            "held": held and {
                "rate": held["load"]["rate"], "seconds": held["load"]["seconds"], "status": held["status"],
                "kept_up": held["kept_up"], "share": held["share"], **held["outcome"]},
            "tests": [test.model_dump(include={"phase", "folder", "held"}) for test in of_cell]})
    return {**record.model_dump(exclude={"cells"}), "cells": sorted(cells, key=lambda one: (
        one["executor"], one["pattern"]))}


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


def bounds(found: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence where others used the server of a cell's long test: what was opened is a lower bound then."""
    marked = [cell for cell in found["cells"] if cell["held"] and cell["held"]["connections_lower_bound"]]
    if marked:
        seen = sum(cell["held"]["others"] or 0 for cell in marked)
        yield f"{others.why_lower_bound(seen)}, for {phrases.enumerate_words([_name(cell) for cell in marked])}."


def _name(cell: dict[str, Any]) -> str:
    return LoadCell(executor=cell["executor"], pattern=cell["pattern"], relay=cell["relay"]).name


def table(folder: Path) -> Table:
    """Return a row for each cell, for the terminal."""
    found = summarise(folder)
    made = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False,
                 caption=" ".join((f"{found['slots']} slots; rates per second; latencies in s, p95, at the rate that "
                                   "held.", *bounds(found))))
    for title, justify in (("cell", "left"), ("holds", "right"), ("run", "right"), ("queued", "right"),
                           ("opened/s", "right"), ("opened\nper run", "right"), ("failed", "right")):
        made.add_column(title, justify="left" if justify == "left" else "right")
    for cell in found["cells"]:
        held = cell["held"] or {}
        latencies, lower = held.get("latencies", {}), held.get("connections_lower_bound", False)
        made.add_row(
            _name(cell),
            phrases.number(cell["holds"]),
            *(phrases.latency(latencies[name]) if latencies else phrases.NOTHING for name in ("run", "queued")),
            phrases.bound(held.get("connections_opened_per_second"), lower),
            phrases.bound(held.get("connections_opened_per_run"), lower), phrases.number(held.get("failed")))
    return made


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
