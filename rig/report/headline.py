"""The run in a few sentences, every one of them made from its figures."""

from collections.abc import Mapping, Sequence

from rig.metrics.demo_claim import LEAST_REDUCTION
from rig.metrics.model import CellSummary, ExecutorClaim, Summary
from rig.records import EXHIBIT
from rig.report import phrases


def headline(summary: Summary) -> list[str]:
    """Return what the cells opened: what is the same on every executor first, then the rest of each."""
    cells = [cell for cell in summary.cells if not cell.is_exhibit]
    if summary.cells and not cells:
        return ["This run shows what a driver breaks that tasks inherit."]
    if not any(cell.metrics["connections_opened"].median is not None for cell in cells):
        return ["This run measured no connection."]
    executors = list(dict.fromkeys(cell.executor for cell in cells))
    counts = _counts(cells)
    shared = [variant for variant, by in counts.items() if len(by) == len(executors) and len(set(by.values())) == 1]
    subject, sentences = _subject(cells), []
    if shared:
        where = "on both executors" if len(executors) > 1 else f"on {executors[0]}"
        each = {variant: counts[variant][executors[0]] for variant in shared}
        sentences.append(f"{subject} opened {_list(each)}, {where}.")
    for executor in executors:
        rest = {variant: by[executor] for variant, by in counts.items() if variant not in shared and executor in by}
        if rest:
            who = "they" if shared else subject[0].lower() + subject[1:]
            sentences.append(f"On {executor}, {who} opened {_list(rest)}.")
    return sentences


def outcome(summary: Summary) -> str:
    """Return how the run went: DAG runs, tasks, wrong answers. Nothing where there was the exhibit alone."""
    runs = [run for run in summary.dag_runs if not run.is_exhibit]
    if summary.dag_runs and not runs:
        return ""
    succeeded = sum(run.state == "success" for run in runs)
    tasks, done = sum(run.tasks for run in runs), sum(run.tasks_succeeded for run in runs)
    wrong = sum(run.tasks_wrong for run in runs)
    return (f"{succeeded} of {phrases.plural(len(runs), 'DAG run')} succeeded, {done:,} of "
            f"{phrases.plural(tasks, 'task')}; "
            f"{phrases.plural(wrong, 'task') if wrong else 'no task'} got a wrong answer.")


def alarms(summary: Summary) -> list[str]:
    """Return what is wrong with the run as a whole."""
    wrong = sum(run.tasks_wrong for run in summary.dag_runs if not run.is_exhibit)
    found = [] if summary.status == "complete" else [_state(summary)]
    if wrong:
        found.append(f"{phrases.plural(wrong, 'task')} got a wrong answer: the run fails, whatever its figures.")
    return found


def exhibit(summary: Summary) -> str | None:
    """Return what became of the exhibit, whose failures are none of the run's; None where there was none."""
    runs = [run for run in summary.dag_runs if run.is_exhibit]
    if not runs:
        return None
    tasks, wrong = sum(run.tasks for run in runs), sum(run.tasks_wrong for run in runs)
    failed = tasks - wrong - sum(run.tasks_succeeded for run in runs)
    hung = sum(run.state == "hung" for run in runs)
    return (f"The exhibit, {EXHIBIT}: of {phrases.plural(tasks, 'task')} that used a driver inherited through the "
            f"fork, {wrong:,} got a wrong answer and {failed:,} more did not succeed; "
            f"{phrases.plural(hung, 'DAG run')} of {len(runs)} never ended. "
            "This is what it shows, and no failure of the run.")


def _state(summary: Summary) -> str:
    said = {"running": "This run has not ended, or the rig was killed",
            "interrupted": "This run was interrupted", "failed": "This run failed"}[summary.status]
    return f"{said}{f': {summary.reason}' if summary.reason else ''}. The figures are those that were recorded."


def claim_sentence(claim: ExecutorClaim) -> str:
    """Return what one executor's figures say to the seed's claim."""
    if claim.reproduced is None:
        return f"Not answered on {claim.executor}: {claim.reason}."
    verdict = "Reproduced" if claim.reproduced else "Not reproduced"
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


def _counts(cells: Sequence[CellSummary]) -> dict[str, dict[str, str]]:
    """Return what was opened, by what was run and then by executor; the first cell of a name stands for it."""
    found: dict[str, dict[str, str]] = {}
    for cell in cells:
        found.setdefault(phrases.variant(cell), {}).setdefault(cell.executor, _count(cell))
    return found


def _count(cell: CellSummary) -> str:
    metric = cell.metrics["connections_opened"]
    if metric.median is None:
        return "an unknown number of"
    return f"at least {phrases.number(metric.median)}" if metric.lower_bound else phrases.number(metric.median)


def _list(counts: Mapping[str, str]) -> str:
    """Return "300 connections with problematic and 100 with improved", equal counts told once."""
    by_count: dict[str, list[str]] = {}
    for variant, count in counts.items():
        by_count.setdefault(count, []).append(variant)
    parts = [(count, phrases.enumerate_words(variants)) for count, variants in by_count.items()]
    return ", ".join(f"{count}{'' if position else ' connections'} with {variants}"
                     for position, (count, variants) in enumerate(parts))


def _subject(cells: Sequence[CellSummary]) -> str:
    tasks = {cell.tasks for cell in cells}
    return phrases.plural(tasks.pop(), "task") if len(tasks) == 1 else "A DAG run"
