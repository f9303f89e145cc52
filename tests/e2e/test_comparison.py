"""A comparison from a machine with nothing running to a report: stopped, killed, resumed, completed."""

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from patterns.facts import EXECUTORS
from rig.records import DagRunRecord
from tests.e2e.rig_command import Result, Rig, a_rig

pytestmark = pytest.mark.stack

TINY = ("compare", "--profile", "quick", "--tasks", "6", "--hold", "0.5", "--calls", "2",
        "--executors", "local,celery", "--patterns", "problematic,improved")
# What the ids say is recorded beside the tap's count, so that each is compared with the other.
TAPPED = (*TINY, "--tap")
PATTERNS = ("problematic", "improved")
RAW_FILES = {"run.json", "dag_runs.jsonl", "samples.jsonl", "connections.jsonl", "tasks.jsonl"}
COMPARISON_LIMIT = 420      # seconds


def test_a_start_that_is_terminated_leaves_nothing(rig: Rig) -> None:
    running = rig.start("up")
    running.wait_for("airflow-init: starting")
    assert len(rig.processes()) >= 4
    running.send(signal.SIGTERM)
    result = running.end().require(130)
    assert result.err.strip() == "rig: stopped"
    assert rig.leftovers() == []


@dataclass(frozen=True)
class Ended:
    """How a command of the story ended, and what it left behind."""

    result: Result
    leftovers: list[str]
    runs: list[Path]
    records: list[DagRunRecord]
    summary: dict[str, Any]

    @classmethod
    def of(cls, rig: Rig, result: Result) -> "Ended":
        """Look at what is there now."""
        summary = rig.runs()[-1] / "summary.json"
        return cls(result, rig.leftovers(), rig.runs(), rig.dag_runs(),
                   json.loads(summary.read_text(encoding="utf-8")) if summary.exists() else {})


# --- the story: one folder, one fixture for each thing that happens to it, in this order ------------------------------


@pytest.fixture(scope="module")
def place() -> Iterator[Rig]:
    with a_rig() as made:
        yield made


@pytest.fixture(scope="module")
def killed_start(place: Rig) -> list[psutil.Process]:
    """Kill a `rig up` in the middle; return what it left running."""
    running = place.start("up")
    running.wait_for("airflow-init: starting")
    running.send(signal.SIGKILL)
    running.process.wait()
    return place.processes()


@pytest.fixture(scope="module")
def killed(place: Rig, killed_start: list[psutil.Process]) -> tuple[Result, list[psutil.Process]]:
    """Kill a comparison in the middle of its first DAG run."""
    running = place.start(*TINY)
    running.wait_for("1 of 4: ")
    running.send(signal.SIGKILL)
    return running.end(), place.processes()


@dataclass(frozen=True)
class Interrupted(Ended):
    """A comparison that was stopped, and what ``rig status`` said beside it."""

    status: dict[str, Any] = field(default_factory=dict)


@pytest.fixture(scope="module")
def interrupted(place: Rig, killed: tuple[Result, list[psutil.Process]]) -> Interrupted:
    """Look at its status in the first DAG run of the next comparison, press Ctrl-C in the second."""
    running = place.start(*TAPPED)
    running.wait_for("1 of 4: ")
    # Not waited for: the DAG run may be over sooner, and the executor on its way to the next one.
    status = place.start("status", "--json")
    running.wait_for("2 of 4: ")
    running.send(signal.SIGINT)
    ended = Ended.of(place, running.end())
    return Interrupted(**vars(ended), status=json.loads(status.end().out))


@pytest.fixture(scope="module")
def resumed(place: Rig, interrupted: Ended) -> Ended:
    """Go on with it to its end."""
    return Ended.of(place, place.run("compare", "--resume", interrupted.runs[-1].name, limit=COMPARISON_LIMIT))


def test_a_start_that_is_killed_leaves_processes_that_the_next_comparison_clears(
        killed_start: list[psutil.Process], killed: tuple[Result, list[psutil.Process]]) -> None:
    assert len(killed_start) >= 3
    assert "stack: clearing what an earlier rig left behind" in killed[0].out
    assert not any(process.is_running() for process in killed_start)


def test_a_comparison_that_is_killed_leaves_processes_that_the_next_one_clears(
        killed: tuple[Result, list[psutil.Process]], interrupted: Ended) -> None:
    result, left = killed
    assert result.code == -signal.SIGKILL
    assert len(left) >= 6
    assert "stack: clearing what an earlier rig left behind" in interrupted.result.out
    assert not any(process.is_running() for process in left)


def test_ctrl_c_ends_a_comparison_with_130_and_says_how_to_go_on(interrupted: Ended) -> None:
    interrupted.result.require(130)
    assert f"rig compare --resume {interrupted.runs[-1].name}" in interrupted.result.out


def test_status_beside_a_comparison_is_not_counted_by_it(interrupted: Interrupted) -> None:
    assert interrupted.status["services"]["neo4j"]["healthy"]
    first = interrupted.records[0]
    expected = 12 if first.dag_id == "neo4j_problematic_pattern" else 6
    assert (first.opened, first.opened_exact) == (expected, True)


def test_ctrl_c_leaves_nothing_running(interrupted: Ended) -> None:
    assert interrupted.leftovers == []


def test_ctrl_c_still_writes_the_report_of_what_was_run(interrupted: Ended) -> None:
    assert [record.state for record in interrupted.records] == ["success", "interrupted"]
    assert interrupted.summary["status"] == "interrupted"
    assert [run["state"] for run in interrupted.summary["dag_runs"]] == ["success", "interrupted", "not run", "not run"]
    assert _opened(interrupted.summary["dag_runs"][0]) == _expected(interrupted.summary["dag_runs"][0])


def test_a_resumed_comparison_completes(interrupted: Ended, resumed: Ended) -> None:
    resumed.result.require()
    assert resumed.summary["status"] == "complete"
    assert resumed.runs == interrupted.runs, "no new run was made"
    assert [record.state for record in resumed.records] == ["success"] * 4
    assert resumed.records[0] == interrupted.records[0], "what was run already was not run again"


def test_a_complete_comparison_leaves_nothing_running(resumed: Ended) -> None:
    assert resumed.leftovers == []


def test_the_folder_of_a_run_holds_report_summary_and_raw_files(resumed: Ended) -> None:
    files = {path.name: path.stat().st_size for path in resumed.runs[-1].iterdir()}
    assert set(files) == RAW_FILES | {"summary.json", "report.html"}
    assert min(files.values()) > 0
    assert str(resumed.runs[-1] / "report.html") in resumed.result.out


def test_every_cell_succeeds_with_right_answers_and_nothing_left_open(resumed: Ended) -> None:
    cells = {(cell["executor"], cell["pattern"]): cell for cell in resumed.summary["cells"]}
    assert set(cells) == {(executor, pattern) for executor in EXECUTORS for pattern in PATTERNS}
    for name, cell in cells.items():
        assert (cell["tasks_succeeded"], cell["tasks_wrong"], cell["repeats_measured"]) == (6, 0, 1), name
        assert cell["metrics"]["connections_left_5s"]["median"] == 0, name
        assert cell["metrics"]["connections_left_30s"]["median"] == 0, name
        assert 2 <= cell["concurrency_reached"] <= 4, name


def test_the_connections_opened_are_counted_exactly(resumed: Ended) -> None:
    assert all(record.opened_exact for record in resumed.records)
    assert [(record.counted_by, record.ids_opened) for record in resumed.records] == [
        ("tap", record.opened) for record in resumed.records], "a run that is resumed counts as it began"
    for run in resumed.summary["dag_runs"]:
        assert _opened(run) == _expected(run) == run["figures"]["drivers_created"]
        assert run["figures"]["connections_closed"] == _expected(run)
        assert run["doubts"] == []


def test_the_server_is_sampled_five_times_a_second_or_more(resumed: Ended) -> None:
    for record in resumed.records:
        assert record.probe is not None
        assert record.probe.interval_median is not None
        assert record.probe.interval_median <= 0.2


def test_a_report_that_is_made_again_is_the_same(place: Rig, resumed: Ended) -> None:
    before = {name: (resumed.runs[-1] / name).read_bytes() for name in ("summary.json", "report.html")}
    for name in before:
        (resumed.runs[-1] / name).unlink()
    place.run("report", resumed.runs[-1].name).require()
    assert {name: (resumed.runs[-1] / name).read_bytes() for name in before} == before


def test_the_runs_are_listed_with_their_states(place: Rig, resumed: Ended) -> None:
    listed = [line.split() for line in place.run("runs").require().out.splitlines()[1:]]
    assert [(line[0], line[-1]) for line in listed] == [
        (resumed.runs[0].name, "running"), (resumed.runs[1].name, "complete")]


def test_a_complete_run_cannot_be_resumed(place: Rig, resumed: Ended) -> None:
    place.run("compare", "--resume", resumed.runs[-1].name).require_one_line("is complete", "`rig report`")


def _opened(run: dict[str, Any]) -> int:
    return int(run["figures"]["connections_opened"])


def _expected(run: dict[str, Any]) -> int:
    return 12 if run["pattern"] == "problematic" else 6
