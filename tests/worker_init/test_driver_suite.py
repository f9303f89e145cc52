"""The Neo4j driver's own integration tests, through the relay: each ends as it does directly.

They need a checkout of the driver (``make driver-tests CHECKOUT=path``, from github.com/neo4j/neo4j-python-driver).
"""

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from testing.servers import Neo4jServer, Serving, serving

CHECKOUT = "WORKER_INIT_TEST_DRIVER_CHECKOUT"
# What the driver's requirements-dev.txt asks for, of which its integration tests need no more.
_NEEDS = ("pytest==9.2.0", "pytest-asyncio==1.5.0", "pytest-mock==3.17.0", "freezegun==1.5.5", "mock==5.2.0")
# It wants an id that begins with "bolt-": the relay's names its client, so that it cannot be taken for the server's.
DIFFERENT = frozenset(("test_server_connection_id",))


@pytest.fixture(scope="module")
def checkout() -> Path:
    folder = Path(os.environ.get(CHECKOUT, "nowhere"))
    if not (folder / "tests" / "integration").is_dir():
        pytest.skip(f"no checkout of the driver: make driver-tests CHECKOUT=path, or set {CHECKOUT}")
    return folder


class Suite(NamedTuple):
    """A checkout of the driver, and an environment with that driver."""

    checkout: Path
    python: Path


@pytest.fixture(scope="module")
def suite(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Suite:
    folder = tmp_path_factory.mktemp("driver")
    made = folder / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    subprocess.run([sys.executable, "-m", "pip", "--python", made, "install", "--quiet", checkout, *_NEEDS], check=True)
    return Suite(checkout, made)


@pytest.fixture(scope="module")
def relays(server: Neo4jServer, host: Serving,
           tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Serving]]:
    uri = server.uri.replace("bolt:", "neo4j:")
    with serving(tmp_path_factory.mktemp("routed"), uri, server.auth) as routed:
        yield {"bolt": host, "neo4j": routed}


def outcomes(suite: Suite, uri: str, auth: tuple[str, str], report: Path) -> "Counter[str]":
    """Run the tests against a server; count how each ended, those with parameters (drawn at random) together."""
    scheme, _, address = uri.partition("://")
    host, _, port = address.partition(":")
    known = {"HOST": host, "PORT": port, "USER": auth[0], "PASS": auth[1], "SCHEME": scheme, "EDITION": "community",
             "VERSION": "2026.08", "IS_CLUSTER": "false"}
    environment = {**os.environ, **{f"TEST_NEO4J_{name}": value for name, value in known.items()}}
    command = [str(suite.python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore",
               f"--junitxml={report}", "tests/integration"]
    subprocess.run(command, cwd=suite.checkout, env=environment, check=False, capture_output=True)
    cases = ET.parse(report).iter("testcase")  # noqa: S314 - the file is our own
    ended = ((str(case.get("name")).partition("[")[0], next((child.tag for child in case), "passed")) for case in cases)
    return Counter(f"{name} {how}" for name, how in ended if name not in DIFFERENT)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("scheme", ["bolt", "neo4j"])
def test_the_drivers_own_tests_end_as_they_do_directly(scheme: str, suite: Suite, server: Neo4jServer,
                                                       relays: dict[str, Serving], tmp_path: Path) -> None:
    directly, through = (
        outcomes(suite, f"{scheme}://127.0.0.1:{way.port}", way.auth, tmp_path / f"{way.port}.xml")
        for way in (server, relays[scheme]))
    assert sum(count for how, count in directly.items() if how.endswith(" passed")) > 250, directly
    assert through == directly
