"""A DAG run in which nothing happens because the Celery worker takes no tasks: it is said, and it is not waited for."""

from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from patterns.facts import STRESS_DAG
from rig import one_dag
from rig.airflow_api import AirflowApi
from rig.errors import BadInput, Hung, WorkerNotServing
from rig.experiment import dag_run
from rig.experiment.progress import Notes
from rig.stack import airflow, lock
from tests.rig.pretended_stack import PretendedStack, Told
from tests.rig.test_drivers import stack
from worker_init.takes_tasks import NO_ANSWER, Finding

LOST = "it answers a ping and takes no tasks: it has lost its queues"


@pytest.fixture
def pretended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PretendedStack:
    """Give a stack in whose DAG run no task starts or ends, and a rig that does not wait long for one."""
    monkeypatch.setattr(dag_run, "POLL_EVERY", 0.0)
    monkeypatch.setattr(dag_run, "STANDSTILL", 0.01)
    return PretendedStack(tmp_path, stack(tmp_path))


@pytest.mark.parametrize(("running", "besides"), [(0, 0), (2, 0), (0, 16)])
def test_a_comparison_does_not_wait_for_a_worker_that_takes_nothing(
        pretended: PretendedStack, running: int, besides: int) -> None:
    """Tasks of other DAG runs keep the worker busy as well: it may then have no time to answer."""
    pretended.worker_problems = [None, LOST]
    pretended.airflow.running, pretended.airflow.running_besides = running, besides
    with pytest.raises(WorkerNotServing, match=r"no task has started or ended for .*lost its queues"):
        dag_run.until_ended(pretended.seen_as, cast("AirflowApi", pretended.airflow), STRESS_DAG, "1", lambda _: None,
                            note=Told().note)
    assert pretended.asked == [("worker_problem", running + besides > 0)] * 2


@pytest.mark.parametrize(("answers", "tasks_run", "problem", "questions"), [
    ([Finding(NO_ANSWER)] * 9, False, NO_ANSWER, airflow.ASKED), ([Finding(NO_ANSWER)] * 9, True, None, 1),
    ([Finding(f"celery@a: {NO_ANSWER}")] * 9, False, f"celery@a: {NO_ANSWER}", airflow.ASKED),
    ([Finding(NO_ANSWER), Finding(None)], False, None, 2), ([Finding(None)], False, None, 1),
    ([Finding(LOST, takes_nothing=True)], True, LOST, 1), ([Finding(LOST, takes_nothing=True)], False, LOST, 1),
    ([Finding("the broker does not answer: refused")], False, None, 1)])
def test_a_worker_that_does_not_answer_takes_no_tasks_unless_some_run(
        answers: list[Finding], tasks_run: bool, problem: str | None, questions: int) -> None:
    given = iter(answers)
    assert airflow.worker_problem(lambda: next(given), tasks_run=lambda: tasks_run) == problem
    assert len(answers) - len(list(given)) == questions


def test_a_worker_that_has_its_hands_full_is_waited_for(pretended: PretendedStack) -> None:
    pretended.airflow.states = ["running"] * 1000 + ["success"]
    assert dag_run.until_ended(pretended.seen_as, cast("AirflowApi", pretended.airflow), STRESS_DAG, "1",
                               lambda _: None, note=Told().note) == "success"


def test_rig_dag_says_it_starts_the_worker_again_and_watches_on(pretended: PretendedStack) -> None:
    pretended.worker_problems = [LOST]
    told = Told()
    pretended.airflow.states = ["running"] * 100_000

    def restart(names: list[str]) -> None:
        pretended.asked.append(("restart", *names))
        pretended.airflow.states = ["success"]
    pretended.restart = restart     # type: ignore[method-assign, assignment]
    outcome = one_dag.run(pretended.seen_as, STRESS_DAG, {}, cast("Notes", told))
    assert outcome.succeeded
    assert pretended.asked == [("worker_problem", False), ("restart", "airflow-worker")]
    assert next(line for line in told.lines if LOST in line).endswith("starting it again")


def test_the_time_limit_of_a_dag_run_holds_over_all_restarts_of_the_worker(
        pretended: PretendedStack, monkeypatch: pytest.MonkeyPatch) -> None:
    pretended.worker_problems = [LOST] * 100
    pretended.settings = pretended.settings.model_copy(update={"run_timeout": 60.0})
    seconds = count(1000)       # each look at the clock is a second later
    for module in (dag_run, one_dag):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))
    with pytest.raises(Hung, match=rf"{STRESS_DAG} had not ended after 60 s"):
        one_dag.run(pretended.seen_as, STRESS_DAG, {}, cast("Notes", Told()))
    assert 1 < pretended.asked.count(("restart", "airflow-worker")) < 30


def test_rig_dag_starts_nothing_on_a_stack_that_another_rig_uses(pretended: PretendedStack) -> None:
    """A comparison ends every DAG run that it finds: this one would end early, with `success` and a skipped task."""
    told = Told()
    pretended.airflow.states = ["success"]
    with (lock.hold(pretended.settings.data_dir, "rig compare"),
          pytest.raises(BadInput, match=r"^`rig compare` \(pid \d+\) is using the stack")):
        one_dag.run(pretended.seen_as, STRESS_DAG, {}, cast("Notes", told))
    assert told.lines == []


def test_a_standstill_is_told_of_once_for_each_time_in_which_nothing_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([100.0, 100.0, 119.0, 121.0, 130.0, 142.0, 170.0, 180.0, 191.0])
    monkeypatch.setattr(dag_run, "time", SimpleNamespace(monotonic=lambda: next(moments)))
    standstill = dag_run.Standstill(20.0)
    found = [standstill.lasts(counts) for counts in [{"running": 1}] * 5 + [None] * 3]
    assert found == [False, False, True, False, True, False, False, True]
