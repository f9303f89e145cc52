"""``rig … --stack compose``: the same commands, the same report, on containers."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig import env_file
from rig.metrics import summarise
from tests.compose.deployment import Deployment
from tests.compose.running import of_project
from tests.e2e.rig_command import Rig, a_rig

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]

ON = ("--stack", "compose")
LONG = 600.0        # seconds: the first start may build the image
COMPARED = ("--profile", "quick", "--tasks", "8", "--hold", "0.5", "--patterns", "improved,worker", "--seed", "1")


@pytest.fixture(scope="module")
def rig(deployment: Deployment) -> Iterator[Rig]:
    """Give a rig whose project is the deployment's; compose reads its secrets from the environment."""
    secrets = env_file.values(deployment.dotenv.read_text())
    home = {"DOCKER_CONFIG": os.environ.get("DOCKER_CONFIG", str(Path.home() / ".docker"))}
    ports = {f"RIG_{name}_PORT": "0" for name in ("AIRFLOW", "FLOWER", "NEO4J")}
    settings = {**secrets, **home, **ports, "COMPOSE_PROJECT_NAME": deployment.name, "RIG_SLOTS": "4",
                "AIRFLOW_PROJ_DIR": str(deployment.home)}
    with a_rig(settings=settings) as made:
        yield made


def test_a_missing_secret_is_one_line_and_starts_nothing(rig: Rig) -> None:
    rig.run("up", *ON, NEO4J_PASSWORD="").require_one_line("not set in .env: NEO4J_PASSWORD", "make env")
    assert of_project("container", rig.settings["COMPOSE_PROJECT_NAME"]) == []


def test_what_needs_a_stack_says_that_there_is_none(rig: Rig) -> None:
    for command in (("status",), ("switch", "celery")):
        rig.run(*command, *ON).require_one_line("no stack is running here", "rig up --stack compose")
    rig.run("logs", "neo4j", *ON).require_one_line("there is no service 'neo4j'")
    assert "No stack was running." in rig.run("down", *ON).require().out


def test_up_switch_status_and_logs_do_what_they_do_with_processes(rig: Rig) -> None:
    rig.run("up", *ON, limit=LONG).require()
    shown = json.loads(rig.run("status", "--json", *ON).require().out)
    assert (shown["executor"], shown["relay"], shown["slots"]) == ("LocalExecutor", "none", 4)
    assert all(service["healthy"] for service in shown["services"].values())
    rig.run("up", *ON).require_one_line("is up already", "rig down --stack compose")
    rig.run("switch", "celery", *ON, limit=LONG).require()
    shown = json.loads(rig.run("status", "--json", *ON).require().out)
    assert (shown["executor"], shown["relay"]) == ("CeleryExecutor", "process")
    assert {"redis", "airflow-worker", "flower"} <= set(shown["services"])
    assert "ready" in rig.run("logs", "airflow-worker", *ON).require().out


def test_a_comparison_has_the_same_report_and_puts_the_stack_back(rig: Rig) -> None:
    rig.run("compare", *COMPARED, *ON, limit=LONG).require()
    folder = rig.runs()[-1]
    assert (folder / "report.html").exists()
    summary = summarise(folder)
    assert {(cell.executor, cell.pattern) for cell in summary.cells} >= {
        ("LocalExecutor", "improved"), ("CeleryExecutor", "improved"), ("CeleryExecutor", "worker")}
    for record in rig.dag_runs():
        assert record.state == "success"
        assert record.opened_exact
    assert json.loads(rig.run("status", "--json", *ON).require().out)["executor"] == "CeleryExecutor"


def test_down_keeps_the_volumes_of_the_user(rig: Rig) -> None:
    rig.run("down", *ON).require()
    name = rig.settings["COMPOSE_PROJECT_NAME"]
    assert of_project("container", name) == []
    assert len(of_project("volume", name)) == 3
