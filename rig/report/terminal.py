"""The cells as a short table for the terminal."""

from rich.table import Table
from rich.text import Text

from rig import others
from rig.console import figures_table
from rig.environment import is_tapped
from rig.metrics.model import CellSummary, Summary
from rig.report import headline, phrases

_SHOWN = {"connections_opened": "opened", "connections_idle_peak": "idle\npeak",
          "idle_connection_seconds_kept": "idle\ns",
          "connections_left_5s": "left\n5 s", "makespan_seconds": "make-\nspan"}


def table(summary: Summary) -> Table:
    """Return a row for each cell: the medians of the main metrics, and the outcome of its tasks."""
    caption = (f"run {summary.run}, profile {summary.profile}, {summary.status}; medians over DAG runs; "
               f"{_counters(summary)}; makespan in s{_others(summary)}")
    made = figures_table(title=Text(headline.headline(summary)), title_justify="left", title_style="bold",
                         caption=Text(caption), caption_justify="left")
    made.add_column("executor", no_wrap=True)
    made.add_column("pattern", no_wrap=True)
    for title in (*_SHOWN.values(), "tasks\nok", "wrong"):
        made.add_column(title, justify="right", no_wrap=True)
    for cell in summary.cells:
        made.add_row(*_row(cell))
    return made


def _counters(summary: Summary) -> str:
    return ("connections opened as the tap counted them, the others as the server saw them"
            if is_tapped(summary.environment) else "connections as the server saw them")


def _others(summary: Summary) -> str:
    seen = others.seen(phrases.most_others(summary.dag_runs), phrases.IN_ONE_DAG_RUN)
    return f". {seen}: ≥ is a lower bound" if seen else ""


def _row(cell: CellSummary) -> list[Text]:
    # As Text, not markup: a pattern's name must not be read as a style.
    figures = [phrases.median(cell.metrics[name]) for name in _SHOWN]
    tasks = cell.tasks * cell.repeats
    return [Text(cell.executor.removesuffix("Executor")), Text(_pattern(cell)), *map(Text, figures),
            Text(f"{cell.tasks_succeeded}/{tasks}", style="" if cell.tasks_succeeded == tasks else "yellow"),
            Text(str(cell.tasks_wrong), style="bold red" if cell.tasks_wrong else "")]


def _pattern(cell: CellSummary) -> str:
    name = "/".join([cell.pattern, *([] if cell.relay == "none" else [cell.relay]),
                     *(["warm"] if cell.warm else []), *(["control"] if cell.control else []),
                     *([] if cell.driver == "sync" else [cell.driver])])
    return f"{name}\n  preloaded" if cell.preload else name      # in one line a terminal would be too narrow
