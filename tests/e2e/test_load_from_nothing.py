"""``rig load`` on a machine with nothing running, and its page used by a script: it takes down all that it started."""

import signal

import httpx
import pytest

from rig.load.records import read_runs
from rig.stack import ports
from testing.waiting import eventually
from tests.e2e.rig_command import Rig

pytestmark = pytest.mark.stack


def test_the_page_of_two_processes_starts_a_test_and_ctrl_c_takes_everything_down(rig: Rig) -> None:
    port = ports.choose(0, variable="a test")
    page = f"http://127.0.0.1:{port}"
    running = rig.start("load", "--port", str(port), "--processes", "2")
    running.wait_for(page)
    assert rig.state().executor == "LocalExecutor"
    with httpx.Client(base_url=page, trust_env=False) as client:
        eventually(lambda: len(client.get("/stats/requests").json()["workers"]) == 2, what="no two processes joined")
        started = client.post("/swarm", data={
            "user_count": 1, "spawn_rate": 1, "pattern": "improved", "tasks": 1, "hold": 0, "arrival_rate": 0.5,
            "duration": 8}).json()
        assert started["success"], started
        summary = eventually(lambda: client.get("/neo4j/data").json()["summary"], limit=90,
                             what="the test does not end by itself")
        assert (summary["outcome"]["arrivals"], summary["outcome"]["succeeded"]) == (4, 4)
    (folder,) = (path.parent for path in rig.data_dir.glob("*/load.json"))
    assert {run.run_id.split("-")[2] for run in read_runs(folder)} == {"0", "1"}    # each process started some
    running.send(signal.SIGINT)
    said = running.end(90).require().out
    assert "4 DAG runs: 4 succeeded, 0 failed" in said
    assert "connections: 4 opened" in said
    assert rig.leftovers() == []

