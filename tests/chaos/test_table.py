"""The table of what grows: which processes are in it, and which trial it begins with."""

import json
from pathlib import Path

from chaos import table
from chaos.faults import Fault
from chaos.ground import Size
from chaos.trial import Outcome, Plan

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
