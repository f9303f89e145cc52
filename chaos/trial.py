"""One trial: a DAG run, a fault in the middle of it, and the invariants afterwards."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from chaos import account
from chaos.faults import Fault, MissedError, strike
from chaos.ground import STATUS_WITHIN, Ground, Size
from patterns.facts import Executor
from rig.errors import RigError
from rig.experiment.dag_run import Standstill
from rig.records import Relay
from rig.stack.airflow import WORKER
from testing.waiting import comes_true

BACK_WITHIN = 30.0      # seconds in which connections must be back at their floor
POLL = 1.0
STANDSTILL = 60.0       # seconds in which no task starts or ends, after which the worker is asked whether it takes any
MOST_SHOWN = 80         # characters of a command in a reason
CONNECTIONS, LEASES, STRANGER, PROCESSES, SAYS = (
    "connections back to their floor within 30 s", "no lease is kept", "nobody is let in with a wrong password",
    "no process is left behind", "rig status says it in one line, with exit code 1, within 15 s")
INVARIANTS = (*account.INVARIANTS, CONNECTIONS, LEASES, STRANGER, PROCESSES, SAYS)
KILLED_TASK = ("kill -9", "task")


@dataclass(frozen=True)
class Plan:
    """What is tried. ``seconds`` is the duration of a fault that ends by itself, ``limit`` that of the DAG run."""

    executor: Executor
    pattern: str
    faults: tuple[Fault, ...]
    tasks: int
    hold: float
    seconds: float
    limit: float
    seed: int

    @property
    def relay(self) -> Relay:
        """Shared drivers for the pattern that uses them; with LocalExecutor, one for all."""
        if self.pattern != "worker":
            return "none"
        return "process" if self.executor == "CeleryExecutor" else "shared"

    def __str__(self) -> str:
        return f"{' and '.join(map(str, self.faults))}, {self.executor}, {self.pattern}"


@dataclass
class Outcome:
    """The invariants that did not hold, each with its reason. ``judged`` are those that were checked.

    ``hit`` says for each fault what it hit; ``missed`` has the faults that hit nothing. A trial with one of these does
    not count as held. ``sizes`` has what each process of the stack used at the end, ``started_again`` the services that
    were started again besides those that a fault hit: they had ended, or the worker took no tasks.
    """

    plan: Plan
    judged: list[str] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    hit: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    seconds: float = 0.0
    again: int = 0
    sizes: dict[str, Size] = field(default_factory=dict)
    started_again: list[str] = field(default_factory=list)

    @property
    def landed(self) -> bool:
        """Whether every fault hit something."""
        return bool(self.hit) and not self.missed

    @property
    def held(self) -> bool:
        """Whether every fault hit something, and all invariants held."""
        return self.landed and not self.broken

    def look(self, invariant: str, problem: str | None) -> None:
        """Record the result of checking an invariant."""
        if invariant not in self.judged:
            self.judged.append(invariant)
        if problem:
            self.broken.setdefault(invariant, problem)


def run(ground: Ground, plan: Plan) -> Outcome:
    """Run a trial. Everything that goes wrong is in its outcome."""
    began, outcome = time.monotonic(), Outcome(plan)
    try:
        _run(ground, plan, outcome)
    except (RigError, AssertionError) as error:
        outcome.look(account.ENDS, f"the trial could not be ended: {' '.join(str(error).split())[:300]}")
    outcome.seconds = round(time.monotonic() - began, 1)
    return outcome


def _run(ground: Ground, plan: Plan, outcome: Outcome) -> None:
    ground.fit(plan.executor, plan.relay)
    before = ground.processes()
    run_id = ground.trigger(plan.tasks, plan.pattern, plan.hold)
    supervisor = _Supervisor(ground, run_id, outcome)
    chance = random.Random(plan.seed)      # noqa: S311 - chooses which of several is hit, no secret
    for fault in plan.faults:
        # In the middle of the run: before or after the tasks, a fault would hit nothing.
        comes_true(lambda: supervisor.has_ended() or ground.tasks_in_a_transaction(), plan.limit, POLL)
        try:
            outcome.hit.append(strike(ground, fault, plan.seconds, chance,
                                      partial(_look_at_status, ground, fault, outcome)))
        except MissedError as missed:
            outcome.missed.append(f"{fault}: {missed}")
    if not comes_true(supervisor.has_ended, plan.limit, POLL):
        outcome.look(account.ENDS, f"the DAG run had not ended after {plan.limit:g} s: {ground.counts(run_id)}")
        ground.give_up(run_id)
    _judge(ground, plan, outcome, run_id)
    _look_at_rest(ground, plan, outcome, before)


class _Supervisor:
    """Starts again what a fault has ended, as a supervisor of services and the worker's liveness check would."""

    def __init__(self, ground: Ground, run_id: str, outcome: Outcome) -> None:
        self._ground, self._run_id, self._outcome = ground, run_id, outcome
        self._standstill = Standstill(STANDSTILL)

    def has_ended(self) -> bool:
        """Return whether the DAG run has ended; start services again first, if some have ended or take no tasks."""
        dead = self._ground.stack.dead() or self._worker_to_restart()
        if dead:
            self._outcome.started_again += dead
            self._ground.stack.restart(dead)
        return self._ground.has_ended(self._run_id)

    def _worker_to_restart(self) -> list[str]:
        stands_still = self._standstill.lasts(self._ground.counts(self._run_id))
        return [WORKER] if stands_still and self._ground.worker_problem() else []


def _judge(ground: Ground, plan: Plan, outcome: Outcome, run_id: str) -> None:
    tasks, stored = ground.account(run_id)
    costs = [fault.explains for fault in plan.faults]
    retries = None if None in costs else sum(cost for cost in costs if cost is not None)
    outcome.again = sum(task.tries - 1 for task in tasks if task.tries)
    if not outcome.again and [(fault.kind, fault.target) for fault in plan.faults] == [KILLED_TASK]:
        # Its transaction was open a moment before, but the task may have finished its work in that moment.
        outcome.missed.append("kill -9 task: Airflow knows of no try that failed")
    found = dict(account.broken(tasks, stored, retries=retries, may_fail=any(fault.may_fail for fault in plan.faults)))
    for invariant in account.INVARIANTS:
        outcome.look(invariant, found.get(invariant))


def _look_at_rest(ground: Ground, plan: Plan, outcome: Outcome, before: dict[int, str]) -> None:
    floor = ground.slots if plan.relay == "process" else None if plan.relay == "shared" else 0
    if floor is None:
        floor = ground.slots + 1    # one for each task at once, as many as were needed at the same time
    _held_within(outcome, CONNECTIONS, lambda: _more(ground.connections(), floor, "connections are open"))
    if plan.relay != "none":
        _held_within(outcome, LEASES, lambda: _more(_in_use(ground), 0, "connections are lent"))
        outcome.look(STRANGER, "a client with a wrong password was served" if ground.lets_a_stranger_in() else None)
    _held_within(outcome, PROCESSES, lambda: _left_behind(before, ground.processes()))
    outcome.sizes = ground.sizes()


def _look_at_status(ground: Ground, fault: Fault, outcome: Outcome) -> None:
    if fault.shows is None:
        return
    code, seconds, said = ground.status()
    unwell = ground.unwell(said)
    problem = (f"it took {seconds:.0f} s" if seconds > STATUS_WITHIN else
               f"exit code {code}: {' '.join(said.split())[:200]}" if code != 1 or not unwell else
               f"it names {', '.join(unwell)}, and not {fault.shows}" if fault.shows not in unwell else
               "a line is more than one" if any("\n" in line for line in unwell.values()) else None)
    outcome.look(SAYS, problem)


def _in_use(ground: Ground) -> int | None:
    host = ground.host()
    return None if host is None else sum(driver["connections"]["in_use"] for driver in host["drivers"])


def _more(found: int | None, floor: int, what: str) -> str | None:
    if found is None:
        return "nobody answers"
    return f"{found} {what}, {floor} are expected" if found > floor else None


def _left_behind(before: dict[int, str], now: dict[int, str]) -> str | None:
    if len(now) <= len(before):
        return None
    new = ", ".join(f"{pid} {command[:MOST_SHOWN]}" for pid, command in now.items() if pid not in before)
    return f"{len(now)} processes, {len(before)} are expected; new ones: {new}"


def _held_within(outcome: Outcome, invariant: str, question: Callable[[], str | None]) -> None:
    held = comes_true(lambda: question() is None, BACK_WITHIN, POLL)
    outcome.look(invariant, None if held else question())
