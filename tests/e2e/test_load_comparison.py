"""``rig compare-load`` from a machine with nothing running to a report, stopped in the middle and continued."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from rig.load.records import read_comparison, read_test, read_tests
from rig.records import TESTS_FILE
from tests.e2e.rig_command import Rig
from tests.rig import builders

pytestmark = pytest.mark.stack


def comparison(rig: Rig) -> Path:
    (folder,) = (path.parent for path in rig.data_dir.glob("*/comparison.json"))
    return folder


def test_it_finds_a_rate_holds_it_and_goes_on_where_it_was_stopped(rig: Rig) -> None:
    running = rig.start("compare-load", "--executors", "local", "--patterns", "improved", "--rate", "0.2",
                        "--steps", "1", "--step-time", "10", "--held-time", "10", "--repeats", "1",
                        "--saturated-time", "10", "--tasks", "2", "--hold", "0")
    running.wait_for("0.2 per second, held")
    running.send(signal.SIGINT)
    stopped = running.end().require(130)
    folder = comparison(rig)
    assert f"--resume {folder.name}" in stopped.out
    found, loop = read_tests(folder)
    assert (found.phase, found.held) == ("knee", 0.2)
    assert (loop.phase, loop.held) == ("saturated", None)
    assert read_test(folder / loop.folder).load.users == 16
    assert rig.leftovers() == []

    # What so short a loop reaches depends on the machine, and may be nothing: then there is nothing to drive 80 % of.
    builders.rewrite(folder / TESTS_FILE, [found, loop.model_copy(update={"throughput": 0.25})])
    rig.run("compare-load", "--resume", folder.name).require()
    assert read_comparison(folder).status == "complete"
    assert [test.phase for test in read_tests(folder)] == ["knee", "saturated", "held", "below"]
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text("utf-8"))
    (cell,) = summary["cells"]
    for phase in ("held", "below"):
        test = cell[phase]
        assert (test["rate"], test["arrivals"], test["succeeded"], test["connections_opened"]) == (0.2, 2, 2, 4), phase
    assert "DAG runs per second that hold: LocalExecutor 0.2." in (folder / "report.html").read_text("utf-8")
    rig.run("compare-load", "--resume", folder.name).require_one_line("is complete")
    assert rig.leftovers() == []
