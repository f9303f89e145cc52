"""A stack is borrowed: the one that is up is looked at and left as it was, else one is brought up and taken down."""

from pathlib import Path
from typing import Any

import pytest

from patterns.facts import STRESS_DAG
from rig.errors import BadInput, ServiceDied
from rig.stack import processes
from rig.stack.borrowing import Needs, Start, borrowed
from tests.rig.pretended_stack import PretendedStack
from tests.rig.test_drivers import stack as state_of

START = Start("CeleryExecutor", "process", 8)
NEEDS = Needs({STRESS_DAG})


def borrow(stack: PretendedStack, needs: Needs = NEEDS) -> None:
    with borrowed(stack.seen_as, START, needs):
        stack.asked.append(("used",))


def test_where_none_runs_one_is_brought_up_for_this_process_and_taken_down(tmp_path: Path) -> None:
    stack = PretendedStack(tmp_path)
    with borrowed(stack.seen_as, START, NEEDS) as state:
        assert (state.slots, state.keeper) == (8, processes.this_process())
    assert stack.asked == [("up", "CeleryExecutor", "process", 8), ("down",)]


def test_what_another_comparison_has_left_behind_is_not_borrowed(tmp_path: Path) -> None:
    stack = PretendedStack(tmp_path, state_of(tmp_path, keeper=processes.this_process()))
    borrow(stack)
    assert stack.asked == [("up", "CeleryExecutor", "process", 8), ("used",), ("down",)]


def test_a_block_that_fails_takes_its_own_stack_down_too(tmp_path: Path) -> None:
    stack = PretendedStack(tmp_path)
    with pytest.raises(KeyboardInterrupt), borrowed(stack.seen_as, START, NEEDS):
        raise KeyboardInterrupt
    assert stack.asked[-1] == ("down",)


def test_a_running_stack_is_used_as_it_is_and_stays(tmp_path: Path) -> None:
    stack = PretendedStack(tmp_path, state_of(tmp_path, executor="LocalExecutor", slots=32))
    with borrowed(stack.seen_as, START, NEEDS) as state:
        assert (state.executor, state.slots, state.keeper) == ("LocalExecutor", 32, None)
    assert stack.asked == []


@pytest.mark.parametrize("changed", [("LocalExecutor", "none", {}), ("CeleryExecutor", "shared", {}),
                                     ("CeleryExecutor", "process", {"exhibit": True}),
                                     ("CeleryExecutor", "process", {"preload": True})])
def test_a_running_stack_is_left_on_the_executor_that_it_was_found_on(
        changed: tuple[Any, Any, dict[str, bool]], tmp_path: Path) -> None:
    stack = PretendedStack(tmp_path, state_of(tmp_path, relay="process"))
    executor, relay, more = changed

    def interrupted() -> None:
        with borrowed(stack.seen_as, START, NEEDS):
            stack.switch(executor, relay, **more)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert stack.asked[1:] == [("switch", "CeleryExecutor", "process")]
    assert not stack.state().exhibit
    assert not stack.state().preload


def test_a_running_stack_that_could_not_be_switched_back_is_not_borrowed(tmp_path: Path) -> None:
    stack = PretendedStack(tmp_path, state_of(tmp_path, preload=True))
    stack.preload_problem = "WORKER_INIT_PRELOAD=none leaves nothing to preload"
    with pytest.raises(BadInput, match="leaves nothing to preload"):
        borrow(stack)
    assert stack.asked == []


def test_a_running_stack_that_was_taken_down_meanwhile_is_not_put_back(tmp_path: Path) -> None:
    stack = PretendedStack(tmp_path, state_of(tmp_path))
    with borrowed(stack.seen_as, START, NEEDS):
        stack.down()
    assert stack.asked == [("down",)]


@pytest.mark.parametrize(("needs", "words"), [
    (Needs((), executor="LocalExecutor"), "the running stack is on CeleryExecutor, not on LocalExecutor"),
    (Needs((), relay="shared"), "the running stack's relay is process, not shared"),
    (Needs((), slots=32), "the running stack has 16 slots, and 32 are needed"),
    (Needs({STRESS_DAG, "other"}), "there is no DAG other in the running stack")])
def test_a_running_stack_that_does_not_fit_is_one_line(needs: Needs, words: str, tmp_path: Path) -> None:
    stack = PretendedStack(tmp_path, state_of(tmp_path, relay="process"))
    with pytest.raises(BadInput, match=words) as refused:
        borrow(stack, needs)
    assert "rig down" in str(refused.value)
    assert stack.asked == []


def test_dag_runs_in_progress_would_be_counted(tmp_path: Path) -> None:
    stack = PretendedStack(tmp_path, state_of(tmp_path), busy=["a_dag/run-1"])
    with pytest.raises(BadInput, match="in progress and would be counted: a_dag/run-1"):
        borrow(stack)
    assert stack.asked == []


def test_a_running_stack_with_a_dead_service_is_not_borrowed(tmp_path: Path) -> None:
    stack = PretendedStack(tmp_path, state_of(tmp_path), dead=["airflow-scheduler"])
    with pytest.raises(ServiceDied, match="airflow-scheduler"):
        borrow(stack)
    assert stack.asked == []
