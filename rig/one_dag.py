"""One DAG run on the running stack, for a user who wants to watch it."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from patterns.facts import QUERY_TASK
from rig.airflow_api import AirflowApi, ApiError
from rig.errors import BadInput, WorkerNotServing
from rig.experiment.dag_run import asked_again, until_ended
from rig.experiment.progress import Notes
from rig.stack import lock
from rig.stack.airflow import WORKER
from rig.stack.interface import Stack

CLIENT_ERRORS = range(400, 500)


@dataclass(frozen=True)
class Outcome:
    """How the run ended."""

    succeeded: bool
    text: str


def run(stack: Stack, dag_id: str, conf: dict[str, Any], view: Notes) -> Outcome:
    """Start a DAG run, print the progress of its tasks, and return how it ended.

    Raises BadInput if there is no such DAG, if the DAG refuses the parameters, or if another ``rig`` uses the stack;
    Hung at a run's time limit. If the DAG was paused before, it is paused again afterwards.
    """
    state = stack.state()
    # A comparison ends every DAG run that it finds, and would count this one's connections.
    lock.require_free(stack.settings.data_dir)
    stack.require_running()
    with stack.api(state) as api:
        if dag_id not in (known := api.dag_ids()):
            raise BadInput(f"there is no DAG {dag_id!r}", f"there are {', '.join(sorted(known))}")
        with api.paused(dag_id, False):
            run_id = _started(api, dag_id, conf)
            view.note(f"{dag_id}, run {run_id}, on {state.executor}")
            began = time.monotonic()
            last = _until_ended(stack, api, dag_id, run_id, view, began=began)
        tasks = asked_again(lambda: api.task_instances(dag_id, run_id, QUERY_TASK), view.note)
        counted = ", ".join(f"{count} {name}" for name, count in Counter(task["state"] for task in tasks).items())
        text = f"{last} after {time.monotonic() - began:.0f} s"
        return Outcome(last == "success", f"{text}: {counted}" if counted else text)


def _until_ended(stack: Stack, api: AirflowApi, dag_id: str, run_id: str, view: Notes, *, began: float) -> str:
    """Watch the run to its end. If the worker takes no tasks, it is restarted: waiting tasks stay in its queue.

    The run's time limit goes on meanwhile: else it would never come if the worker is restarted again and again.
    """
    while True:
        try:
            return until_ended(stack, api, dag_id, run_id, _teller(view), note=view.note, began=began)
        except WorkerNotServing as error:
            view.note(f"{error.what}: starting it again")
            with lock.hold(stack.settings.data_dir, "rig dag"):
                stack.restart([WORKER])


def _started(api: AirflowApi, dag_id: str, conf: dict[str, Any]) -> str:
    try:
        return api.trigger(dag_id, conf)
    except ApiError as error:
        if error.status in CLIENT_ERRORS:
            raise BadInput(f"{dag_id} was not started: {error.what}", "its parameters are in its docs") from error
        raise


def _teller(view: Notes) -> Callable[[dict[str, int]], None]:
    """Return a function that prints the counts of tasks, but only when they have changed."""
    told: dict[str, int] = {}

    def tell(counts: dict[str, int]) -> None:
        nonlocal told
        if counts != told and any(counts.values()):
            view.note("  ".join(f"{name} {count}" for name, count in counts.items()))
        told = counts
    return tell
