"""What a comparison does with a cell that cannot be run as it is meant."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from patterns.facts import Executor
from rig import clock, records
from rig.airflow_api import AirflowApi
from rig.compare import Comparison, Request
from rig.errors import BadInput, RelayMissing
from rig.experiment import profiles
from rig.experiment.dag_run import CellRunner
from rig.experiment.progress import Progress
from rig.probe import Probe
from rig.records import Cell, DagRunRecord, PlannedRun, Relay
from rig.stack.compose import ComposeStack
from rig.stack.state import StackState
from tests.rig.plain_settings import PlainSettings
from tests.rig.pretended_stack import PretendedStack
from tests.rig.test_drivers import stack


class WithoutDrivers(PretendedStack):
    """A stack whose Celery worker has given its shared drivers up."""

    def switch(self, executor: Executor, relay: Relay = "none", *, exhibit: bool = False,
               preload: bool = False) -> StackState:
        super().switch(executor, relay, exhibit=exhibit, preload=preload)
        raise RelayMissing("the Celery worker has no shared drivers (relay process): WORKER_INIT_MAX_SIZE is 'abc'")


class Silent:
    """A view that shows nothing."""

    def __getattr__(self, _: str) -> Any:
        return lambda *_: None


def test_a_cell_whose_relay_is_not_there_has_failed_with_the_reason_and_runs_no_task(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wall = iter([100.0, 130.0])     # somebody sets the clock in between
    monkeypatch.setattr(clock, "_ahead", lambda: next(wall))
    pretended = WithoutDrivers(tmp_path, stack(tmp_path)).seen_as
    view = cast("Progress", Silent())
    planned = PlannedRun(index=3, block=0, cell=Cell(executor="CeleryExecutor", pattern="worker", driver="sync",
                                                      relay="process", tasks=4, calls=1, hold=0.0))
    runner = CellRunner(pretended, cast("AirflowApi", None), cast("Probe", None), tmp_path, view, observe=0)
    Comparison(PlainSettings(data_dir=tmp_path), view, pretended)._run_one(runner, cast("AirflowApi", None), planned)
    (record,) = records.read(tmp_path / records.DAG_RUNS_FILE, DagRunRecord)
    assert record.clock_step == 30
    assert (record.index, record.state, record.dag_run_id, record.opened) == (3, "error", None, None)
    assert record.reason == "the Celery worker has no shared drivers (relay process): WORKER_INIT_MAX_SIZE is 'abc'"


@pytest.mark.parametrize(("counts", "ended"), [
    ({"running": 1, "success": 0, "failed": 0}, 0), ({"running": 16, "success": 1, "failed": 0}, 0),
    ({"running": 0, "success": 99, "failed": 2}, 100)])
def test_the_task_that_plans_the_others_is_none_of_the_hundred_that_end(
        counts: dict[str, int], ended: int, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    class Telling(Silent):
        def tasks(self, *counted: int) -> None:
            told.append((counted[0], counted[1]))
    runner = CellRunner(PretendedStack(tmp_path).seen_as, cast("AirflowApi", None), cast("Probe", None), tmp_path,
                        cast("Progress", Telling()), observe=0)
    runner._tell(counts)
    assert told == [(counts["running"], ended)]


def test_where_preloading_cannot_be_switched_nothing_is_started(tmp_path: Path) -> None:
    pretended = PretendedStack(tmp_path)
    pretended.preload_problem = "containers have no switch for it"
    wanted = replace(profiles.PROFILES["preload"], patterns=("improved",))
    comparison = Comparison(PlainSettings(data_dir=tmp_path), cast("Progress", Silent()), pretended.seen_as)
    with pytest.raises(BadInput, match="containers have no switch for it"):
        comparison.start(Request(wanted, 1, "rig compare"))
    assert pretended.asked == []
    assert list(tmp_path.iterdir()) == []


def test_containers_say_where_preloading_is_measured(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="use --stack native for that, or leave --preload out"):
        ComposeStack(PlainSettings(data_dir=tmp_path)).require_preload("CeleryExecutor")


def test_each_cell_is_run_with_modules_preloaded_or_not_as_it_says(tmp_path: Path) -> None:
    pretended = PretendedStack(tmp_path, stack(tmp_path))
    comparison = Comparison(PlainSettings(data_dir=tmp_path), cast("Progress", Silent()), pretended.seen_as)
    for preload in (True, False):
        comparison._prepare(cast("AirflowApi", None), Cell(
            executor="CeleryExecutor", pattern="improved", tasks=4, calls=1, hold=0.0, preload=preload))
        assert pretended.state().preload is preload
