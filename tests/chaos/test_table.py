"""The table of what grows: which processes are in it, and which trial it begins with."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from chaos import __main__ as suite
from chaos import table
from chaos.faults import Fault
from chaos.ground import Size
from chaos.trial import INVARIANTS, Outcome, Plan

PLAN = Plan("LocalExecutor", "worker", (Fault("calm"),), tasks=4, hold=0.0, seconds=1.0, limit=60.0, seed=1)


def outcomes(process: str, count: int) -> list[Outcome]:
    return [Outcome(PLAN, sizes={process: Size(10 + number, 3, (50 + number) * 10**6)}) for number in range(count)]


def test_a_process_that_lived_through_enough_trials_is_in_the_table_without_its_first_one() -> None:
    assert table.of_growth(outcomes("7 a scheduler", 10)).splitlines()[2:] == [
        "| 7 a scheduler | 10 | 11 to 19 | 3 to 3 | 51 to 59 |"]


def test_a_process_that_was_killed_early_is_left_out_and_a_table_without_rows_too() -> None:
    assert table.of_growth(outcomes("7 a scheduler", 9)) == ""


def test_what_was_found_is_written_with_its_circumstances(tmp_path: Path) -> None:
    file = table.write(tmp_path / "new" / "found.json", {"seed": 7, "trials": []})
    written = json.loads(file.read_text())
    assert {"arguments", "written", "machine"} < set(written)
    assert (written["seed"], written["trials"]) == (7, [])


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    [outcome] = outcomes("7 a scheduler", 1)
    outcome.look(INVARIANTS[0], "a reason")
    file = table.write(tmp_path / "found.json", {"seed": 7, "trials": [{"name": "calm", **asdict(outcome)}]})
    assert table.read([file, file]) == [outcome, outcome]


@pytest.mark.parametrize("text", [
    "", "[]", "{}", '{"trials": 7}', '{"trials": [{}]}', '{"trials": [{"plan": 7}]}',
    '{"trials": [{"plan": {"faults": []}}]}'])
def test_a_file_of_something_else_is_refused_in_one_line(text: str, tmp_path: Path,
                                                         capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "foreign.json"
    file.write_text(text)
    assert suite._print_table([file]) == 2
    assert capsys.readouterr().err.count("\n") == 1
