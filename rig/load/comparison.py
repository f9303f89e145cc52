"""``rig compare-load``: for each executor and pattern, the rates of DAG runs that hold, and their cost for Neo4j.

Every cell is driven at the same rates, in steps, until one does not hold. The last rate that held is then held for some
minutes; if it does not hold for that long, the next lower one is tried. Each of these is a load test, with a folder of
its own inside the comparison's folder.
"""

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Literal, cast

from patterns.facts import MONITOR_DAG, STRESS_DAG, Executor
from rig import records, runs
from rig.errors import INTERRUPTED, BadInput, RigError
from rig.experiment.dag_run import leave_idle, until_idle
from rig.experiment.progress import Notes
from rig.load import run as loading
from rig.load import schedule, summary
from rig.load.records import CellTestRecord, LoadCell, LoadComparison, LoadPlan, Phase, read_comparison, read_tests
from rig.load.request import Request, require_bounds
from rig.load.run import Wish
from rig.records import COMPARISON_FILE, TESTS_FILE, Relay
from rig.settings import Settings
from rig.stack import lock
from rig.stack.borrowing import Needs, Start, borrowed
from rig.stack.interface import Stack
from rig.stack.state import StackState
from rig.whole_file import write_whole

PROFILE = "load-comparison"
IDLE_SECONDS = 120.0    # within which the remaining tasks of a test must end


def start(settings: Settings, stack: Stack, request: Request, view: Notes) -> Path:
    """Run a comparison; return its folder. Errors after the start of the stack are in its record.

    Raises BadInput if nothing could be started.
    """
    require_bounds(request)
    cells = planned(request)
    with lock.hold(settings.data_dir, request.command), \
            borrowed(stack, _start(cells[0], settings.slots), Needs({STRESS_DAG})) as state:
        folder = runs.new_folder(settings.data_dir, PROFILE)
        record = LoadComparison(**request.model_dump(include=set(LoadPlan.model_fields)), run=folder.name,
                                slots=state.slots, status="running", started_at=time.time(), cells=cells)
        _Runner(settings, stack, folder, record, view).run()
    return folder


def resume(settings: Settings, stack: Stack, folder: Path, command: str, view: Notes) -> None:
    """Run the remaining part of a comparison. Raises BadInput if nothing remains."""
    record = read_comparison(folder)
    left = list(_left(record, read_tests(folder)))
    if not left:
        raise BadInput(f"{record.run} is complete", "`rig report` makes its report again")
    with lock.hold(settings.data_dir, command), \
            borrowed(stack, _start(record.cells[left[0][0]], record.slots), Needs({STRESS_DAG}, slots=record.slots)):
        _Runner(settings, stack, folder, record, view).run()


def planned(request: Request) -> list[LoadCell]:
    """Return the cells in a shuffled order; the cells of an executor need not follow each other."""
    cells = [LoadCell(executor=executor, pattern=pattern, relay=_relay(executor, pattern))
             for executor, pattern in product(request.executors, request.patterns)]
    random.Random(request.seed).shuffle(cells)       # noqa: S311 - an order, not a secret
    return cells


def _relay(executor: Executor, pattern: str) -> Relay:
    if pattern != "worker":
        return "none"
    return "process" if executor == "CeleryExecutor" else "shared"


def _left(record: LoadComparison, done: Sequence[CellTestRecord]) -> Iterator[tuple[int, Phase]]:
    """Yield the remaining tests. A cell whose first rate did not hold has no rate for a long test."""
    for number in range(len(record.cells)):
        of_cell = [one for one in done if one.cell == number]
        if not any(one.phase == "knee" for one in of_cell):
            yield number, "knee"
            yield number, "held"
        elif _next_held(record, of_cell) is not None:
            yield number, "held"


def _next_held(record: LoadPlan, of_cell: Sequence[CellTestRecord]) -> float | None:
    """Return the rate that a cell must hold next: the last of its steps, then one below it; None if it is done."""
    (found,) = (one.held for one in of_cell if one.phase == "knee")
    tried = [one for one in of_cell if one.phase == "held"]
    if found is None or any(one.held is not None for one in tried):
        return None
    rate = round(found - len(tried) * record.step, 9)
    return rate if rate > 0 else None


def _start(first: LoadCell, slots: int) -> Start:
    return Start(first.executor, first.relay, slots)


def _held(test: Mapping[str, Any]) -> float | None:
    """Return the rate that held in a test, from its summary. A test shorter than a step is not judged."""
    if test["knee"]:
        return cast("float | None", test["knee"]["last_rate_that_held"])
    kept_up = test["kept_up"]
    return None if kept_up and not kept_up["holds"] else float(test["load"]["rate"])


class _Runner:
    """Runs the remaining tests, one after the other."""

    def __init__(self, settings: Settings, stack: Stack, folder: Path, record: LoadComparison, view: Notes) -> None:
        self._settings, self._stack, self._folder = settings, stack, folder
        self._record = record.model_copy(update={"status": "running", "reason": None})
        self._view = view
        self._on: LoadCell | None = None

    def run(self) -> None:
        self._write()
        try:
            # Computed again each time, because the rest depends on the result of the last test.
            while left := next(_left(self._record, read_tests(self._folder)), None):
                self._one(*left)
            self._end("complete", None)
        except KeyboardInterrupt:
            self._end("interrupted", "stopped by the user")
            self._leave_idle()
        except RigError as error:
            self._end("failed", str(error))

    def _leave_idle(self) -> None:
        """End DAG runs of this on the user's own stack: it is switched back now, and their tasks would be run twice."""
        state = self._stack.state()
        if state.keeper is None:
            with self._stack.api(state) as api:
                leave_idle(api)

    def _one(self, number: int, phase: Phase) -> None:
        cell = self._record.cells[number]
        rate = self._record.step if phase == "knee" else self._rate_to_hold(number)
        self._view.note(f"{cell.name}: {'which rate holds' if phase == 'knee' else f'{rate:g} per second, held'}")
        state = self._prepare(cell)
        with self._stack.api(state) as api, api.paused(STRESS_DAG, False), api.paused(MONITOR_DAG, True):
            ended = loading.locust(self._settings, self._stack, state, self._wish(cell, phase, rate), self._view)
            if ended.code == INTERRUPTED:
                raise KeyboardInterrupt
            until_idle(api, IDLE_SECONDS)
        records.append(self._folder / TESTS_FILE, [CellTestRecord(
            cell=number, phase=phase, folder=ended.folders[-1].name, held=_held(summary.summarise(ended.folders[-1])))])

    def _prepare(self, cell: LoadCell) -> StackState:
        """Put the executor into the state that the cell needs. It is restarted once for each cell."""
        if self._on != cell:
            self._stack.switch(cell.executor, cell.relay)
            self._on = cell
        return self._stack.state()

    def _rate_to_hold(self, number: int) -> float:
        rate = _next_held(self._record, [one for one in read_tests(self._folder) if one.cell == number])
        if rate is None:
            raise ValueError(f"cell {number} has no rate to hold")
        return rate

    def _wish(self, cell: LoadCell, phase: Phase, rate: float) -> Wish:
        record = self._record
        seconds = record.steps * record.step_seconds if phase == "knee" else record.held_seconds
        arguments = {
            "pattern": cell.pattern, "tasks": record.tasks, "calls": record.calls, "hold": record.hold,
            "arrival-rate": rate, "duration": seconds, "step-time": record.step_seconds,
            "arrivals": record.arrivals, "seed": record.seed % schedule.HIGHEST_SEED,
            "shape": schedule.KNEE if phase == "knee" else schedule.STEADY}
        return Wish(executor=None, relay=None, slots=record.slots, headless=True, port=loading.PORT, unpause=False,
                    arguments=tuple(f"--{name}={value}" for name, value in arguments.items()), command=record.command,
                    results=self._folder)

    def _end(self, status: Literal["complete", "interrupted", "failed"], reason: str | None) -> None:
        self._record = self._record.model_copy(update={"status": status, "reason": reason, "ended_at": time.time()})
        self._write()

    def _write(self) -> None:
        write_whole(self._folder / COMPARISON_FILE, self._record.model_dump_json(indent=2) + "\n")
