"""``rig load`` on the real stack: what it drives, what it shows, what it leaves, and what it says when it cannot."""

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
import neo4j
import pytest

from patterns.facts import STRESS_DAG
from rig.airflow_api import AirflowApi
from rig.load.records import LoadRun, read_runs, read_series, read_test
from rig.load.run import LOCUSTFILE
from rig.probe import USER_AGENT
from rig.stack import ports
from testing.waiting import eventually
from tests.e2e.rig_command import Rig
from tests.rig.builders import agent

pytestmark = pytest.mark.stack

SHORT = ("--tasks", "2", "--hold", "0", "--rate", "0.5", "--time", "6")     # three DAG runs


@pytest.fixture(scope="module")
def api(celery: Rig) -> Iterator[AirflowApi]:
    with celery.api() as made:
        yield made


def last_test(rig: Rig) -> Path:
    return max(path.parent for path in rig.data_dir.glob("*/load.json"))


def summary_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text("utf-8"))
    return found


def entries(folder: Path) -> dict[str, dict[str, str]]:
    """Return Locust's own table, by the entry's name."""
    with (folder / "locust_requests.csv").open(encoding="utf-8") as file:
        return {row["Name"]: row for row in csv.DictReader(file)}


def locusts(rig: Rig) -> list[str]:
    return [" ".join(process.cmdline()) for process in rig.processes() if str(LOCUSTFILE) in process.cmdline()]


# --- what keeps a test from being started -----------------------------------------------------------------------------


def test_a_paused_dag_is_one_line_that_says_how_to_unpause_it(celery: Rig) -> None:
    celery.run("load", "--headless").require_one_line(f"{STRESS_DAG} is paused", "--unpause")


@pytest.mark.parametrize(("arguments", "words"), [
    (["--pattern", "best"], "'best'"), (["--tasks", "0"], "--tasks is 0"), (["--rate", "-1"], "--rate is -1"),
    (["--executor", "local"], "the running stack is on CeleryExecutor")])
def test_what_does_not_go_is_one_line(celery: Rig, arguments: list[str], words: str) -> None:
    celery.run("load", "--headless", "--unpause", *arguments).require_one_line(words)
    assert not list(celery.data_dir.glob("*/load.json"))


def test_a_port_in_use_is_one_line(celery: Rig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        celery.run("load", "--port", port).require_one_line(port, "another program is using it")


def test_an_api_that_is_not_there_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    nobody = ports.choose(0, variable="a test")
    ended = subprocess.run(
        [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--results", str(tmp_path)], timeout=60,
        env={**os.environ, "LOADTEST_AIRFLOW_URL": f"http://127.0.0.1:{nobody}"}, capture_output=True, text=True,
        check=False)
    assert ended.returncode == 2, ended.stderr
    assert re.search(rf"127\.0\.0\.1:{nobody} does not answer .*LOADTEST_AIRFLOW_URL", ended.stderr)
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


# --- a test, to its exit code -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tested(celery: Rig) -> Path:
    """Run a small test that goes well, and return its folder."""
    result = celery.run("load", "--headless", "--unpause", "--pattern", "worker", *SHORT).require()
    assert "3 DAG runs: 3 succeeded, 0 failed" in result.out
    return last_test(celery)


def test_every_run_is_followed_to_its_end_and_its_parts_are_in_order(tested: Path) -> None:
    runs = read_runs(tested)
    assert [(run.state, run.tasks_succeeded) for run in runs] == [("success", 2)] * 3
    assert [round(run.due - runs[0].due, 2) for run in runs] == [0, 2, 4]
    assert all(0 < (run.trigger or 0) < (run.queued or 0) < (run.run or 0) for run in runs)
    assert all(run.late < 0.5 for run in runs)
    assert read_test(tested).clock_step is not None


def test_locust_has_an_entry_for_each_part_and_the_connections_beside_them(tested: Path) -> None:
    found = entries(tested)
    for name in ("trigger", "queued", "run", "task p50", "task max"):
        assert found[name]["Request Count"] == "3", name
    assert found["connections opened"]["Request Count"] == "3"
    assert "<html" in (tested / "locust.html").read_text("utf-8")


def test_the_connections_are_those_of_the_workers_processes(tested: Path) -> None:
    outcome = summary_of(tested)["outcome"]
    assert 1 <= outcome["connections_opened"] <= 4
    assert outcome["connections_left"] == outcome["connections_peak"] == outcome["connections_opened"]
    series = read_series(tested)
    assert series[-1].patterns["worker"].open == outcome["connections_left"]
    assert series[-1].triggered == series[-1].ended == 3
    (worker,) = (series[-1].workers or {}).values()
    assert (worker.drivers, worker.open) == (4, outcome["connections_left"])
    assert series[-1].resources is not None
    assert series[-1].trouble is None


def test_no_secret_is_in_what_a_test_leaves(celery: Rig, tested: Path) -> None:
    secrets = list(celery.state().secrets.model_dump(mode="json").values())
    for path in [*tested.iterdir(), celery.data_dir / ".load.log"]:
        text = path.read_text("utf-8")
        assert not any(secret in text for secret in secrets), path


def test_thresholds_that_are_not_kept_are_exit_code_1_with_two_processes_and_one_probe(
        celery: Rig, tested: Path) -> None:
    running = celery.start("load", "--headless", "--pattern", "improved", "--processes", "2", "--max-run-p95", "0.1",
                           "--max-connections-left", "0", *SHORT, "--time", "10")
    eventually(lambda: last_test(celery) != tested and read_series(last_test(celery))[-1:] and
               read_series(last_test(celery))[-1].triggered, what="no test has begun")
    assert len(probes(celery)) == 1
    assert sum("--processes=2" in one for one in locusts(celery)) == 3
    assert not any(secret in one for one in locusts(celery)
                   for secret in celery.state().secrets.model_dump(mode="json").values())
    result = running.end().require(1)
    assert "the longest DAG run" in result.err
    assert "connections left" not in result.err
    outcome = summary_of(last_test(celery))["outcome"]
    assert (outcome["arrivals"], outcome["succeeded"]) == (5, 5)
    # Each task of this pattern opens its own; one more is this test's, which asked for the probes.
    assert outcome["connections_opened"] == 5 * 2 + 1
    assert {run.run_id.split("-")[2] for run in read_runs(last_test(celery))} == {"0", "1"}
    assert int(entries(last_test(celery))["run"]["Request Count"]) == 5


def test_a_process_that_is_killed_makes_the_test_fail(celery: Rig, api: AirflowApi, tested: Path) -> None:
    before = last_test(celery)
    running = celery.start("load", "--headless", "--processes", "2", "--tasks", "1", "--hold", "0", "--rate", "0.5",
                           "--time", "20")
    eventually(lambda: last_test(celery) != before and read_runs(last_test(celery)), what="no DAG run has ended")
    found = [process for process in celery.processes() if str(LOCUSTFILE) in process.cmdline()]
    youngest = max(found, key=lambda process: process.create_time())
    youngest.kill()
    assert "1 of Locust's 2 processes ended during the test" in running.end(90).require(1).err
    assert locusts(celery) == []
    eventually(lambda: not api.active_runs(), what="the DAG runs that it had in flight do not end")


@pytest.mark.parametrize("killed", ["master", "workers"])
def test_locust_killed_leaves_no_process_and_is_one_line(
        celery: Rig, api: AirflowApi, tested: Path, killed: str) -> None:
    before = last_test(celery)
    running = celery.start("load", "--headless", "--processes", "2", "--tasks", "1", "--hold", "0", "--rate", "0.5",
                           "--time", "60")
    eventually(lambda: last_test(celery) != before and read_runs(last_test(celery)), what="no DAG run has ended")
    found = [process for process in celery.processes() if str(LOCUSTFILE) in process.cmdline()]
    master = min(found, key=lambda process: process.create_time())
    for process in [master] if killed == "master" else [process for process in found if process != master]:
        process.kill()
    said = ("Locust and its workers were stopped from outside (SIGKILL)" if killed == "master" else
            "2 of Locust's 2 processes ended during the test")
    running.end(60).require_one_line(said, code=1)
    assert locusts(celery) == []
    eventually(lambda: not api.active_runs(), what="the DAG runs that they had in flight do not end")


def test_dag_runs_in_progress_are_one_line_since_they_would_be_counted(
        celery: Rig, api: AirflowApi, tested: Path) -> None:
    before = last_test(celery)
    run = api.trigger(STRESS_DAG, {"tasks": 1, "hold": 60})
    celery.run("load", "--headless", "--unpause").require_one_line("in progress", f"{STRESS_DAG}/{run}")
    assert last_test(celery) == before
    api.fail_run(STRESS_DAG, run)


def probes(rig: Rig) -> list[str]:
    """Return the probes at the stack's Neo4j. Asks as a pattern does: a connection of others would be noticed."""
    state = rig.state()
    with neo4j.GraphDatabase.driver(state.neo4j_uri, user_agent=agent(0), auth=(
            state.neo4j_username, state.secrets.neo4j.get_secret_value())) as driver:
        agents = driver.execute_query("CALL dbms.listConnections() YIELD userAgent RETURN userAgent").records
    return [row["userAgent"] for row in agents if (row["userAgent"] or "").startswith(f"{USER_AGENT} (probe=")]


def test_users_of_the_closed_model_have_one_run_each(celery: Rig, tested: Path) -> None:
    celery.run("load", "--headless", "--users", "2", "--time", "4", "--tasks", "1", "--hold", "0").require()
    runs = read_runs(last_test(celery))
    assert len(runs) >= 2
    assert all(sum(overlaps(run, other) for other in runs) <= 2 for run in runs)


def overlaps(run: LoadRun, other: LoadRun) -> bool:
    """Say whether another run was in flight when this one began."""
    return other.due <= run.due < other.due + (other.run or 0)


def test_ctrl_c_ends_it_cleanly_and_leaves_no_run_in_airflow(celery: Rig, api: AirflowApi, tested: Path) -> None:
    running = celery.start("load", "--headless", "--tasks", "2", "--hold", "60", "--rate", "0.5", "--time", "60")
    eventually(lambda: api.active_states(STRESS_DAG).total(), what="no DAG run was started")
    running.send(signal.SIGINT)
    running.end(60).require(130)
    summary = summary_of(last_test(celery))
    assert summary["status"] == "interrupted"
    assert summary["outcome"]["failed"] == 0
    eventually(lambda: not api.active_states(STRESS_DAG), what="its DAG runs go on")
    assert locusts(celery) == []


def test_ctrl_c_before_locust_has_begun_is_no_failure(celery: Rig, tested: Path) -> None:
    running = celery.start("load", "--headless", "--tasks", "1", "--rate", "0.5", "--time", "60")
    eventually(lambda: locusts(celery), what="no Locust is started", every=0.01)
    running.send(signal.SIGINT)
    running.end(60).require(130)
    assert locusts(celery) == []


def test_a_token_that_has_expired_is_renewed(celery: Rig) -> None:
    state = celery.state()
    with celery.api() as api:
        assert api.version()
        assert api.active_states(STRESS_DAG).total() == 0
        claims = jwt.decode(api._access_token, options={"verify_signature": False})
        expired = jwt.encode({**claims, "exp": int(time.time()) - 60}, state.secrets.jwt.get_secret_value(), "HS512")
        refused = httpx.get(f"{api.url}/api/v2/dags", headers={"Authorization": f"Bearer {expired}"}, trust_env=False)
        assert refused.status_code == 401
        api._access_token = expired
        assert STRESS_DAG in api.dag_ids()
        assert api._access_token != expired


# --- the page ---------------------------------------------------------------------------------------------------------


CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome")
                 for folder in os.get_exec_path() if (path := Path(folder) / name).exists()), None)


@contextmanager
def page_of(url: str) -> Iterator[Any]:
    """Open a page in Chromium; an error of a script fails the test."""
    from playwright.sync_api import sync_playwright

    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1500, "height": 1100})
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.set_default_timeout(0)     # pytest's own limit is enough
        page.goto(url)
        yield page
        browser.close()
    assert errors == []


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_user_starts_a_test_on_the_page_and_sees_the_connections(celery: Rig, tested: Path, tmp_path: Path) -> None:
    port = ports.choose(0, variable="a test")
    running = celery.start("load", "--port", str(port))
    running.wait_for(f"http://127.0.0.1:{port}")
    with page_of(f"http://127.0.0.1:{port}") as page:
        page.get_by_label("Pattern (").select_option("improved")
        page.get_by_label("Tasks (").fill("none")
        page.get_by_role("button", name="Start").click()
        page.get_by_text("--tasks is 'none': give a number").wait_for()
        page.get_by_label("Tasks (").fill("2")
        page.get_by_label("Arrival Rate (").fill("0.5")
        page.get_by_label("Duration (").fill("10")
        page.get_by_role("button", name="Start").click()
        page.get_by_role("tab", name="Neo4j connections").click()
        opened = page.get_by_role("row", name="opened since the start").get_by_role("cell")
        eventually(lambda: opened.nth(1).inner_text() not in {"", "0"}, what="the tab shows no connection")
        charts = page.frame_locator("iframe")
        charts.get_by_text(re.compile(r"improved: \d")).first.wait_for()
        eventually(lambda: charts.locator("circle").count() >= 2, what="no DAG run is drawn")
        page.screenshot(path=tmp_path / "tab.png", full_page=True)
        page.get_by_role("button", name="New").wait_for()     # it has ended by itself
        page.goto(f"http://127.0.0.1:{port}/neo4j")
        page.get_by_text("Last test: 5 of 5 DAG runs succeeded").wait_for()
        page.screenshot(path=tmp_path / "page.png", full_page=True)
    print(f"screenshots: {tmp_path}")
    running.send(signal.SIGINT)
    assert "5 DAG runs: 5 succeeded, 0 failed" in running.end(60).require().out
    assert summary_of(last_test(celery))["outcome"]["connections_opened"] == 10


# --- last: these break the stack --------------------------------------------------------------------------------------


def test_a_dag_that_is_missing_is_one_line(celery: Rig, api: AirflowApi, tested: Path) -> None:
    api._send("DELETE", f"/api/v2/dags/{STRESS_DAG}")
    celery.run("load", "--headless").require_one_line(f"there is no DAG {STRESS_DAG}")
    eventually(lambda: STRESS_DAG in api.dag_ids(), what="the DAG does not come back")


def test_an_api_that_goes_away_fails_the_runs_and_the_test_ends_all_the_same(celery: Rig, tested: Path) -> None:
    running = celery.start("load", "--headless", "--unpause", *SHORT, "--time", "12", "--run-limit", "8")
    running.wait_for("DAG runs started")
    server = celery.state().services["airflow-apiserver"].process.pid
    eventually(lambda: read_runs(last_test(celery)), what="no DAG run has ended")
    os.killpg(server, signal.SIGKILL)
    result = running.end(90).require(1)
    assert "ended by itself: airflow-apiserver" in result.out
    assert "DAG runs failed (limit 0%)" in result.err
    assert "does not answer POST" in result.err
    states = {run.state for run in read_runs(last_test(celery))}
    assert "not started" in states
    assert states <= {"success", "unfinished", "not started"}
