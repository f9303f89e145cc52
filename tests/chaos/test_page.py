"""The tables of docs/reliability.md are those of the trials that are kept beside it."""

from pathlib import Path

import pytest

from chaos import page, table
from chaos.faults import Fault
from chaos.trial import INVARIANTS, Outcome, Plan
from patterns.facts import Executor

CALM, KILLED = Fault("calm"), Fault("kill -9", "redis")


def outcome(executor: Executor, *faults: Fault, broken: bool = False, again: int = 0) -> Outcome:
    plan = Plan(executor, "worker", faults, tasks=40, hold=0.0, seconds=1.0, limit=60.0, seed=1)
    return Outcome(plan, judged=[INVARIANTS[0]], broken={INVARIANTS[0]: "why"} if broken else {}, hit=["it"],
                   again=again, started_again=["airflow-scheduler"] if again else [])


OUTCOMES = [outcome("LocalExecutor", CALM), outcome("CeleryExecutor", CALM),
            outcome("CeleryExecutor", KILLED, broken=True, again=3), outcome("CeleryExecutor", KILLED),
            outcome("LocalExecutor", CALM, KILLED), outcome("LocalExecutor", CALM, KILLED)]


def test_the_page_has_the_tables_of_the_kept_trials() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert all(f"<!-- faults: {name} -->" in text for name in page.BLOCKS)
    assert page.with_tables(text, table.read([page.KEPT])) == text


def test_no_kept_trial_lost_or_doubled_a_write_as_the_page_says() -> None:
    named = ("no write lost", "no write doubled", "no task reads another's row")
    assert set(named) <= set(INVARIANTS)
    kept = table.read([page.KEPT])
    assert len(kept) > 100
    assert not [trial.plan for trial in kept if set(named) & set(trial.broken)]


def test_the_sums_are_those_of_all_trials() -> None:
    assert page.sums(OUTCOMES) == (
        "6 trials, 2 of them of two faults (1 different), with 240 tasks, of which 3 tries failed. "
        "The faults hit something in 6 trials, and everything held in 5:")


def test_a_fault_has_a_row_and_an_executor_a_column() -> None:
    assert page.by_fault(OUTCOMES).splitlines()[2:] == [
        "| calm | 1 of 1 | 1 of 1 | 0, 0 |  |",
        "| kill -9 redis |  | 1 of 2 | 3 | airflow-scheduler (1) |",
        "| two at random | 2 of 2 |  | 0 |  |"]


def test_a_foreign_file_is_refused_in_one_line_and_nothing_is_written(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(page, "KEPT", tmp_path / "kept.json")
    monkeypatch.setattr(page, "PAGE", tmp_path / "page.md")
    (foreign := tmp_path / "foreign.json").write_text('{"run":')
    assert page.main([str(foreign)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["foreign.json"]
