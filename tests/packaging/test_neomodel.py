"""The example for neomodel, in an environment of its own: neomodel asks for an older driver than this project's."""

import shutil
from pathlib import Path

import pytest

from rig.settings import PROJECT
from testing.neo4j_server import StartedNeo4j
from testing.servers import serving
from tests.packaging.distributions import Environment, run
from worker_init.control import find_folders, read_status

pytestmark = pytest.mark.neo4j


@pytest.fixture
def environment(wheels: dict[str, Path], tmp_path: Path) -> Environment:
    """Return an environment with the wheel, and neomodel in the locked versions."""
    made = Environment(tmp_path / "environment")
    made.pip("install", "--quiet", "--no-deps", "--require-hashes", "-r", PROJECT / "requirements" / "neomodel.txt")
    made.install(wheels["worker_init"])
    return made


def test_the_second_tasks_process_finds_the_connection_of_the_first(
        environment: Environment, neo4j_server: StartedNeo4j, tmp_path: Path) -> None:
    shutil.copy(PROJECT / "examples" / "neomodel_people.py", tmp_path)
    opened = []
    with serving(tmp_path / "host", neo4j_server.uri, (neo4j_server.username, neo4j_server.password)) as host:
        (folder,) = find_folders(host.folder)
        user, password = host.auth
        for name, people in (("Ada", 1), ("Grace", 2)):
            task = run(environment.python, "-c", f"import sys; sys.path.append({str(tmp_path)!r}); "
                       f"import neomodel_people; print(neomodel_people.remember({name!r}))",
                       NEO4J_WORKER_URI=host.uri, NEO4J_WORKER_USERNAME=user, NEO4J_WORKER_PASSWORD=password)
            assert task.stdout.split() == [str(people)], task.stderr
            (driver,) = read_status(folder, 5.0)["drivers"]
            opened.append(driver["connections"]["opened"])
    assert driver["clients"]["total"] == 2
    assert opened[0] == opened[1] > 0
