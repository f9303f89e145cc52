"""What does not allow a start is said in one line, and nothing is started."""

import socket
from collections.abc import Iterator

import pytest

from rig.stack import ports
from testing.neo4j_server import StartedNeo4j
from tests.e2e.rig_command import Rig


@pytest.fixture(autouse=True)
def _nothing_is_started(rig: Rig) -> Iterator[None]:
    yield
    assert rig.leftovers() == []


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield int(taken.getsockname()[1])


def test_status_without_a_stack_says_how_to_start_one(rig: Rig) -> None:
    rig.run("status").require_one_line("no stack is running", "`rig up`")


def test_status_as_json_without_a_stack_prints_no_json(rig: Rig) -> None:
    result = rig.run("status", "--json")
    result.require_one_line("no stack is running")
    assert not result.out


def test_switch_without_a_stack_is_refused(rig: Rig) -> None:
    rig.run("switch", "celery").require_one_line("no stack is running")


def test_dag_without_a_stack_is_refused(rig: Rig) -> None:
    rig.run("dag", "neo4j_improved_pattern").require_one_line("no stack is running")


def test_logs_without_a_stack_are_not_there(rig: Rig) -> None:
    rig.run("logs", "neo4j").require_one_line("'neo4j'")


def test_down_without_a_stack_is_no_error_however_often(rig: Rig) -> None:
    for _ in range(2):
        assert rig.run("down").require().out.strip() == "No stack was running."


def test_runs_of_an_empty_folder_are_none(rig: Rig) -> None:
    assert "no runs yet" in rig.run("runs").require().out


def test_a_report_of_no_run_is_refused(rig: Rig) -> None:
    rig.run("report", "latest").require_one_line("there is no run 'latest'")


def test_resuming_a_run_that_is_not_there_is_refused(rig: Rig) -> None:
    rig.run("compare", "--resume", "20200101-000000-quick").require_one_line("there is no run '20200101-000000-quick'")


@pytest.mark.parametrize("command", ["up", "compare"])
def test_a_port_in_use_is_named_with_its_setting(rig: Rig, taken_port: int, command: str) -> None:
    rig.run(command, RIG_AIRFLOW_PORT=str(taken_port)).require_one_line(
        f"port {taken_port}", "another program is using it", "RIG_AIRFLOW_PORT")


@pytest.mark.parametrize("command", ["up", "compare", "down"])
def test_a_folder_that_cannot_be_made_is_named_with_its_setting(rig: Rig, command: str) -> None:
    file = rig.home / "a-file"
    file.touch()
    rig.run(command, RIG_DATA_DIR=str(file / "data")).require_one_line(
        str(file / "data"), "cannot be written", "RIG_DATA_DIR")


def test_a_setting_that_makes_no_sense_is_named(rig: Rig) -> None:
    rig.run("status", RIG_SLOTS="many").require_one_line("RIG_SLOTS", ".env.example")


def test_a_first_download_without_a_network_is_said_in_one_line(rig: Rig) -> None:
    nowhere = f"http://127.0.0.1:{ports.choose(0, variable='a test')}"
    rig.run("up", RIG_CACHE_DIR=str(rig.home / "empty"), HTTPS_PROXY=nowhere, https_proxy=nowhere).require_one_line(
        "could not be downloaded", "`rig doctor`", code=1)


def test_the_doctor_says_that_the_download_cannot_be_reached(rig: Rig) -> None:
    nowhere = f"http://127.0.0.1:{ports.choose(0, variable='a test')}"
    result = rig.run("doctor", RIG_CACHE_DIR=str(rig.home / "empty"), HTTPS_PROXY=nowhere, https_proxy=nowhere)
    assert "cannot be reached" in " ".join(result.require(1).out.split())


@pytest.mark.parametrize("command", ["up", "compare"])
def test_a_neo4j_that_cannot_be_reached_is_named(rig: Rig, command: str) -> None:
    uri = f"bolt://127.0.0.1:{ports.choose(0, variable='a test')}"
    rig.run(command, NEO4J_URI=uri, NEO4J_PASSWORD="anything").require_one_line(uri, "cannot be reached", "NEO4J_URI")


def test_a_tap_at_a_routed_address_is_refused(rig: Rig) -> None:
    line = rig.run("compare", "--tap", NEO4J_URI="neo4j://db.example", NEO4J_PASSWORD="anything").require_one_line(
        "--tap cannot count at a neo4j:// address", "bolt in place of neo4j")
    assert "anything" not in line


def test_a_neo4j_without_a_password_is_refused(rig: Rig) -> None:
    rig.run("up", NEO4J_URI="bolt://127.0.0.1:7687").require_one_line("NEO4J_PASSWORD")


def test_a_wrong_password_of_neo4j_is_said_and_not_shown(rig: Rig, neo4j_server: StartedNeo4j) -> None:
    line = rig.run("compare", NEO4J_URI=neo4j_server.uri, NEO4J_PASSWORD="not-the-password").require_one_line(
        neo4j_server.uri, "refuses the user 'neo4j'", "NEO4J_PASSWORD")
    assert "not-the-password" not in line


def test_a_database_that_neo4j_does_not_have_is_named(rig: Rig, neo4j_server: StartedNeo4j) -> None:
    rig.run("up", NEO4J_URI=neo4j_server.uri, NEO4J_PASSWORD=neo4j_server.password,
            NEO4J_DATABASE="nowhere").require_one_line("nowhere", "NEO4J_DATABASE")
