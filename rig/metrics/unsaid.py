"""What a plan cannot show, whatever it measures. Printed before the first DAG run, and in the report."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from rig.metrics.intervals import LEAST_BLOCKS
from rig.records import EXHIBIT, Cell, PlannedRun

FULL = "--profile full has them"


def unsaid(plan: Sequence[PlannedRun]) -> list[str]:
    """Return a sentence for each question that this plan leaves open."""
    times = Counter(run.cell for run in plan if run.cell.pattern != EXHIBIT)
    return [*_verdicts(times), *_once(times), *_warm(list(times)), *_noise(list(times))]


def _verdicts(times: Counter[Cell]) -> Iterator[str]:
    if times and max(times.values()) < LEAST_BLOCKS:
        yield (f"No intervals and no verdicts: they need {LEAST_BLOCKS} DAG runs of each cell, and this has "
               f"{max(times.values())} at most ({FULL}).")


def _once(times: Counter[Cell]) -> Iterator[str]:
    once = [cell for cell, count in times.items() if count == 1]
    if once and len(once) < len(times):
        yield (f"Run only once, so it is not known how much their figures vary: {_names(once)}. "
               "Trust their counts, but not their times.")


def _warm(cells: Sequence[Cell]) -> Iterator[str]:
    warmed = {cell.model_copy(update={"warm": False}) for cell in cells if cell.warm}
    cold = [cell for cell in cells if not cell.warm and not cell.control and cell not in warmed]
    if cold:
        yield f"Measured only in the first DAG run on new workers: {_names(cold)}."


def _noise(cells: Sequence[Cell]) -> Iterator[str]:
    if cells and not any(cell.control for cell in cells):
        yield f"No noise floor: no cell is run against itself ({FULL})."


def _names(cells: Iterable[Cell]) -> str:
    """Return "hook on CeleryExecutor, worker (shared) on LocalExecutor", each once."""
    return ", ".join(sorted({
        f"{cell.pattern}{'' if cell.relay == 'none' else f' ({cell.relay})'} on {cell.executor}" for cell in cells}))
