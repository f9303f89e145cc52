"""A stack for as long as something needs it: the running one, left as it was found, or a new one."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from patterns.facts import Executor
from rig import interrupts
from rig.errors import BadInput
from rig.records import Relay, relay_on
from rig.stack import processes
from rig.stack.interface import Stack
from rig.stack.state import StackState


@dataclass(frozen=True)
class Start:
    """How a stack is started if none is running. ``slots`` is the number of concurrent tasks."""

    executor: Executor
    relay: Relay
    slots: int


@dataclass(frozen=True)
class Needs:
    """What a running stack must have. None means that any value will do."""

    dags: Collection[str]
    executor: Executor | None = None
    relay: Relay | None = None
    slots: int | None = None


@contextmanager
def borrowed(stack: Stack, start: Start, needs: Needs) -> Iterator[StackState]:
    """Use the user's running stack and leave it as it was, or start a stack for the duration of the block.

    The state that the block gets has a ``keeper`` if the stack was started for it. Raises BadInput if the running stack
    is not as needed or has DAG runs in progress, ServiceDied if one of its services has ended, and the errors of a
    stack's start.
    """
    if not stack.is_there() or stack.state().keeper is not None:
        state = stack.up(start.executor, slots=start.slots, relay=start.relay, keeper=processes.this_process())
        try:
            yield state
        finally:
            stack.down()
        return
    state = _usable(stack, needs)
    try:
        yield state
    finally:
        with interrupts.put_off():
            _give_back(stack, state)


def _usable(stack: Stack, needs: Needs) -> StackState:
    state = stack.state()
    stack.require_running()
    if needs.executor not in {None, state.executor}:
        raise BadInput(f"the running stack is on {state.executor}, not on {needs.executor}",
                       "change it with `rig switch`, or run `rig down`: the command then starts a stack that fits")
    if needs.relay is not None and relay_on(state.executor, needs.relay) != state.relay:
        raise BadInput(f"the running stack's relay is {state.relay}, not {relay_on(state.executor, needs.relay)}",
                       "change it with `rig switch`, or run `rig down`: the command then starts a stack that fits")
    if needs.slots not in {None, state.slots}:
        raise BadInput(f"the running stack has {state.slots} slots, and {needs.slots} are needed",
                       "run `rig down`: the command then starts a stack that fits")
    if state.preload:       # else it could not be left as it was found
        stack.require_preload(state.executor)
    _require_ready(stack, state, needs.dags)
    return state


def _require_ready(stack: Stack, state: StackState, dags: Collection[str]) -> None:
    with stack.api(state) as api:
        if missing := sorted(set(dags) - set(api.dag_ids())):
            raise BadInput(f"there is no DAG {', '.join(missing)} in the running stack",
                           "run `rig down`, then try again")
        if busy := api.active_runs():
            raise BadInput(f"DAG runs are in progress and would be counted: {', '.join(busy)}",
                           "wait for them, or `rig down` first")


def _give_back(stack: Stack, before: StackState) -> None:
    """Switch the user's stack back to the executor on which it was found."""
    if not stack.is_there():        # it was taken down meanwhile
        return
    state = stack.state()
    if _way(state) != _way(before):
        stack.switch(before.executor, before.relay, exhibit=before.exhibit, preload=before.preload)


def _way(state: StackState) -> tuple[object, ...]:
    return state.executor, state.relay, state.exhibit, state.preload
