"""A trial starts again what a supervisor would, records it, and finds a process that is left behind."""

from typing import cast

import pytest

from chaos import trial
from chaos.faults import Fault
from chaos.ground import Ground
from chaos.trial import Outcome, Plan, _left_behind, _Supervisor
from rig.stack.airflow import WORKER

CUT, REDIS = Fault("cut", "connections to Neo4j"), Fault("kill -9", "redis")
LOST = "it answers a ping and takes no tasks: it has lost its queues"


def planned(*faults: Fault) -> Plan:
    return Plan("CeleryExecutor", "worker", faults, tasks=4, hold=0.0, seconds=1.0, limit=60.0, seed=1)


class Pretended:
    """A ground, and its stack, in whose DAG run a task is always in a transaction. ``dead`` services can be restarted.

    ``told`` are the counts of tasks that Airflow gives, one for each question, and the last one from then on.
    """

    def __init__(self, *told: dict[str, int] | None, dead: list[str] | None = None, problem: str | None = None) -> None:
        self._told = list(told) or [None]
        self._dead = dead or []
        self._problem = problem
        self.ended = False
        self.asked = 0      # how often the worker was asked whether it takes tasks
        self.restarted: list[str] = []

    @property
    def seen_as(self) -> Ground:
        """Itself, as the trial sees it."""
        return cast("Ground", self)

    @property
    def stack(self) -> "Pretended":
        return self

    def dead(self) -> list[str]:
        return list(self._dead)

    def kill(self, service: str) -> None:
        self._dead.append(service)

    def restart(self, names: list[str]) -> None:
        self.restarted += names
        self._dead = [name for name in self._dead if name not in names]

    def counts(self, _: str) -> dict[str, int] | None:
        return self._told.pop(0) if len(self._told) > 1 else self._told[0]

    def has_ended(self, _: str) -> bool:
        return self.ended

    def worker_problem(self) -> str | None:
        self.asked += 1
        return self._problem

    def fit(self, *_: object) -> None:
        pass

    def processes(self) -> dict[int, str]:
        return {}

    def trigger(self, *_: object) -> str:
        return "run"

    def tasks_in_a_transaction(self) -> set[int]:
        return {1}


def watched(ground: Pretended, times: int) -> Outcome:
    """Let a supervisor look so many times; return what it has recorded."""
    outcome = Outcome(planned(CUT))
    supervisor = _Supervisor(ground.seen_as, "run", outcome)
    assert [supervisor.has_ended() for _ in range(times)] == [False] * times
    return outcome


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every look that finds the counts of the look before be a standstill."""
    monkeypatch.setattr(trial, "STANDSTILL", -1.0)


def test_a_service_that_has_ended_is_started_again_once_and_recorded() -> None:
    ground = Pretended({"running": 1}, dead=["postgres", "airflow-scheduler"])
    assert watched(ground, 3).started_again == ground.restarted == ["postgres", "airflow-scheduler"]


def test_a_supervisor_says_that_the_run_has_ended() -> None:
    ground = Pretended()
    ground.ended = True
    assert _Supervisor(ground.seen_as, "run", Outcome(planned(CUT))).has_ended()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("counts", [{"running": 1}, None])
def test_a_worker_that_takes_no_tasks_in_a_standstill_is_started_again(counts: dict[str, int] | None) -> None:
    ground = Pretended({"running": 2}, counts, counts, {"running": 0}, problem=LOST)
    assert watched(ground, 4).started_again == ground.restarted == [WORKER]


@pytest.mark.usefixtures("impatient")
def test_a_worker_that_takes_tasks_is_left_alone_in_a_standstill() -> None:
    ground = Pretended({"running": 1})
    assert watched(ground, 3).started_again == []
    assert ground.asked == 2


@pytest.mark.usefixtures("impatient")
def test_without_a_standstill_nobody_asks_the_worker() -> None:
    ground = Pretended(*({"success": number} for number in range(4)), problem=LOST)
    assert watched(ground, 4).started_again == []
    assert ground.asked == 0


def test_what_the_first_fault_of_a_pair_has_ended_is_there_for_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    ground, outcome = Pretended(), Outcome(planned(CUT, REDIS))
    dead_at: list[list[str]] = []

    def strike(_: Ground, fault: Fault, *_more: object) -> str:
        dead_at.append(ground.dead())
        ground.kill("airflow-scheduler")
        ground.ended = fault == REDIS
        return "it was hit"
    monkeypatch.setattr(trial, "strike", strike)
    for judge in ("_judge", "_look_at_rest"):
        monkeypatch.setattr(trial, judge, lambda *_: None)
    trial._run(ground.seen_as, outcome.plan, outcome)
    assert dead_at == [[], []]
    assert outcome.started_again == ["airflow-scheduler", "airflow-scheduler"]


def test_as_many_processes_as_before_are_none_left_behind_whatever_their_pids() -> None:
    assert _left_behind({1: "a scheduler", 2: "a worker"}, {1: "a scheduler", 3: "a worker"}) is None
    assert _left_behind({1: "a scheduler", 2: "a worker"}, {1: "a scheduler"}) is None


def test_a_process_more_than_before_is_named() -> None:
    assert _left_behind({1: "a scheduler"}, {1: "a scheduler", 7: f"sleep {'9' * 100}"}) == (
        f"2 processes, 1 are expected; new ones: 7 sleep {'9' * 74}")
