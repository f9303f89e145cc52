"""Results folders that are damaged, foreign, of another rig or without room: one clear line, and raw data stays."""

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rig import records
from rig.load.records import LoadTestRecord
from tests.rig import builders
from tests.rig.load.lines import load

COMMAND = "from rig.command import main; main()"


def report(folder: Path, room: int | None = None) -> "subprocess.CompletedProcess[str]":
    """Run ``rig report``; with ``room`` no file can grow beyond so many bytes, as on a full disk."""
    def limit() -> None:
        if room is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    return subprocess.run([sys.executable, "-c", COMMAND, "report", str(folder)], capture_output=True, text=True,
                          cwd=folder, preexec_fn=limit, check=False)


def newer(folder: Path) -> None:
    text = (folder / records.RUN_FILE).read_text()
    (folder / records.RUN_FILE).write_text(text.replace('"schema_version": 2', '"schema_version": 99'))


def newer_load(folder: Path) -> None:
    record = LoadTestRecord.model_validate({
        "run": "x", "status": "complete", "started_at": 1, "load": load(), "thresholds": {},
        "deployment": {"airflow": "http://x"}})
    (folder / records.RUN_FILE).unlink()
    (folder / records.LOAD_FILE).write_text(json.dumps({**record.model_dump(), "schema_version": 99, "more": 1}))


def foreign(folder: Path) -> None:
    (folder / records.RUN_FILE).write_text('{"name": "another program\'s", "version": 3}')


def truncated(folder: Path) -> None:
    whole = (folder / records.RUN_FILE).read_bytes()
    (folder / records.RUN_FILE).write_bytes(whole[:len(whole) // 2])


def torn(folder: Path) -> None:
    lines = (folder / records.TASKS_FILE).read_bytes().splitlines(keepends=True)
    (folder / records.TASKS_FILE).write_bytes(lines[0][:20] + b"\n" + lines[1])


@pytest.mark.parametrize(("spoil", "said"), [
    (newer, "is of a newer rig (schema 99, this one reads up to 2) — install the rig that made it, or a later one"),
    (newer_load, "is of a newer rig (schema 99, this one reads up to 1)"),
    (foreign, "is not a run of this rig"), (truncated, "is not a run of this rig"),
    (torn, "tasks.jsonl, line 1: not a TaskRecord")])
def test_a_folder_that_cannot_be_read_is_said_in_one_line(tmp_path: Path, spoil: Callable[[Path], None],
                                                          said: str) -> None:
    folder = builders.tiny(tmp_path)
    spoil(folder)
    done = report(folder)

    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_run_without_a_finished_dag_run_has_a_report_that_says_so(tmp_path: Path) -> None:
    folder = builders.write(tmp_path, builders.run(builders.plan(builders.cell()), status="interrupted"))
    done = report(folder)

    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((folder / records.SUMMARY_FILE).read_text())["dag_runs"][0]["state"] == "not run"


def test_a_full_disk_is_said_in_one_line_and_nothing_that_was_recorded_is_lost(tmp_path: Path) -> None:
    folder = builders.tiny(tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    done = report(folder, room=4096)

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "File too large — `rig doctor` checks disk space and permissions. What was recorded is kept" in done.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(("file", "whole", "spoilt", "said"), [
    (records.RUN_FILE, "1000.0", "1e300", "started_at: Input should be less than"),
    (records.RUN_FILE, '"slots": 16', '"slots": 0', "slots: Input should be greater than or equal to 1"),
    (records.RUN_FILE, '"calls": 3', '"calls": 0', "calls: Input should be greater than or equal to 1"),
    (records.RUN_FILE, '"hold": 2.0', '"hold": -1', "hold: Input should be greater than or equal to 0"),
    (records.RUN_FILE, '"idle_timeout": 300.0', '"idle_timeout": NaN', "idle_timeout: Input should be"),
    (records.RUN_FILE, '"versions": {', '"versions": 5, "more": {', "versions is no list of names"),
    (records.TASKS_FILE, '"host":"host",', "", "row: Value error, host: Field required"),
    (records.TASKS_FILE, '"call_seconds":[0.1,0.3]', '"call_seconds":5', "call_seconds: Input should be a valid list"),
    (records.TASKS_FILE, '"first_result_seconds":0.2', '"first_result_seconds":NaN', "should be a finite number"),
    (records.TASKS_FILE, '"parent_pid":1', '"parent_pid":[1]', "parent_pid: Input should be a valid integer")])
def test_a_figure_that_cannot_be_is_said_in_one_line(tmp_path: Path, file: str, whole: str, spoilt: str,
                                                     said: str) -> None:
    folder = builders.tiny(tmp_path)
    text = (folder / file).read_text()
    assert whole in text
    (folder / file).write_text(text.replace(whole, spoilt, 1))
    done = report(folder)

    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr
