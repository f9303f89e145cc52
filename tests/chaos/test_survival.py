"""How a comparison that was stopped is judged: its exit code, its one line, and what it had recorded."""

from pathlib import Path

import pytest

from chaos import survival
from chaos.survival import CTRL_C, FULL_DISK, KILL, Moment
from rig import records

LINE = "rig: no room"


@pytest.mark.parametrize(("way", "code", "said", "problem"), [
    (CTRL_C, 130, "rig: stopped", None),
    (CTRL_C, 1, LINE, "exit code 1, and not 130"),
    (CTRL_C, 130, "Traceback (most recent call last)", "a traceback"),
    (FULL_DISK, 1, LINE, None),
    (FULL_DISK, 0, "", None),
    (FULL_DISK, 2, LINE, None),
    (FULL_DISK, 130, LINE, "exit code 130, and not 0 or 1 or 2"),
    (FULL_DISK, 1, "", "0 lines that begin with `rig:`, and not one"),
    (FULL_DISK, 1, f"{LINE}\n{LINE}", "2 lines that begin with `rig:`, and not one"),
    (KILL, -9, "", None)])
def test_a_command_that_ends_wrongly_is_found(way: str, code: int, said: str, problem: str | None) -> None:
    lines = [line for line in said.splitlines() if line.startswith("rig: ")]
    found = survival._misbehaved(way, code, said, lines)
    assert (found or "").startswith(problem or "")
    assert bool(found) == bool(problem)


def test_a_whole_line_that_is_gone_is_found_and_half_of_one_may_go(tmp_path: Path) -> None:
    file = tmp_path / "run" / records.TASKS_FILE
    file.parent.mkdir()
    file.write_text('{"a": 1}\n{"b": 2}\n{"c"')
    before = survival._recorded(tmp_path)
    file.write_text('{"a": 1}\n{"b": 2}\n')
    assert survival._lost(before, tmp_path) is None
    file.write_text('{"a": 1}\n')
    assert survival._lost(before, tmp_path) == f"what was recorded is lost: {file}"


def test_a_moment_at_which_it_had_ended_is_not_counted() -> None:
    hit = Moment(KILL, 1.0, hit=True, said="", problem=None)
    late = Moment(KILL, 9.0, hit=False, said="", problem=None)
    bad = Moment(CTRL_C, 1.0, hit=True, said="", problem="a traceback")
    assert survival.table([hit, late, bad]).splitlines()[2:] == ["| kill -9 | 2 | 1 | 1 |", "| Ctrl-C | 1 | 1 | 0 |"]
