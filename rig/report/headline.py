"""The run in one sentence and three numbers, all made from its figures."""

from collections.abc import Sequence
from typing import NamedTuple

from rig.metrics.demo_claim import LEAST_REDUCTION
from rig.metrics.model import CellSummary, DagRunSummary, ExecutorClaim, Summary
from rig.plural import plural
from rig.records import EXHIBIT
from rig.report import phrases


class Figure(NamedTuple):
    """One of the large numbers: what a pattern opened, a description of it, and its other costs."""

    value: str
    hue: str
    words: str
    beside: str


class _Told(NamedTuple):
    """The cells that the headline is about, all of one executor. Each is None if the run does not have it."""

    problematic: CellSummary | None
    improved: CellSummary | None
    shared: CellSummary | None
    warm: CellSummary | None


def headline(summary: Summary) -> str:
    """Return what 100 tasks opened, with the bad pattern and with the best remedy that was run."""
    cells = _regular(summary)
    if summary.cells and not cells:
        return "This run shows what breaks with a driver that tasks inherit."
    if not any(cell.is_counted for cell in cells):
        return "This run measured no connection."
    told = _told(cells)
    first, second = _first_and_second(told, cells)
    sentence = f"{_tasks(first)} opened {_count(first)} connections{_with(first)}"
    if second is None:
        return f"{sentence}."
    return f"{sentence}; {_remedy(second)} {_count(second)}{_from_then_on(second, told)}."


def figures(summary: Summary) -> list[Figure]:
    """Return up to three numbers: the connections opened by the bad pattern, the usual remedy and the shared driver."""
    told = _told(_regular(summary))
    found = []
    for cell, words in ((told.problematic, "a new driver for every call"),
                        (told.improved, "one driver cached in each task’s process"),    # noqa: RUF001 - typography
                        (told.shared, _shared_words(told.shared))):
        if cell is not None:
            beside = "; ".join(filter(None, (
                _idle(cell), f"{_count(told.warm)} opened in the next DAG run"
                if cell is told.shared and told.warm is not None else "")))
            found.append(Figure(phrases.median(cell.metrics["connections_opened"]), phrases.hue(cell), words, beside))
    return found


def subtitle(summary: Summary) -> str:
    """Return where this was measured, and whether the executor affected the counts."""
    cells = _regular(summary)
    executors = list(dict.fromkeys(cell.executor for cell in cells if cell.is_counted))
    if len(executors) < 2:
        return f"Connections that the server accepted in one DAG run, on {executors[0]}." if executors else ""
    by_variant: dict[str, dict[str, str]] = {}
    for cell in cells:
        by_variant.setdefault(phrases.variant(cell), {}).setdefault(cell.executor, _count(cell))
    both = {variant: by for variant, by in by_variant.items() if len(by) == len(executors)}
    same = [variant for variant, by in both.items() if len(set(by.values())) == 1]
    about = executor_of(summary)
    where = f"Connections that the server accepted in one DAG run, on {about}."
    if not same:
        return where
    other = " and ".join(name for name in executors if name != about)
    return f"{where} {other} has the same counts for {phrases.enumerate_words(same)}."


def executor_of(summary: Summary) -> str | None:
    """Return the executor that the headline is about; None if nothing was counted."""
    cells = _regular(summary)
    return next((cell.executor for cell in (*_told(cells), *cells) if cell is not None and cell.is_counted), None)


def outcome(summary: Summary) -> str:
    """Return the outcome of the run: DAG runs, tasks, wrong answers. Empty if only the exhibit was run."""
    runs = [run for run in summary.dag_runs if not run.is_exhibit]
    if summary.dag_runs and not runs:
        return ""
    succeeded = sum(run.state == "success" for run in runs)
    tasks, done = sum(run.tasks for run in runs), sum(run.tasks_succeeded for run in runs)
    wrong = sum(run.tasks_wrong for run in runs)
    return (f"{succeeded} of {plural(len(runs), 'DAG run')} succeeded, {done:,} of "
            f"{plural(tasks, 'task')}; "
            f"{plural(wrong, 'task') if wrong else 'no task'} got a wrong answer.")


def alarms(summary: Summary) -> list[str]:
    """Return the problems of the run as a whole."""
    wrong = sum(run.tasks_wrong for run in summary.dag_runs if not run.is_exhibit)
    found = [] if summary.status == "complete" else [_state(summary)]
    if wrong:
        found.append(f"{plural(wrong, 'task')} got a wrong answer: the run fails, whatever its figures.")
    return found


def exhibit(summary: Summary) -> str | None:
    """Return the outcome of the exhibit, whose failures do not fail the run; None if there was none."""
    runs = [run for run in summary.dag_runs if run.is_exhibit]
    if not runs:
        return None
    hung = sum(run.state == "hung" for run in runs)
    return (f"The exhibit, {EXHIBIT}: {breakage(runs, ' that used a driver inherited through the fork,')}; "
            f"{plural(hung, 'DAG run')} of {len(runs)} never ended. "
            "The exhibit is there to show this; the run has not failed.")


def breakage(runs: Sequence[DagRunSummary], which: str = "") -> str:
    """Return what happened to the tasks of an exhibit's DAG runs, as a clause. ``which`` tells more of the tasks."""
    tasks, wrong = sum(run.tasks for run in runs), sum(run.tasks_wrong for run in runs)
    failed = tasks - wrong - sum(run.tasks_succeeded for run in runs)
    return f"of {plural(tasks, 'task')}{which} {wrong:,} got a wrong answer and {failed:,} more did not succeed"


def _state(summary: Summary) -> str:
    said = {"running": "This run has not ended, or the rig was killed",
            "interrupted": "This run was interrupted", "failed": "This run failed"}[summary.status]
    return f"{said}{f': {summary.reason}' if summary.reason else ''}. The figures are those that were recorded."


def claim_sentence(claim: ExecutorClaim) -> str:
    """Return whether one executor's figures support the seed's claim."""
    if claim.peak.reduction is None:
        return f"Not answered on {claim.executor}: {claim.reason}."
    verdict = {None: "No test of the claim", True: "Reproduced", False: "Not reproduced"}[claim.reproduced]
    peak, mean = claim.peak, claim.mean
    return (f"{verdict} on {claim.executor}: at the peak {phrases.number(peak.problematic)} idle connections with "
            f"problematic and {phrases.number(peak.improved)} with improved, {_change(peak.reduction)}; in the mean "
            f"{phrases.number(mean.problematic)} and {phrases.number(mean.improved)}, {_change(mean.reduction)}. "
            f"The claim is at least {phrases.percent(LEAST_REDUCTION)} fewer.")


def _change(reduction: float | None) -> str:
    if reduction is None:
        return "no ratio"
    if reduction == 0:
        return "the same"
    return f"{phrases.percent(abs(reduction))} {'fewer' if reduction > 0 else 'more'}"


def _regular(summary: Summary) -> list[CellSummary]:
    """Return the cells that a headline can be about: neither the exhibit nor cells for the noise or for preloading."""
    return [cell for cell in summary.cells
            if not cell.is_exhibit and not cell.control and summary.tells_of(cell)]


def _told(cells: Sequence[CellSummary]) -> _Told:
    """Return the cells for the headline, from the executor that has most of them; in a tie, from CeleryExecutor."""
    each = [_of_executor([cell for cell in cells if cell.executor == name])
            for name in dict.fromkeys(cell.executor for cell in cells)]
    # In a tie, the last one wins: CeleryExecutor comes after LocalExecutor.
    return max(reversed(each), key=lambda told: sum(cell is not None for cell in told),
               default=_Told(None, None, None, None))


def _of_executor(cells: Sequence[CellSummary]) -> _Told:
    def first(pattern: str, relay: str, *, warm: bool = False) -> CellSummary | None:
        return next((cell for cell in cells if (cell.pattern, cell.relay, cell.warm, cell.driver) == (
            pattern, relay, warm, "sync") and cell.is_counted), None)
    shared = first("worker", "process") or first("worker", "shared") or first("hook", "process") \
        or first("hook", "shared")
    warm = first(shared.pattern, shared.relay, warm=True) if shared else None
    return _Told(first("problematic", "none"), first("improved", "none"), shared, warm)


def _first_and_second(told: _Told, cells: Sequence[CellSummary]) -> tuple[CellSummary, CellSummary | None]:
    """Return the cell that the sentence begins with, and the remedy that it ends with."""
    chosen = [cell for cell in (told.problematic, told.improved, told.shared) if cell is not None]
    if not chosen:
        return next(cell for cell in cells if cell.is_counted), None
    alike = [cell for cell in chosen[1:] if (cell.tasks, cell.calls_per_task) == (
        chosen[0].tasks, chosen[0].calls_per_task)]
    return chosen[0], alike[-1] if alike else None


def _remedy(cell: CellSummary) -> str:
    if cell.relay != "none":
        return "with one driver per worker process" if cell.relay == "process" else "with one driver for all of them"
    return "with a driver cached in each task’s process"      # noqa: RUF001 - typography


def _from_then_on(cell: CellSummary, told: _Told) -> str:
    if cell is not told.shared or told.warm is None:
        return ""
    count = _count(told.warm)
    return ", and none from then on" if count == "0" else f", and {count} in the next DAG run"


def _with(cell: CellSummary) -> str:
    return "" if (cell.pattern, cell.relay) == ("problematic", "none") else f" with {phrases.variant(cell)}"


def _shared_words(cell: CellSummary | None) -> str:
    if cell is None:
        return ""
    return "one shared driver per worker process" if cell.relay == "process" else "one shared driver for all tasks"


def _count(cell: CellSummary) -> str:
    metric = cell.metrics["connections_opened"]
    if metric.median is None:
        return "an unknown number of"
    return phrases.at_least(metric.median, metric.lower_bound)


def _idle(cell: CellSummary) -> str:
    """Return how long connections were open while nobody used them; empty if that is not known."""
    seconds = cell.metrics["idle_connection_seconds_kept"].median
    return "" if seconds is None else f"{phrases.number(seconds)} connection-seconds idle"


def _tasks(cell: CellSummary) -> str:
    return plural(cell.tasks, "task")
