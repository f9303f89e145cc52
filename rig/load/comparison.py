"""``rig compare-load``: for each executor and pattern, the rates of DAG runs that hold, and their cost for Neo4j.

Every cell is searched several times: it is driven at the same rates, in steps, until one does not hold. The median of
the rates that held is then held for some minutes; if it does not hold for that long, the next lower one is tried.
Beside each search a closed loop measures the most that Airflow can do, and 80 % of that is driven for as long. Each of
these is a load test, with a folder of its own inside the comparison's folder.
"""

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple, cast

from patterns.facts import MONITOR_DAG, MOST_STRESS_RUNS, STRESS_DAG, Executor
from rig import records, runs
from rig.errors import INTERRUPTED, BadInput, RigError
from rig.experiment.dag_run import leave_idle, until_idle
from rig.experiment.progress import Notes
from rig.load import knee, schedule, summary
from rig.load import run as loading
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
BELOW = 0.8             # of the saturated throughput: a load that leaves some room
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
            borrowed(stack, _start(record.cells[left[0].cell], record.slots), Needs({STRESS_DAG}, slots=record.slots)):
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


class Next(NamedTuple):
    """A remaining test: its cell (by its place), its phase, and its block. The long tests are a last block."""

    cell: int
    phase: Phase
    block: int


def _left(record: LoadComparison, done: Sequence[CellTestRecord]) -> Iterator[Next]:
    """Yield the remaining tests: the searches block by block, then the long tests whose rates are known.

    A block has every cell once, so that what slows the machine down for a while slows down a whole block.
    """
    phases: tuple[Phase, ...] = ("knee", "saturated") if record.saturated_seconds else ("knee",)
    for block in range(record.repeats):
        for number in _order(record, block):
            yield from (Next(number, phase, block) for phase in phases if len(_of(done, number, phase)) <= block)
    for number in range(len(record.cells)):
        if _next_held(record, done, number) is not None:
            yield Next(number, "held", record.repeats)
        if _rate_below(done, number) is not None:
            yield Next(number, "below", record.repeats)


def _order(record: LoadComparison, block: int) -> list[int]:
    """Return the order of the cells in a block; the record has them in that of the first one."""
    numbers = list(range(len(record.cells)))
    if block:
        random.Random(record.seed + block).shuffle(numbers)        # noqa: S311 - an order, not a secret
    return numbers


def _of(done: Sequence[CellTestRecord], number: int, phase: Phase) -> list[CellTestRecord]:
    return [one for one in done if (one.cell, one.phase) == (number, phase)]


def _next_held(record: LoadPlan, done: Sequence[CellTestRecord], number: int) -> float | None:
    """Return the rate that a cell must hold next: that of its searches, then one below it; None if it is done."""
    found = knee.rate_to_hold([one.held for one in _of(done, number, "knee")])
    tried = _of(done, number, "held")
    if found is None or any(one.held is not None for one in tried):
        return None
    rate = round(found - len(tried) * record.step, 9)
    return rate if rate > 0 else None


def _rate_below(done: Sequence[CellTestRecord], number: int) -> float | None:
    """Return 80 % of what a cell's closed loops reached, in DAG runs per second; None if it is done or not known."""
    reached = [one.throughput for one in _of(done, number, "saturated") if one.throughput]
    if not reached or _of(done, number, "below"):
        return None
    rate = round(BELOW * median(reached), 4)
    return rate if rate >= schedule.LOWEST_RATE else None


def _start(first: LoadCell, slots: int) -> Start:
    return Start(first.executor, first.relay, slots)


def _held(test: Mapping[str, Any]) -> float | None:
    """Return the rate that held in a test, from its summary; None for a closed loop, which has no rate.

    A test shorter than a step is not judged.
    """
    if test["load"]["users"] is not None:
        return None
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
        self._turn: tuple[int, int] | None = None

    def run(self) -> None:
        self._write()
        try:
            # Computed again each time, because the rest depends on the result of the last test.
            while left := next(_left(self._record, read_tests(self._folder)), None):
                self._one(left)
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
                leave_idle(api, self._view.note)

    def _one(self, test: Next) -> None:
        cell = self._record.cells[test.cell]
        self._view.note(f"{cell.name}: {self._aim(test)}")
        state = self._prepare(test)
        with self._stack.api(state) as api, api.paused(STRESS_DAG, False), api.paused(MONITOR_DAG, True):
            ended = loading.locust(self._settings, self._stack, state, self._wish(test), self._view)
            if ended.code == INTERRUPTED:
                raise KeyboardInterrupt
            until_idle(api, IDLE_SECONDS, self._view.note)
        found = summary.summarise(ended.folders[-1])
        if found["clock_set"] is not None:      # such a test has found nothing
            raise RigError(found["clock_set"])
        records.append(self._folder / TESTS_FILE, [CellTestRecord(
            cell=test.cell, phase=test.phase, folder=ended.folders[-1].name, held=_held(found),
            throughput=found["saturated"] and found["saturated"]["throughput"])])

    def _aim(self, test: Next) -> str:
        """Say what a test is for."""
        if test.phase == "knee":
            return f"which rate holds, search {test.block + 1} of {self._record.repeats}"
        if test.phase == "saturated":
            return f"{MOST_STRESS_RUNS} DAG runs in flight all the time"
        return f"{self._rate(test):g} per second, held"

    def _prepare(self, test: Next) -> StackState:
        """Put the executor into the state that the cell needs. It is restarted once for each cell of a block."""
        turn = (test.cell, test.block)
        if self._turn != turn:
            cell = self._record.cells[test.cell]
            self._stack.switch(cell.executor, cell.relay)
            self._turn = turn
        return self._stack.state()

    def _rate(self, test: Next) -> float:
        """Return the rate of a test that has one, in DAG runs per second; for a search the first one."""
        done = read_tests(self._folder)
        if test.phase == "knee":
            return knee.first_rate_of_next([one.held for one in _of(done, test.cell, "knee")], self._record.step)
        rate = _next_held(self._record, done, test.cell) if test.phase == "held" else _rate_below(done, test.cell)
        if rate is None:
            raise ValueError(f"cell {test.cell} has no rate to hold")
        return rate

    def _wish(self, test: Next) -> Wish:
        record = self._record
        arguments = {
            "pattern": record.cells[test.cell].pattern, "tasks": record.tasks, "calls": record.calls,
            "hold": record.hold, "step-time": record.step_seconds, **self._driven(test)}
        return Wish(executor=None, relay=None, slots=record.slots, headless=True, port=loading.PORT, unpause=False,
                    arguments=tuple(f"--{name}={value}" for name, value in arguments.items()), command=record.command,
                    results=self._folder)

    def _driven(self, test: Next) -> dict[str, str | float]:
        """Return how a test's DAG runs arrive, as Locust's arguments."""
        record = self._record
        if test.phase == "saturated":
            return {"shape": schedule.STEADY, "load-model": "closed", "users": MOST_STRESS_RUNS,
                    "spawn-rate": MOST_STRESS_RUNS, "duration": record.saturated_seconds}
        rate, seed = self._rate(test), (record.seed + test.block) % schedule.HIGHEST_SEED
        at_random: dict[str, str | float] = {"arrivals": record.arrivals, "seed": seed}
        if test.phase == "knee":
            left = record.steps - round(rate / record.step) + 1
            return at_random | {"shape": schedule.KNEE, "arrival-rate": record.step, "first-rate": rate,
                                "duration": left * record.step_seconds}
        return at_random | {"shape": schedule.STEADY, "arrival-rate": rate, "duration": record.held_seconds}

    def _end(self, status: Literal["complete", "interrupted", "failed"], reason: str | None) -> None:
        self._record = self._record.model_copy(update={"status": status, "reason": reason, "ended_at": time.time()})
        self._write()

    def _write(self) -> None:
        write_whole(self._folder / COMPARISON_FILE, self._record.model_dump_json(indent=2) + "\n")
