"""A stack that only remembers what was asked of it: for what is done around its servers, which take minutes."""


from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, cast

from patterns.facts import STRESS_DAG, Executor
from rig.airflow_api import AirflowApi
from rig.errors import BadInput, ServiceDied
from rig.records import Relay
from rig.stack import asking
from rig.stack.interface import ServiceStatus, Stack
from rig.stack.processes import Started
from rig.stack.state import StackState
from tests.rig.plain_settings import PlainSettings
from tests.rig.test_drivers import stack as state_of


class Told:
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


class PretendedApi:
    """Airflow's API, with these DAGs and these DAG runs in progress."""

    def __init__(self, dags: set[str], busy: list[str]) -> None:
        self._dags, self.busy = dags, busy
        self.states: list[str] = []     # of the DAG run that is watched, one for each question
        self.running = 0                # tasks of it
        self.running_besides = 0        # tasks of other DAG runs

    def task_counts(self, *_: str) -> dict[str, int]:
        return {"running": self.running, "success": 3, "failed": 0}

    def running_tasks(self) -> int:
        return self.running + self.running_besides

    def run_state(self, *_: str) -> str:
        return self.states.pop(0) if self.states else "running"

    def trigger(self, *_: object) -> str:
        return "manual"

    def task_instances(self, *_: str) -> list[dict[str, Any]]:
        return []

    def paused(self, *_: object) -> "PretendedApi":
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def dag_ids(self) -> list[str]:
        return sorted(self._dags)

    def active_runs(self) -> list[str]:
        return list(self.busy)

    def fail_run(self, dag_id: str, run_id: str) -> None:
        self.busy.remove(f"{dag_id}/{run_id}")


class PretendedStack:
    """A stack, ``running`` or not. ``asked`` has what was asked of it, in order."""

    def __init__(self, folder: Path, running: StackState | None = None, *, dags: set[str] | None = None,
                 busy: list[str] | None = None, dead: list[str] | None = None) -> None:
        self.running = running
        self.asked: list[tuple[Any, ...]] = []
        self._folder, self._dead = folder, [] if dead is None else dead
        self.settings = PlainSettings(data_dir=folder)
        self.worker_problems: list[str | None] = []     # what is wrong with the Celery worker, one for each question
        self.preload_problem: str | None = None
        self.airflow = PretendedApi({STRESS_DAG} if dags is None else dags, busy or [])

    @property
    def seen_as(self) -> Stack:
        """Itself, as its users see it."""
        return cast("Stack", self)

    def is_there(self) -> bool:
        return self.running is not None

    def state(self) -> StackState:
        assert self.running is not None
        return self.running

    def status(self, *, within: float = asking.WITHIN) -> list[ServiceStatus]:
        self.asked.append(("status", within))
        return [ServiceStatus(name="airflow-apiserver", pid=1, url="http://127.0.0.1:1", healthy=True, problem=None)]

    def require_alive(self) -> None:
        for name in self._dead:
            raise ServiceDied(f"{name} has ended by itself")

    def require_running(self) -> None:
        self.require_alive()

    def worker_problem(self, *, tasks_run: Callable[[], bool]) -> str | None:
        self.asked.append(("worker_problem", tasks_run()))
        return self.worker_problems.pop(0) if self.worker_problems else None

    def restart(self, names: Sequence[str]) -> None:
        self.asked.append(("restart", *names))

    def api(self, _: StackState) -> AirflowApi:
        return cast("AirflowApi", self.airflow)

    def up(self, executor: Executor, *, slots: int, relay: Relay = "none", keeper: Started | None = None) -> StackState:
        self.asked.append(("up", executor, relay, slots))
        self.running = state_of(self._folder, executor=executor, relay=relay, slots=slots, keeper=keeper)
        return self.running

    def require_preload(self, _: Executor) -> None:
        if self.preload_problem:
            raise BadInput(self.preload_problem)

    def switch(self, executor: Executor, relay: Relay = "none", *, exhibit: bool = False,
               preload: bool = False) -> StackState:
        self.asked.append(("switch", executor, relay))
        self.running = self.state().model_copy(
            update={"executor": executor, "relay": relay, "exhibit": exhibit, "preload": preload})
        return self.running

    def down(self) -> None:
        self.asked.append(("down",))
        self.running = None
