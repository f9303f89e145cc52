"""The chaos suite's judge: it finds each kind of damage, and calls nothing damage that Airflow allows."""

import pytest

from chaos import proxy
from chaos.account import ENDS, NOT_DOUBLED, NOT_LOST, OWN_ROW, ROLLED_BACK, Ended, Row, Stored, broken
from chaos.faults import Fault, all_faults
from chaos.table import never_hit, of_faults
from chaos.trial import CONNECTIONS, Outcome, Plan

TASKS = [Ended(0, "success", 1, "a"), Ended(1, "success", 2, "b")]
ROWS = [Row(0, 1, "a"), Row(1, 1, "of the try that was killed"), Row(1, 2, "b")]


def test_a_killed_try_may_have_stored_its_row_or_not() -> None:
    assert list(broken(TASKS, Stored(ROWS), retries=1)) == []
    assert list(broken(TASKS, Stored([ROWS[0], ROWS[2]]), retries=1)) == []


@pytest.mark.parametrize(("tasks", "stored", "what"), [
    ([TASKS[0], Ended(1, "failed", 3, None)], Stored(ROWS), ENDS),
    ([TASKS[0], Ended(1, None, 0, None)], Stored(ROWS), ENDS),
    ([TASKS[0], Ended(1, "success", 3, "b")], Stored([*ROWS, Row(1, 3, "b")]), ENDS),
    (TASKS, Stored(ROWS[:2]), NOT_LOST),
    (TASKS, Stored([*ROWS, Row(0, 1, "a")]), NOT_DOUBLED),
    (TASKS, Stored([Row(0, 1, "b"), *ROWS[1:]]), OWN_ROW),
    (TASKS, Stored(ROWS, mixed_up=1), OWN_ROW),
    (TASKS, Stored(ROWS, uncommitted=1), ROLLED_BACK)])
def test_each_damage_is_found_and_no_other(tasks: list[Ended], stored: Stored, what: str) -> None:
    assert [found for found, _ in broken(tasks, stored, retries=1)] == [what]


@pytest.mark.parametrize(("state", "found"), [("failed", []), ("queued", [ENDS]), (None, [ENDS])])
def test_a_task_that_may_fail_has_to_end_all_the_same(state: str | None, found: list[str]) -> None:
    tasks = [TASKS[0], Ended(1, state, 3, None)]
    assert [what for what, _ in broken(tasks, Stored(ROWS), may_fail=True)] == found


def test_tries_that_no_fault_explains_are_damage() -> None:
    assert [what for what, _ in broken(TASKS, Stored(ROWS), retries=0)] == [ENDS]
    assert list(broken(TASKS, Stored(ROWS), retries=None)) == []


def test_the_proxy_does_what_it_says() -> None:
    proxy.prove()


def test_a_proxy_that_lets_something_through_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy.Proxy, "silent", property(lambda _: False, lambda *_: None), raising=False)
    with pytest.raises(RuntimeError, match="something passes a black hole"):
        proxy.prove()


def test_every_fault_has_a_name_of_its_own_and_a_target_that_is_there() -> None:
    names = [str(fault) for fault in all_faults()]
    assert len(names) == len(set(names))
    assert not Fault("restart", "redis").fits("LocalExecutor", "worker")
    assert not Fault("kill -9", "driver host").fits("CeleryExecutor", "improved")


def outcome(fault: Fault, *, hit: str = "", missed: str = "", again: int = 0) -> Outcome:
    plan = Plan("CeleryExecutor", "worker", (fault,), 4, 0, 1, 10, 1)
    return Outcome(plan, [ENDS, CONNECTIONS], hit=[hit] if hit else [], missed=[missed] if missed else [], again=again)


def test_the_table_says_what_was_tried_what_was_hit_what_held_and_what_did_not() -> None:
    fault = Fault("kill -9", "redis")
    other = outcome(fault, hit="process 2 was alive, and is dead", again=2)
    other.started_again = ["airflow-scheduler"]
    other.look(CONNECTIONS, "7 connections are open, 4 are expected")
    table = of_faults([outcome(fault, hit="process 1 was alive, and is dead"), other,
                       outcome(fault, missed="no task was within a transaction")])
    assert ("| kill -9 redis | CeleryExecutor | 3 | 2 | 1 | 2 | airflow-scheduler (1) | connections back to their "
            "floor within 30 s (7 connections are open, 4 are expected) |") in table
    assert "| tries that failed | started again besides | what did not hold |" in table
    assert "| connections back to their floor within 30 s | 2 | 1 |" in table
    assert "| tasks end as Airflow promises | 2 | 2 |" in table


def test_a_fault_that_has_struck_nothing_in_any_trial_is_named() -> None:
    redis, calm = Fault("kill -9", "redis"), Fault("calm")
    assert never_hit([outcome(calm, hit="nothing should be hit"), outcome(redis, missed="it had ended")]) == [
        "kill -9 redis on CeleryExecutor"]
    assert never_hit([outcome(redis, missed="it had ended"), outcome(redis, hit="it is dead")]) == []
