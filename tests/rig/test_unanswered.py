"""An API server that does not answer for a while: its DAG runs go on meanwhile, and are watched on."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from patterns.facts import STRESS_DAG
from rig import one_dag
from rig.airflow_api import AirflowApi, ApiError
from rig.experiment import dag_run
from rig.experiment.progress import Notes
from tests.rig.pretended_stack import PretendedApi, PretendedStack, Told
from tests.rig.test_drivers import stack

SILENT = "Airflow at http://127.0.0.1:1 does not answer GET /api/v2/x: timed out"


class Busy(PretendedApi):
    """An API that does not answer the first ``silent`` questions of each kind; or refuses, with ``status``."""

    def __init__(self, silent: int, status: int | None = None) -> None:
        super().__init__({STRESS_DAG}, [])
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


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a poll follow the other at once."""
    monkeypatch.setattr(dag_run, "POLL_EVERY", 0.0)


@pytest.fixture
def pretended(tmp_path: Path) -> PretendedStack:
    return PretendedStack(tmp_path, stack(tmp_path))


def test_rig_dag_asks_again_and_says_how_the_dag_run_has_ended(pretended: PretendedStack) -> None:
    pretended.airflow = api = Busy(silent=3)
    assert one_dag.run(pretended.seen_as, STRESS_DAG, {}, cast("Notes", Told())).succeeded
    assert min(api.asked[name] for name in ("task_counts", "run_state", "task_instances")) > 3


def test_idle_is_waited_for_all_the_same(pretended: PretendedStack) -> None:
    api = Busy(silent=3)
    assert dag_run.until_idle(cast("AirflowApi", api), limit=60) == []
    assert api.asked["active_runs"] == 4


def watched(pretended: PretendedStack, api: Busy) -> None:
    dag_run.until_ended(pretended.seen_as, cast("AirflowApi", api), STRESS_DAG, "1", lambda _: None)


def idle(_: PretendedStack, api: Busy) -> None:
    dag_run.until_idle(cast("AirflowApi", api), limit=60)


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
