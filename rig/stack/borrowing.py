"""A stack for as long as something needs it: the one that is up, left as it was found, or one of its own."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from patterns.facts import Executor
from rig.errors import BadInput
from rig.records import Relay, relay_on
from rig.stack import processes
from rig.stack.interface import Stack
from rig.stack.state import StackState


@dataclass(frozen=True)
class Start:
    """How a stack is brought up where none runs; ``slots`` is the number of tasks at once."""

    executor: Executor
    relay: Relay
    slots: int


@dataclass(frozen=True)
class Needs:
    """What a stack that runs already must have. None: any will do."""

    dags: Collection[str]
    executor: Executor | None = None
    relay: Relay | None = None
    slots: int | None = None


@contextmanager
def borrowed(stack: Stack, start: Start, needs: Needs) -> Iterator[StackState]:
    """Use the stack that the user has up and leave it as it was, or bring one up for as long as the block takes.

    The state that the block gets has a ``keeper`` where the stack was brought up for it. Raises BadInput where the
    running stack is not as needed or has DAG runs in progress, ServiceDied where a service of it has ended, and what
    the start of a stack raises.
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
    """Leave the user's stack on the executor that it was found on."""
    if not stack.is_there():        # taken down meanwhile
        return
    state = stack.state()
    if (state.executor, state.relay, state.exhibit) != (before.executor, before.relay, before.exhibit):
        stack.switch(before.executor, before.relay, exhibit=before.exhibit)
