"""The chaos suite's judge: it finds each kind of damage, and calls nothing damage that Airflow allows."""

import pytest

from chaos import proxy
from chaos.account import ENDS, NOT_DOUBLED, NOT_LOST, OWN_ROW, Ended, Row, broken
from chaos.faults import Fault, all_faults
from chaos.table import of_faults
from chaos.trial import CONNECTIONS, Outcome, Plan

TASKS = [Ended(0, "success", 1, "a"), Ended(1, "success", 2, "b")]
ROWS = [Row(0, 1, "a"), Row(1, 1, "of the try that was killed"), Row(1, 2, "b")]


def test_a_killed_try_may_have_stored_its_row_or_not() -> None:
    assert list(broken(TASKS, ROWS, 0, retries=1)) == []
    assert list(broken(TASKS, [ROWS[0], ROWS[2]], 0, retries=1)) == []


@pytest.mark.parametrize(("tasks", "rows", "mixed_up", "what"), [
    ([TASKS[0], Ended(1, "failed", 3, None)], ROWS, 0, ENDS),
    ([TASKS[0], Ended(1, None, 0, None)], ROWS, 0, ENDS),
    ([TASKS[0], Ended(1, "success", 3, "b")], [*ROWS, Row(1, 3, "b")], 0, ENDS),
    (TASKS, ROWS[:2], 0, NOT_LOST),
    (TASKS, [*ROWS, Row(0, 1, "a")], 0, NOT_DOUBLED),
    (TASKS, [Row(0, 1, "b"), *ROWS[1:]], 0, OWN_ROW),
    (TASKS, ROWS, 1, OWN_ROW)])
def test_each_damage_is_found_and_no_other(tasks: list[Ended], rows: list[Row], mixed_up: int, what: str) -> None:
    assert [found for found, _ in broken(tasks, rows, mixed_up, retries=1)] == [what]


def test_tries_that_no_fault_explains_are_damage() -> None:
    assert [what for what, _ in broken(TASKS, ROWS, 0, retries=0)] == [ENDS]
    assert list(broken(TASKS, ROWS, 0, retries=None)) == []


def test_the_proxy_does_what_it_says() -> None:
    proxy.prove()


def test_a_proxy_that_lets_something_through_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy.Proxy, "silent", property(lambda _: False, lambda *_: None), raising=False)
    with pytest.raises(RuntimeError, match="something passes a black hole"):
        proxy.prove()


def test_every_fault_has_a_name_of_its_own_and_local_executor_has_no_broker() -> None:
    names = [str(fault) for fault in all_faults()]
    assert len(names) == len(set(names))
    assert not [fault for fault in all_faults() if fault.target == "redis" and fault.fits("LocalExecutor")]


def test_the_table_says_what_was_tried_what_held_and_what_did_not() -> None:
    plan = Plan("CeleryExecutor", "worker", (Fault("kill -9", "redis"),), 4, 0, 1, 10, 1)
    held, other = Outcome(plan, [ENDS, CONNECTIONS]), Outcome(plan, [ENDS], again=2)
    other.look(CONNECTIONS, "7 connections are open, 4 are expected")
    table = of_faults([held, other])
    assert ("| kill -9 redis | CeleryExecutor | 2 | 1 | 2 | connections back to their floor within 30 s "
            "(7 connections are open, 4 are expected) |") in table
    assert "| connections back to their floor within 30 s | 2 | 1 |" in table
    assert "| tasks end as Airflow promises | 2 | 2 |" in table
