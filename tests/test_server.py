"""The whole run's second look at what failed: a fault fails twice, and a test that depends on luck is named."""

import subprocess
import sys
from pathlib import Path

import pytest

HOLDS = "def test_holds(): pass"
LUCK = """
def test_luck():
    seen = pathlib.Path(__file__).with_name("seen")
    if not seen.exists():
        seen.touch()
        raise AssertionError("the first time")
"""
FAULT = "def test_fault(): raise AssertionError('each time')"


def whole_run(folder: Path, *tests: str) -> "subprocess.CompletedProcess[str]":
    marked = "\n".join(f"@pytest.mark.server\n{test.strip()}" for test in tests)
    (folder / "test_some.py").write_text(f"import pathlib\nimport pytest\n{marked}\n", encoding="utf-8")
    settings = folder / "pytest.ini"
    settings.write_text("[pytest]\nmarkers = server\n", encoding="utf-8")
    return subprocess.run([sys.executable, "-m", "tests.server", "-c", str(settings), "--rootdir", str(folder),
                           str(folder)], capture_output=True, text=True, check=False)


def test_a_run_without_a_failure_ends_after_the_first_time(tmp_path: Path) -> None:
    ended = whole_run(tmp_path, HOLDS)
    assert (ended.returncode, "once more" in ended.stdout) == (0, False)


def test_what_fails_by_luck_runs_again_alone_and_is_named(tmp_path: Path) -> None:
    ended = whole_run(tmp_path, HOLDS, LUCK)
    assert ended.returncode == 0, ended.stdout
    again = ended.stdout.partition("once more")[2]
    assert "::test_luck PASSED" in again
    assert "test_holds" not in again
    assert "depend on luck" in again


def test_a_fault_fails_the_whole_run_also_beside_one_that_fails_by_luck(tmp_path: Path) -> None:
    ended = whole_run(tmp_path, LUCK, FAULT)
    assert ended.returncode == pytest.ExitCode.TESTS_FAILED
    assert "depend on luck" not in ended.stdout


def test_a_run_that_finds_no_test_has_not_passed(tmp_path: Path) -> None:
    assert whole_run(tmp_path).returncode == pytest.ExitCode.NO_TESTS_COLLECTED
