"""docs/operations.md says what is there: its services, files and variables exist."""

import re

import pytest

from rig.settings import PROJECT
from tests.compose.deployment import CELERY, Deployment

MANUAL = (PROJECT / "docs/operations.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", MANUAL, re.DOTALL)
COMMANDS = [line.split("  #")[0] for block in BLOCKS for line in block.splitlines() if "docker compose" in line]
TAKES_SERVICES = re.compile(r"docker compose (?:[^|;]*? )?(exec(?: -T)?|restart|logs|stop|top) (?P<rest>[^|;<>]*)")


@pytest.fixture(scope="module")
def services(compose_files: Deployment) -> set[str]:
    return set(compose_files.config(CELERY, "*")["services"])


def test_the_manual_names_the_services_that_there_are(services: set[str]) -> None:
    named = set()
    for command in COMMANDS:
        if found := TAKES_SERVICES.search(command):
            words = [word for word in found["rest"].split() if not word.startswith("-")]
            named |= set(words[:1]) if "exec" in found[1] else set(words)
    assert {"airflow-scheduler", "airflow-apiserver", "postgres", "neo4j"} <= named
    assert named <= services


def test_the_manual_has_every_service_in_its_table(services: set[str]) -> None:
    table = MANUAL.split("| service |", 1)[1].split("\n\n", 1)[0]
    assert services - {"airflow-cli"} <= set(re.findall(r"`([a-z0-9-]+)`", table))


def test_the_files_that_the_manual_names_are_there_or_are_made_by_it() -> None:
    made = {"docker-compose.private.yml", "docker-compose.remote.yml"}
    for name in set(re.findall(r"docker-compose\.[a-z.]*yml", MANUAL)) - made:
        assert (PROJECT / name).exists(), name


def test_the_variables_that_the_manual_names_are_explained() -> None:
    example = (PROJECT / ".env.example").read_text()
    for name in set(re.findall(r"\b(?:RIG|NEO4J|AIRFLOW|FLOWER|CELERY|WORKER_INIT)_[A-Z_]+\b", MANUAL)):
        known = re.search(rf"^#? ?{name}=", example, re.MULTILINE)
        assert known or name in {"NEO4J_", "RIG_AIRFLOW_TOKEN", "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT"}
