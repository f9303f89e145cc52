"""What the benchmarks on a whole stack have in common: the stack, and a DAG run to its end."""

import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console

from benchmarks.sigterm import end_on_sigterm
from rig import settings as settings_module
from rig.airflow_api import AirflowApi
from rig.errors import RigError
from rig.experiment.dag_run import until_ended
from rig.records import Relay
from rig.settings import Settings
from rig.stack import lock, processes
from rig.stack.interface import OnStep
from rig.stack.native import NativeStack
from rig.stack.state import StackState
from rig.whole_file import write_whole

console = Console()
# A benchmark of several minutes must not fail because a busy machine took long for one answer.
PATIENCE = 300.0


class Configured(NativeStack):
    """A stack whose Airflow has ``extra`` in its environment, for every service that is started from then on."""

    extra: ClassVar[dict[str, str]] = {}

    def _env(self, state: StackState) -> dict[str, str]:
        return {**super()._env(state), **self.extra}


def on_a_stack(name: str, measure: Callable[[NativeStack, Settings], None],
               kind: Callable[[Settings, OnStep], NativeStack] = NativeStack, relay: Relay = "none") -> int:
    """Start a stack on CeleryExecutor, measure, stop it; return the exit code. An error prints one line."""
    end_on_sigterm()
    AirflowApi.answer_seconds = PATIENCE
    try:
        config = settings_module.load()
        stack = kind(config, lambda service, step, _: console.print(f"{service}: {step}", style="dim"))
        with lock.hold(config.data_dir, f"benchmarks/{name}.py"):
            stack.up("CeleryExecutor", slots=config.slots, relay=relay, keeper=processes.this_process())
            try:
                measure(stack, config)
            finally:
                stack.down()
    except RigError as error:
        console.print(f"benchmarks/{name}: {error}", style="red", soft_wrap=True)
        return error.exit_code
    return 0


def keep(config: Settings, name: str, figures: dict[str, Any]) -> None:
    """Write the measurements into the data folder, and print the file's name."""
    file = config.data_dir / "benchmarks" / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, json.dumps({"at": time.time(), **figures}))
    console.print(f"written to {file}", soft_wrap=True)


def on_a_stack_with_dags(name: str, measure: Callable[[NativeStack, Settings], None],
                         kind: type[NativeStack] = NativeStack) -> int:
    """Do the same as :func:`on_a_stack`, with the DAGs of the benchmarks beside those of the project."""
    with tempfile.TemporaryDirectory() as folder:
        dags, here = Path(folder) / "dags", Path(__file__).parent
        dags.mkdir()
        for file in [*(here.parent / "dags").glob("*.py"), *(here / "dags").glob("*.py")]:
            (dags / file.name).write_bytes(file.read_bytes())
        os.environ["AIRFLOW_PROJ_DIR"] = folder
        return on_a_stack(name, measure, kind)


def run_dag(stack: NativeStack, api: AirflowApi, dag_id: str, conf: dict[str, Any]) -> str:
    """Trigger a DAG and wait for its end; return the run's id. Raises RigError if it did not succeed."""
    run_id = api.trigger(dag_id, conf)
    state = until_ended(stack, api, dag_id, run_id, lambda _: None,
                        note=lambda text: console.print(text, soft_wrap=True, markup=False))
    if state != "success":
        raise RigError(f"{dag_id}, run {run_id}: {state}", "the tasks' logs in Airflow say why")
    return run_id


def moment(instance: Mapping[str, Any], key: str) -> float:
    """Return one of Airflow's times of a task, in seconds since the epoch. Raises RigError if Airflow has none."""
    found = AirflowApi.seconds(instance[key])
    if found is None:
        raise RigError(f"Airflow has no {key} of the task {instance['task_id']}, number {instance['map_index']}",
                       "run the benchmark again: its figures need the times of every task")
    return found
