"""An API server that does not answer for a while: its DAG runs go on meanwhile, and are watched on."""

from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from patterns.facts import STRESS_DAG
from rig import one_dag
from rig.airflow_api import AirflowApi, ApiError
from rig.experiment import dag_run
from rig.experiment.progress import Notes, Progress
from rig.probe import Probe
from rig.records import Cell, PlannedRun
from tests.rig.pretended_stack import PretendedApi, PretendedStack, Told
from tests.rig.test_drivers import stack

PLANNED = PlannedRun(index=3, block=0, cell=Cell(executor="CeleryExecutor", pattern="worker", driver="sync",
                                                 relay="process", tasks=4, calls=1, hold=0.0))
SILENT = "Airflow at http://127.0.0.1:1 does not answer GET /api/v2/x: timed out"


class Busy(PretendedApi):
    """An API that does not answer the first ``silent`` questions of each kind; or refuses, with ``status``."""

    def __init__(self, silent: int, status: int | None = None, busy: list[str] | None = None) -> None:
        super().__init__({STRESS_DAG}, busy or [])
        self.states = ["running", "success"]
        self._silent, self._status = silent, status
        self.asked: Counter[str] = Counter()

    def _answer(self, name: str) -> None:
        self.asked[name] += 1
        if self.asked[name] <= self._silent:
            raise ApiError(SILENT, self._status)

    def task_counts(self, *arguments: str) -> dict[str, int]:
        self._answer("task_counts")
        return super().task_counts(*arguments)

    def run_state(self, *arguments: str) -> str:
        self._answer("run_state")
        return super().run_state(*arguments)

    def task_instances(self, *arguments: str) -> list[dict[str, Any]]:
        self._answer("task_instances")
        return super().task_instances(*arguments)

    def active_runs(self) -> list[str]:
        self._answer("active_runs")
        return super().active_runs()

    def fail_run(self, dag_id: str, run_id: str) -> None:
        self._answer("fail_run")
        super().fail_run(dag_id, run_id)

    def returned(self, *_: object) -> list[Any]:
        return []


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a poll follow the other at once."""
    monkeypatch.setattr(dag_run, "POLL_EVERY", 0.0)


@pytest.fixture
def pretended(tmp_path: Path) -> PretendedStack:
    return PretendedStack(tmp_path, stack(tmp_path))


@pytest.mark.parametrize("status", [None, 500, 503])
def test_rig_dag_asks_again_and_says_how_the_dag_run_has_ended(pretended: PretendedStack, status: int | None) -> None:
    pretended.airflow = api = Busy(silent=3, status=status)
    told = Told()
    assert one_dag.run(pretended.seen_as, STRESS_DAG, {}, cast("Notes", told)).succeeded
    assert min(api.asked[name] for name in ("task_counts", "run_state", "task_instances")) > 3
    again = [line for line in told.lines if "asked again" in line]
    assert again == [f"{SILENT}: it is asked again for up to 120 s"] * 2, "one for the watching, one for the tasks"


def test_idle_is_waited_for_all_the_same(pretended: PretendedStack) -> None:
    api = Busy(silent=3)
    assert dag_run.until_idle(cast("AirflowApi", api), 60, Told().note) == []
    assert api.asked["active_runs"] == 4


def test_dag_runs_are_ended_by_an_api_that_does_not_answer_at_first() -> None:
    api, told = Busy(silent=3, busy=["a/1", "b/2"]), Told()
    dag_run.leave_idle(cast("AirflowApi", api), told.note)
    assert (api.busy, api.asked["active_runs"], api.asked["fail_run"]) == ([], 5, 5)
    assert told.lines == [f"{SILENT}: it is asked again for up to 120 s"] * 2


def test_waiting_for_idle_takes_no_longer_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []

    def asked(_question: object, _note: object, limit: float) -> list[str]:
        limits.append(limit)
        return ["a/1"] if len(limits) < 5 else []
    seconds = count(1000)       # each look at the clock is a second later
    monkeypatch.setattr(dag_run, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))
    monkeypatch.setattr(dag_run, "asked_again", asked)
    assert dag_run.until_idle(cast("AirflowApi", Busy(silent=0)), 60, Told().note) == []
    assert limits == [59, 58, 57, 56, 55]


@pytest.mark.parametrize(("state", "asked"), [("success", 4), ("failed", 4), ("error", 1), ("interrupted", 1)])
def test_rows_of_a_dag_run_that_has_ended_by_itself_are_asked_for_again(
        tmp_path: Path, state: dag_run.State, asked: int) -> None:
    """Else a DAG run that has succeeded would have no row of a task. What else has ended it may be a silent API."""
    api = Busy(silent=3)
    runner = dag_run.CellRunner(PretendedStack(tmp_path).seen_as, cast("AirflowApi", api), cast("Probe", None),
                                tmp_path, cast("Progress", Told()), observe=0)
    attempt = dag_run._Attempt(PLANNED)
    attempt.run_id = "1"
    attempt.end(state, None)
    assert runner._tasks(attempt) == []
    assert api.asked["task_instances"] == asked
    assert ("could not be read" in (attempt.record().reason or "")) == (asked == 1)


def watched(pretended: PretendedStack, api: Busy) -> None:
    dag_run.until_ended(pretended.seen_as, cast("AirflowApi", api), STRESS_DAG, "1", lambda _: None, note=Told().note)


def idle(_: PretendedStack, api: Busy) -> None:
    dag_run.until_idle(cast("AirflowApi", api), 60, Told().note)


@pytest.mark.parametrize("watching", [watched, idle])
def test_one_that_stays_silent_is_one_line(pretended: PretendedStack, monkeypatch: pytest.MonkeyPatch,
                                           watching: Callable[[PretendedStack, Busy], None]) -> None:
    monkeypatch.setattr(dag_run, "UNANSWERED", 0.0)
    api = Busy(silent=1_000_000)
    with pytest.raises(ApiError, match=rf"^{SILENT}; it has not answered for \d+ s — its DAG runs may go on: .* page "
                                       r"shows them$"):
        watching(pretended, api)
    assert sum(api.asked.values()) == 1


def test_it_is_not_asked_for_longer_than_the_dag_run_may_take(pretended: PretendedStack) -> None:
    pretended.settings = pretended.settings.model_copy(update={"run_timeout": 0.0})
    api = Busy(silent=1_000_000)
    with pytest.raises(ApiError, match="has not answered"):
        watched(pretended, api)
    assert sum(api.asked.values()) == 1


@pytest.mark.parametrize("watching", [watched, idle])
def test_a_refusal_is_an_answer(pretended: PretendedStack, watching: Callable[[PretendedStack, Busy], None]) -> None:
    api = Busy(silent=1, status=404)
    with pytest.raises(ApiError, match=r"timed out$"):
        watching(pretended, api)
    assert sum(api.asked.values()) == 1
