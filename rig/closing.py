"""The last lines of a command: the figures, where the report is, and the error that it ends with, if any.

Raises typer.Exit with INTERRUPTED if the user stopped it, and RigError if it failed.
"""

from collections import Counter
from pathlib import Path

import typer
from rich.text import Text

from rig import metrics
from rig import report as reporting
from rig.console import console
from rig.errors import BROKEN, INTERRUPTED, RigError
from rig.load import records as load_records
from rig.load import summary as load_summary
from rig.load.run import Ended
from rig.metrics import Summary
from rig.plural import plural
from rig.records import REPORT_FILE, RunRecord
from rig.report import load_comparison, load_terminal
from rig.settings import Settings


def of_comparison(config: Settings, record: RunRecord) -> None:
    """Print the result of a comparison."""
    folder: Path = config.data_dir / record.run
    summary = metrics.summarise(folder)
    console.print(reporting.table(summary))
    console.print(f"Report: {folder / REPORT_FILE}", soft_wrap=True)
    if record.status == "interrupted":
        console.print(f"Stopped; `rig compare --resume {record.run}` continues it.", soft_wrap=True)
        raise typer.Exit(INTERRUPTED)
    if record.status != "complete":
        raise RigError(f"the comparison failed: {record.reason}")
    if what := failures(summary):
        raise RigError(f"{what}; the report says which")


def failures(summary: Summary) -> str:
    """Return what failed in a comparison, without an exhibit; empty if nothing did."""
    # A service may die after the last task has ended: then no task failed, but the DAG run did.
    ended = Counter(run.state for run in summary.dag_runs if run.state != "success" and not run.is_exhibit)
    cells = [cell for cell in summary.cells if not cell.is_exhibit]
    failed = sum(cell.tasks * cell.repeats - cell.tasks_succeeded for cell in cells)
    wrong = sum(cell.tasks_wrong for cell in cells)
    runs = ", ".join(f"{count} {state}" for state, count in ended.items())
    return ", ".join(part for part in (f"DAG runs that did not succeed: {runs}" if ended else "",
                                       f"{plural(failed, 'task')} did not succeed" if failed else "",
                                       f"{plural(wrong, 'task')} got a wrong answer" if wrong else "") if part)


def of_loads(folder: Path) -> None:
    """Print the result of a comparison of loads."""
    written = reporting.write(folder)
    for table in load_comparison.tables(load_summary.read(folder)):
        console.print(table)
    console.print(f"Report: {written}", soft_wrap=True)
    record = load_records.read_comparison(folder)
    if record.status == "interrupted":
        console.print(f"Stopped; `rig compare-load --resume {record.run}` continues it.", soft_wrap=True)
        raise typer.Exit(INTERRUPTED)
    if record.status == "failed":
        raise RigError(f"the comparison failed: {record.reason}",
                       f"`rig compare-load --resume {record.run}` continues it")


def of_load_test(ended: Ended, *, headless: bool) -> None:
    """Print the result of each load test. Without a page, the first one that broke a threshold is an error."""
    for folder in ended.folders:
        page = reporting.write(folder)
        summary = load_summary.read(folder)
        for line in load_terminal.sentences(summary):
            console.print(Text(line), soft_wrap=True)
        console.print(f"Report: {page}", soft_wrap=True)
        if headless and ended.code == BROKEN:
            raise RigError(f"the load test failed: {'; '.join(summary['broken'])}")
    if headless and ended.code == INTERRUPTED:
        raise typer.Exit(INTERRUPTED)
