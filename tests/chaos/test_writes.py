"""What a task of the chaos suite leaves behind is not noticed by the next one, unless RESET is skipped."""

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from rig.settings import PROJECT
from testing.neo4j_server import StartedNeo4j
from testing.servers import Serving, serving

# As Airflow ends a task's process: what it has open is closed by nobody.
TASK = """
import os, sys
from chaos.writes import store_and_read
print(store_and_read("worker", sys.argv[1], int(sys.argv[2]), 1, 0.0), flush=True)
os._exit(0)
"""
ROWS = "MATCH (row:ChaosRow {run: $run}) RETURN row.task AS task ORDER BY task"
UNCOMMITTED = "MATCH (row:ChaosUncommitted {run: $run}) RETURN count(row) AS count"


def tasks(host: Serving, run: str, number: int) -> list["subprocess.CompletedProcess[str]"]:
    """Run so many tasks one after the other, each in a process of its own on the same driver."""
    environment = {**os.environ, "NEO4J_WORKER_URI": host.uri, "NEO4J_WORKER_USERNAME": host.auth[0],
                   "NEO4J_WORKER_PASSWORD": host.auth[1], "PYTHONPATH": str(PROJECT)}
    return [subprocess.run([sys.executable, "-c", TASK, run, str(task)], env=environment, capture_output=True,
                           text=True, check=False, timeout=120) for task in range(number)]


def test_each_stores_its_row_and_nothing_that_was_not_committed_stays(
        neo4j_server: StartedNeo4j, tmp_path: Path) -> None:
    run, auth = uuid.uuid4().hex, (neo4j_server.username, neo4j_server.password)
    with serving(tmp_path, neo4j_server.uri, auth) as host, host.driver() as driver:
        done = tasks(host, run, 6)
        assert [(one.returncode, one.stderr) for one in done] == [(0, "")] * 6
        assert [record["task"] for record in driver.execute_query(ROWS, run=run).records] == list(range(6))
        assert driver.execute_query(UNCOMMITTED, run=run).records[0]["count"] == 0


def test_without_reset_the_next_task_fails_or_sees_what_nobody_has_committed(
        neo4j_server: StartedNeo4j, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAOS_BUG", "RESET skipped")
    monkeypatch.setenv("PYTHONPATH", str(PROJECT / "chaos" / "bugs"))
    with serving(tmp_path, neo4j_server.uri, (neo4j_server.username, neo4j_server.password)) as host:
        first, second = tasks(host, uuid.uuid4().hex, 2)
    assert first.returncode == 0
    assert second.returncode != 0
    assert "IN_TRANSACTION" in second.stderr or "MixedUpError" in second.stderr
