"""The oldest driver that is supported, in an environment of its own, at either end.

As a client of Bolt 5.8 through a worker whose driver speaks 6.x, and as the worker's own.
"""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import neo4j
import pytest

from tests.worker_init.servers import Neo4jServer, Serving, serving
from worker_init.control import find_folders, read_status

pytestmark = pytest.mark.neo4j
_CHECKOUT = Path(__file__).resolve().parents[2]
_OLDER = "5.28.2"
_BOLT_OF_DRIVERS = {"5.28.2": "5 8", "6.0.3": "6 0", "6.4.1": "6 1"}
_SHOW = """
import json, sys, neo4j
from tests.worker_init.probes import PROBES, Way
uri, user, password = sys.argv[1:]
with neo4j.GraphDatabase.driver(uri, auth=(user, password)) as driver:
    way = Way(uri, (user, password), driver)
    print(json.dumps({probe.__name__: repr(probe(way)) for probe in PROBES}))
"""


@pytest.fixture(scope="module")
def older_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return an interpreter with the older driver: ``WORKER_INIT_TEST_OLDER_PYTHON``, or a new one."""
    if python := os.environ.get("WORKER_INIT_TEST_OLDER_PYTHON"):
        return python
    folder = tmp_path_factory.mktemp("older")
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", f"neo4j=={_OLDER}"], check=True)
    return python


def seen(python: str, uri: str, auth: tuple[str, str]) -> dict[str, str]:
    shown = subprocess.run([python, "-c", _SHOW, uri, *auth], capture_output=True, text=True, check=False,
                           env={**os.environ, "PYTHONPATH": str(_CHECKOUT)})
    assert shown.returncode == 0, shown.stderr
    probes: dict[str, str] = json.loads(shown.stdout)
    return probes


def test_an_older_driver_sees_no_difference(older_python: str, server: Neo4jServer, host: Serving) -> None:
    assert seen(older_python, host.uri, server.auth) == seen(older_python, server.uri, server.auth)


def test_a_host_with_an_older_driver_makes_no_difference(older_python: str, server: Neo4jServer,
                                                         tmp_path: Path) -> None:
    """With routing, which uses the most of what is not public in a driver."""
    with serving(tmp_path, server.uri.replace("bolt:", "neo4j:"), server.auth, python=older_python) as host:
        status = read_status(find_folders(tmp_path)[0], 5.0)
        through, directly = (seen(older_python, uri, server.auth) for uri in (host.uri, server.uri))
    assert status["neo4j_driver"] == _OLDER
    # Where a database is missing, a driver that routes learns so from another message.
    assert through | {"databases": ""} == directly | {"databases": ""}


def test_both_are_the_versions_they_should_be(older_python: str, server: Neo4jServer, host: Serving) -> None:
    ask = ("import sys, neo4j; driver = neo4j.GraphDatabase.driver(sys.argv[1], auth=tuple(sys.argv[2:]));"
           "print(*driver.get_server_info().protocol_version)")
    shown = [subprocess.run([python, "-c", ask, host.uri, *server.auth], capture_output=True, text=True, check=True)
             for python in (older_python, sys.executable)]
    assert [run.stdout.strip() for run in shown] == ["5 8", _BOLT_OF_DRIVERS[neo4j.__version__]]
