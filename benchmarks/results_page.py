"""Write the tables of README.md, docs/results.md and the first tutorial from the summaries kept in docs/results.

``python -m benchmarks.results_page results/RUN`` first keeps the summary of that run, without its single DAG runs. The
file is seed.json or quick.json for a run with that profile, else comparison.json. Without a run, the tables are made
from the summaries that are kept.
"""

import argparse
import io
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from rig.errors import BadInput
from rig.metrics.model import CellSummary, Contrast, MetricSummary, Side, Summary
from rig.plural import plural
from rig.report import phrases, terminal
from rig.report.verdicts import verdict
from rig.settings import PROJECT
from rig.whole_file import write_whole
from testing.marked import replaced, table

FOLDER = PROJECT / "docs" / "results"
COMPARISON, PROFILES = "comparison", {"quick", "seed"}
PAGES = (PROJECT / "README.md", PROJECT / "docs" / "results.md", PROJECT / "docs" / "tutorials" / "first-comparison.md")
WIDTH = 90     # columns of a terminal
_PATTERNS = {"problematic": "a new driver for every call, never closed", "improved": "one driver per task process",
             "hook": "the stock `Neo4jHook`", "worker": "a shared driver"}
_RELAYS = {"none": "", "process": ", one per pool process", "shared": ", one for all tasks"}
_MEASURED = {"connections_opened": "connections opened", "connections_idle_peak": "most idle at once",
             "idle_connection_seconds_kept": "idle connection-seconds", "connections_left_5s": "open 5 s after the end",
             "cpu_per_task": "processor seconds per task", "makespan_seconds": "makespan, s"}


def keep(run: Path) -> None:
    """Keep what the tables need from a run's summary. Raises BadInput if the run has no readable summary."""
    summary = _summary(run / "summary.json")
    name = summary.profile if summary.profile in PROFILES else COMPARISON
    write_whole(FOLDER / f"{name}.json", _without_the_rest(summary).model_dump_json(indent=1) + "\n")


def _without_the_rest(summary: Summary) -> Summary:
    """Return only what the tables show, so that a committed file is small enough to be read in a change."""
    cells = [cell.model_copy(update={"conditions": {}, "metrics": {name: cell.metrics[name] for name in _MEASURED}})
             for cell in summary.cells]
    primary = [contrast for contrast in summary.contrasts if contrast.family == "primary"]
    return summary.model_copy(update={"dag_runs": [], "cells": cells, "contrasts": primary})


def with_tables(page: str) -> str:
    """Return a page with new contents in each of its blocks.

    Raises KeyError if a block has no known name, BadInput if a summary is missing.
    """
    return replaced(page, "results", _block)


def _block(name: str) -> str:
    kind, _, kept = name.partition("-of-")
    return BLOCKS[kind](_summary(FOLDER / f"{kept}.json"))


def _summary(file: Path) -> Summary:
    try:
        return Summary.model_validate_json(file.read_bytes())
    except (OSError, ValueError) as error:
        raise BadInput(f"{file} is not the summary of a comparison: {str(error).splitlines()[0]}",
                       "give the folder of a run that has ended, as results/20261127-120000-default") from error


def conditions(summary: Summary) -> str:
    """Return the circumstances of the figures, in one paragraph."""
    first, versions = summary.cells[0], summary.environment["versions"]
    succeeded = sum(cell.tasks_succeeded for cell in summary.cells)
    planned = sum(cell.tasks * cell.repeats for cell in summary.cells)
    wrong = sum(cell.tasks_wrong for cell in summary.cells)
    repeats = sorted({cell.repeats for cell in summary.cells})
    return (f"`{summary.command}` on {phrases.moment(summary.started_at)[:10]}: {first.tasks} tasks in a DAG run, "
            f"{plural(first.calls_per_task, 'call')} in a task, at most {summary.slots} tasks at once, "
            f"{' or '.join(map(str, repeats))} of each DAG run. "
            f"{summary.environment['cpu']['cores']} cores, Airflow {versions['airflow']}, Celery {versions['celery']}, "
            f"Neo4j {versions['neo4j server']}, driver {versions['neo4j driver']}, Python {versions['python']}. "
            f"{succeeded:,} of {planned:,} tasks succeeded, {wrong:,} got a wrong answer.")


def cells(summary: Summary) -> str:
    """Return the table of all cells: medians, with the range of the repeats if they differ."""
    rows = [[_pattern(cell), cell.executor.removesuffix("Executor"), "warm" if cell.warm else "fresh",
             *(_value(cell.metrics[name]) for name in _MEASURED)] for cell in summary.cells if not cell.control]
    return table(["pattern", "executor", "workers", *_MEASURED.values()], rows)


def contrasts(summary: Summary) -> str:
    """Return the table of the contrasts that were named beforehand.

    It has the corrected intervals if a ratio has one, else the ranges of the blocks. If a cell was run against itself,
    it also has the noise floor.
    """
    primary = [contrast for contrast in summary.contrasts if contrast.family == "primary"]
    has_intervals = any(contrast.ci95 for contrast in primary)
    has_floor = any(contrast.noise_floor is not None for contrast in primary)
    raw = {_side(cell): cell for cell in summary.cells}
    rows = []
    for contrast in primary:
        if contrast.ratio is None:
            continue
        before, after = (raw[_side(side)].metrics[contrast.metric].raw
                         for side in (contrast.baseline, contrast.contender))
        rows.append([_MEASURED[contrast.metric], phrases.label(contrast.contender), phrases.variant(contrast.baseline),
                     phrases.number(contrast.ratio), _ends(contrast.ci95 if has_intervals else contrast.range),
                     *([_floor(contrast)] if has_floor else []), verdict(contrast, before, after).words])
    return table(["figure", "of", "over", "ratio", "interval" if has_intervals else "range of the blocks",
                   *(["a cell against itself"] if has_floor else []), "verdict"], rows)


def idle(summary: Summary) -> str:
    """Return the table of the original demo's figures, for its two patterns."""
    rows = [[cell.pattern, cell.executor.removesuffix("Executor"),
             *(_value(cell.metrics[name]) for name in ("connections_opened", "connections_idle_peak"))]
            for cell in summary.cells if cell.pattern in {"problematic", "improved"} and not cell.control]
    return table(["pattern", "executor", "connections opened", "most idle at once"], rows)


def front(summary: Summary) -> str:
    """Return README's four rows: those of CeleryExecutor, each of one DAG run."""
    wanted: list[tuple[str, Callable[[CellSummary], bool]]] = [
        (_PATTERNS["problematic"], lambda cell: cell.pattern == "problematic" and not cell.warm),
        (_PATTERNS["improved"], lambda cell: cell.pattern == "improved" and not cell.warm),
        ("one shared driver per pool process, first DAG run", lambda cell: _is_shared(cell) and not cell.warm),
        ("one shared driver per pool process, the next DAG run", lambda cell: _is_shared(cell) and cell.warm)]
    on_celery = [cell for cell in summary.cells if cell.executor == "CeleryExecutor" and not cell.control]
    rows = [[name, *(phrases.median(next(filter(is_it, on_celery)).metrics[metric])
                     for metric in ("connections_opened", "connections_left_5s"))] for name, is_it in wanted]
    return table(["pattern", "connections opened", "still open 5 s later"], rows)


def shown(summary: Summary) -> str:
    """Return what `rig compare` prints at its end."""
    lines = Console(width=WIDTH, file=io.StringIO(), record=True)
    lines.print(terminal.table(summary))
    return "\n".join(["```", *(line.rstrip() for line in lines.export_text().splitlines()), "```"])


BLOCKS: dict[str, Callable[[Summary], str]] = {
    "conditions": conditions, "cells": cells, "contrasts": contrasts, "front": front, "idle": idle,
    "shown": shown}


def _side(cell: Side) -> Side:
    return Side.model_validate(cell.model_dump(include=set(Side.model_fields)))


def _is_shared(cell: CellSummary) -> bool:
    return cell.pattern == "worker" and cell.relay == "process"


def _pattern(cell: CellSummary) -> str:
    through = cell.pattern == "hook" and cell.relay != "none"
    return _PATTERNS.get(cell.pattern, cell.pattern) + (" through a shared driver" if through else "") + \
        _RELAYS[cell.relay]


def _value(metric: MetricSummary) -> str:
    measured = [value for value in metric.raw if value is not None]
    if metric.median is None or min(measured) == max(measured):
        return phrases.median(metric)
    return f"{phrases.median(metric)} ({phrases.number(min(measured))} to {phrases.number(max(measured))})"


def _ends(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else " to ".join(phrases.number(end) for end in interval)


def _floor(contrast: Contrast) -> str:
    return "" if contrast.noise_floor is None else f"up to {phrases.percent(contrast.noise_floor)}"


def main(arguments: list[str] | None = None) -> int:
    """Write the tables; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path,
                        help="the folder of a comparison, as results/20261127-120000-default")
    options = parser.parse_args(arguments)
    try:
        if options.run:
            keep(options.run)
        written = {page: with_tables(page.read_text(encoding="utf-8")) for page in PAGES}
    except BadInput as error:
        print(error, file=sys.stderr)
        return 2
    for page, text in written.items():
        write_whole(page, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
