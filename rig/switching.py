"""Changes the executor of a running stack. The stack must be idle: tasks in progress would be run twice."""

from collections.abc import Callable

from patterns.facts import Executor
from rig.errors import BadInput, Hung
from rig.experiment.dag_run import until_idle
from rig.records import Relay
from rig.stack.interface import Stack


def switch(stack: Stack, executor: Executor, relay: Relay, *, drain: bool, tell: Callable[[str], None]) -> None:
    """Switch the running stack to another executor, and its tasks to another relay.

    Raises BadInput if DAG runs are in progress and ``drain`` is False, Hung if they do not end within RIG_DRAIN_TIMEOUT
    seconds.
    """
    state = stack.state()
    stack.require_running()
    if (state.executor, state.relay) == (executor, relay):
        return      # nothing is stopped, so DAG runs may be in progress
    with stack.api(state) as api:
        busy = api.active_runs()
        if busy and not drain:
            raise BadInput(f"DAG runs are in progress: {', '.join(busy)}",
                           "LocalExecutor does not adopt the tasks of another scheduler, and would run them twice: "
                           "wait for them, or use `rig switch --drain`, which waits")
        if busy:
            tell(f"waiting for {', '.join(busy)}")
        if left := until_idle(api, stack.settings.drain_timeout, tell):
            raise Hung(f"still in progress after {stack.settings.drain_timeout:g} s: {', '.join(left)}",
                       "pause their DAGs, or give them more time with RIG_DRAIN_TIMEOUT")
    stack.switch(executor, relay, preload=state.preload)
