"""What ``rig`` says where a stack of containers, or an existing deployment, cannot be used. Nothing is started."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig import cli
from rig.env_file import SECRETS
from tests.e2e.rig_command import Rig, a_rig

URL = "http://127.0.0.1:9"


@pytest.fixture
def rig() -> Iterator[Rig]:
    with a_rig() as made:
        yield made
        assert made.leftovers() == []


def test_a_stack_that_is_none_is_named(rig: Rig) -> None:
    rig.run("status", "--stack", "helm").require_one_line("there is no stack 'helm'", "native or compose")


@pytest.mark.parametrize("command", [("up",), ("compare", "--profile", "quick")])
def test_without_docker_the_stack_of_containers_says_so(rig: Rig, command: tuple[str, ...]) -> None:
    rig.run(*command, "--stack", "compose", PATH=str(rig.home)).require_one_line("there is no docker command")


def test_an_old_compose_is_named_with_the_version_that_is_needed(rig: Rig) -> None:
    rig.run("up", "--stack", "compose", PATH=program(rig.home, "echo 2.3.4")).require_one_line(
        "docker compose is 2.3.4: expected 2.24 or newer", "update Docker's compose plugin")


def test_an_engine_that_does_not_answer_is_said(rig: Rig) -> None:
    script = 'case $1 in compose) echo 2.40.3 ;; *) echo "Cannot connect to the Docker daemon" >&2; exit 1 ;; esac'
    rig.run("up", "--stack", "compose", PATH=program(rig.home, script)).require_one_line(
        "no Docker engine answers: Cannot connect to the Docker daemon", "start Docker")


def test_all_secrets_that_are_missing_are_one_line(rig: Rig) -> None:
    path = program(rig.home, 'case $2 in version) echo 2.40.3 ;; *) echo 20.10 ;; esac')
    rig.settings.update(dict.fromkeys(SECRETS, ""), PATH=path)
    rig.run("up", "--executor", "celery", "--stack", "compose").require_one_line(*SECRETS, "`make env` writes them")


def program(folder: Path, script: str) -> str:
    """Make a ``docker`` that does no more than this; return the PATH on which it is the only one."""
    path = folder / "bin" / "docker"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path.parent)


# --- an existing deployment ----------------------------------------------------------------------------------------


def test_an_existing_deployment_wants_a_token(rig: Rig) -> None:
    rig.run("compare", "--airflow-url", URL, "--executors", "local").require_one_line(
        "needs a token", "RIG_AIRFLOW_TOKEN")


def test_an_existing_deployment_has_one_executor(rig: Rig) -> None:
    rig.run("compare", "--airflow-url", URL, "--token", "x").require_one_line(
        "has one executor", "--executors local or celery")


def test_an_existing_deployments_workers_are_not_changed_and_so_have_to_be_named(rig: Rig) -> None:
    rig.run("compare", "--airflow-url", URL, "--token", "x", "--executors", "celery").require_one_line(
        "workers of an existing deployment are as they are", "--relays none, process or shared")


def test_an_existing_deployments_neo4j_has_to_be_named(rig: Rig) -> None:
    rig.run("compare", "--airflow-url", URL, "--token", "x", "--executors", "local", "--patterns",
            "improved").require_one_line("it is not known which Neo4j the deployment uses", "set NEO4J_URI")


def test_an_existing_deployment_that_does_not_answer_is_one_line(rig: Rig) -> None:
    rig.run("compare", "--airflow-url", URL, "--token", "x", "--executors", "celery", "--relays", "process",
            NEO4J_URI="bolt://db", NEO4J_PASSWORD="a-password").require_one_line(
                f"Airflow at {URL} does not answer", code=1)


@pytest.mark.parametrize("words", [["--token", "s3cret"], ["--token=s3cret"]])
def test_a_token_is_not_written_into_the_record(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["rig", "compare", *words, "--seed", "1"])
    assert "s3cret" not in cli.command_line()
    assert cli.command_line().endswith("--seed 1")
