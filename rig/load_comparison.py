"""``rig compare --load``: for each executor and pattern the rates of DAG runs that hold, and what they cost Neo4j.

Every cell is driven at the same rates, in steps, until one does not hold; the last one that did is then held for some
minutes. Each is a load test with a folder of its own inside the comparison's.
"""

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Literal

from loadtest import summary
from loadtest.records import COMPARISON_FILE
from rig import load, records, runs
from rig.errors import BadInput, RigError
from rig.experiment import profiles
from rig.experiment.dag_run import until_idle
from rig.experiment.profiles import STRESS_DAG
from rig.load import Notes, Wish
from rig.load_records import (
    TESTS_FILE,
    LoadCell,
    LoadComparison,
    LoadPlan,
    LoadTestRecord,
    Phase,
    read,
    read_tests,
)
from rig.records import EXHIBIT, Executor, Relay
from rig.settings import Settings
from rig.stack import lock, processes
from rig.stack.interface import Stack
from rig.stack.state import StackState

PROFILE = "load-comparison"
IDLE_SECONDS = 120.0    # within which what is left of a test has to end


class Request(LoadPlan):
    """What the user asked for."""

    executors: tuple[Executor, ...]
    patterns: tuple[str, ...]


def start(settings: Settings, stack: Stack, request: Request, view: Notes) -> Path:
    """Run a comparison; return its folder. What goes wrong after the stack's start is in its record.

    Raises BadInput where nothing could be started.
    """
    for what, value, most in (("--tasks", request.tasks, profiles.MOST_TASKS), ("--calls", request.calls, 1000)):
        profiles.within(what, value, 1, most)
    profiles.within("--hold", request.hold, 0, 3600)
    cells = planned(request)
    with lock.hold(settings.data_dir, request.command), _running(settings, stack, cells[0]):
        folder = runs.new_folder(settings.data_dir, PROFILE)
        record = LoadComparison(**request.model_dump(include=set(LoadPlan.model_fields)), run=folder.name,
                                slots=settings.slots, status="running", started_at=time.time(), cells=cells)
        _Runner(settings, stack, folder, record, view).run()
    return folder


def resume(settings: Settings, stack: Stack, folder: Path, command: str, view: Notes) -> None:
    """Run what is left of a comparison. Raises BadInput where nothing is left."""
    record = read(folder)
    left = list(_left(record, read_tests(folder)))
    if not left:
        raise BadInput(f"nothing is left of {record.run}", "`rig report` makes its report again")
    with lock.hold(settings.data_dir, command), _running(settings, stack, record.cells[left[0][0]]):
        _Runner(settings, stack, folder, record, view).run()


def planned(request: Request) -> list[LoadCell]:
    """Return the cells in a shuffled order, those of one executor not kept together."""
    cells = [LoadCell(executor=executor, pattern=pattern, relay=_relay(executor, pattern))
             for executor, pattern in product(request.executors, request.patterns)]
    random.Random(request.seed).shuffle(cells)       # noqa: S311 - an order, not a secret
    return cells


def patterns(names: str) -> tuple[str, ...]:
    """Return the patterns of a list like ``problematic,improved``. Raises BadInput for one that cannot be loaded."""
    chosen = profiles.patterns(names)
    if EXHIBIT in chosen:
        raise BadInput(f"{EXHIBIT} breaks, and has no rate that holds", f"leave {EXHIBIT} out")
    return chosen


def _relay(executor: Executor, pattern: str) -> Relay:
    if pattern != "worker":
        return "none"
    return "process" if executor == "CeleryExecutor" else "worker"


def _left(record: LoadComparison, done: Sequence[LoadTestRecord]) -> Iterator[tuple[int, Phase]]:
    """Yield the tests that are left; one whose first rate did not hold has nothing that could be held."""
    known = {(one.cell, one.phase): one for one in done}
    for number in range(len(record.cells)):
        knee = known.get((number, "knee"))
        if knee is None:
            yield number, "knee"
        if (number, "held") not in known and (knee is None or knee.held is not None):
            yield number, "held"


@contextmanager
def _running(settings: Settings, stack: Stack, first: LoadCell) -> Iterator[StackState]:
    """Use the stack that the user has up, and leave it as it was; or bring one up for as long as the block takes."""
    if not stack.is_there() or stack.state().keeper is not None:
        state = stack.up(first.executor, slots=settings.slots, relay=first.relay, keeper=processes.this_process())
        try:
            yield state
        finally:
            stack.down()
        return
    stack.require_alive()
    before = stack.state()
    with stack.api(before) as api:
        if busy := api.active_runs():
            raise BadInput(f"DAG runs are in progress: {', '.join(busy)}", "wait for them, or `rig down` first")
    try:
        yield before
    finally:
        if stack.is_there():
            stack.switch(before.executor, before.relay)


class _Runner:
    """Runs the tests that are left, one after the other."""

    def __init__(self, settings: Settings, stack: Stack, folder: Path, record: LoadComparison, view: Notes) -> None:
        self._settings, self._stack, self._folder = settings, stack, folder
        self._record = record.model_copy(update={"status": "running", "reason": None})
        self._view = view
        self._on: LoadCell | None = None

    def run(self) -> None:
        self._write()
        try:
            # Asked anew each time: what is left depends on what the last one found.
            while left := next(_left(self._record, read_tests(self._folder)), None):
                self._one(*left)
            self._end("complete", None)
        except KeyboardInterrupt:
            self._end("interrupted", "stopped by the user")
        except RigError as error:
            self._end("failed", str(error))

    def _one(self, number: int, phase: Phase) -> None:
        cell = self._record.cells[number]
        rate = self._record.step if phase == "knee" else self._held(number)
        self._view.note(f"{cell.name}: {'which rate holds' if phase == 'knee' else f'{rate:g} per second, held'}")
        state = self._prepare(cell)
        with self._stack.api(state) as api, api.paused(STRESS_DAG, False), api.paused(load.MONITOR, True):
            ended = load.locust(self._settings, self._stack, state, self._wish(cell, phase, rate), self._view)
            if ended.code == load.INTERRUPTED:
                raise KeyboardInterrupt
            until_idle(api, IDLE_SECONDS)
        knee = summary.summarise(ended.folders[-1])["knee"]
        records.append(self._folder / TESTS_FILE, [LoadTestRecord(
            cell=number, phase=phase, folder=ended.folders[-1].name,
            held=knee["last_rate_that_held"] if knee else None)])

    def _prepare(self, cell: LoadCell) -> StackState:
        """Have the executor as the cell wants it, started anew once for each cell."""
        if self._on != cell:
            self._stack.switch(cell.executor, cell.relay)
            self._on = cell
        return self._stack.state()

    def _held(self, number: int) -> float:
        return next(one.held for one in read_tests(self._folder)
                    if (one.cell, one.phase) == (number, "knee") and one.held is not None)

    def _wish(self, cell: LoadCell, phase: Phase, rate: float) -> Wish:
        record = self._record
        seconds = record.steps * record.step_seconds if phase == "knee" else record.held_seconds
        arguments = {
            "pattern": cell.pattern, "tasks": record.tasks, "calls": record.calls, "hold": record.hold,
            "arrival-rate": rate, "duration": seconds, "step-time": record.step_seconds,
            "shape": "find-the-knee" if phase == "knee" else "steady"}
        return Wish(executor=None, relay=None, slots=record.slots, headless=True, port=load.PORT, unpause=False,
                    arguments=tuple(f"--{name}={value}" for name, value in arguments.items()), command=record.command,
                    results=self._folder)

    def _end(self, status: Literal["complete", "interrupted", "failed"], reason: str | None) -> None:
        self._record = self._record.model_copy(update={"status": status, "reason": reason, "ended_at": time.time()})
        self._write()

    def _write(self) -> None:
        part = self._folder / f"{COMPARISON_FILE}.part"
        part.write_text(self._record.model_dump_json(indent=2) + "\n", encoding="utf-8")
        part.replace(self._folder / COMPARISON_FILE)
