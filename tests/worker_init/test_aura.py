"""What docs/how-to/aura.md says, tried on a Neo4j that is reached as Aura is."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from neo4j import GraphDatabase
from neo4j.exceptions import Neo4jError, ServiceUnavailable
from pydantic import SecretStr

from patterns.identity import Identity, user_agent
from rig.errors import BadInput
from rig.probe import Probe, Server
from rig.stack import neo4j, ports
from testing import aura
from testing.aura import Instance
from testing.servers import Neo4jServer, serving
from testing.waiting import wait_until
from testing.workers import CHECKOUT, celery_worker
from tests.server_marks import starts

GUIDE = (CHECKOUT / "docs" / "how-to" / "aura.md").read_text(encoding="utf-8")

# The command, with an instance that is stopped while Ctrl-C comes a second time.
INTERRUPTED_TWICE = """
import signal, sys
from contextlib import contextmanager
from testing import aura

@contextmanager
def instance(folder):
    try:
        {starting}
        yield aura.Instance("neo4j+s://localhost:1", "a-password", folder)
    finally:
        signal.raise_signal(signal.SIGINT)
        print("it was stopped")

aura.instance = instance
aura.signal.pause = lambda: signal.raise_signal(signal.SIGINT)
sys.exit(aura.main())
"""


@pytest.fixture(scope="module")
@starts("neo4j")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with aura.instance(tmp_path_factory.mktemp("aura")) as running:
        yield running


@pytest.fixture
def trusted(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> Neo4jServer:
    """Return the instance for a machine that trusts its certificate."""
    monkeypatch.setenv("SSL_CERT_FILE", str(instance.certificate))
    return Neo4jServer(instance.uri, instance.username, instance.password)


@pytest.mark.parametrize("starting", ["pass", "signal.raise_signal(signal.SIGTERM)"])
def test_a_second_ctrl_c_leaves_nothing_behind(starting: str, tmp_path: Path) -> None:
    file, folders = tmp_path / "variables", tmp_path / "folders"
    folders.mkdir()
    ended = subprocess.run([sys.executable, "-c", INTERRUPTED_TWICE.format(starting=starting), file], cwd=CHECKOUT,
                           env={**os.environ, "TMPDIR": str(folders)}, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr, ended.stdout.splitlines()[-1]) == (0, "", "it was stopped")
    assert not file.exists()
    assert not [*folders.iterdir()]


def test_tasks_of_a_celery_worker_share_drivers(trusted: Neo4jServer, redis: str, tmp_path: Path, folder: Path) -> None:
    with celery_worker(trusted, redis, tmp_path, folder, "--concurrency", "2") as worker:
        assert {driver["state"] for driver in worker.drivers()} == {"new"}
        worker.run(worker.tasks.plain, list(range(8)))
        assert "up" in {driver["state"] for driver in worker.drivers()}
        assert {driver["upstream"] for driver in worker.drivers()} == {trusted.uri}


def test_a_driver_host_beside_local_executor_serves(trusted: Neo4jServer, folder: Path) -> None:
    with serving(folder, trusted.uri, trusted.auth) as host, host.driver() as driver:
        assert driver.execute_query("RETURN 1 AS one").records[0]["one"] == 1


def test_the_rig_takes_it(trusted: Neo4jServer) -> None:
    assert "community" in neo4j.require(trusted.uri, *trusted.auth, "neo4j")


def test_the_rig_counts_what_a_sample_sees(trusted: Neo4jServer) -> None:
    server = Server(trusted.uri, trusted.username, SecretStr(trusted.password), alone=False)
    agent = user_agent(Identity.of_this_process("problematic", "root"))
    with (closing(Probe(server, interval=0.05)) as probe, probe.window(0, lambda _: None) as window,
          trusted.driver(user_agent=agent) as driver):
        driver.verify_connectivity()
        wait_until(lambda: window.connections, "a sample saw the connection")
    assert (window.trouble, window.opened.exact) == (None, False)
    assert window.opened.count


@pytest.mark.parametrize(("change", "said"), [
    ({"username": "mallory"}, ("Neo.ClientError.Security.Unauthorized", "refuses the user")),     # not locked out then
    ({"uri": "neo4j+s://127.0.0.1:{closed}"}, ("Connect call failed", "cannot be reached")),
    ({"uri": "neo4j://localhost:{port}"}, ("closed with incomplete handshake response",) * 2),
    ({"certificate": "/dev/null"}, ("SSLCertVerificationError", "SSLCertVerificationError")),
    ({"database": "nowhere"}, ("DatabaseNotFound", "refuses the query"))])
def test_each_trouble_is_said_in_the_words_of_the_guide(
        trusted: Neo4jServer, folder: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, str],
        said: tuple[str, str]) -> None:
    worker_says, rig_says = said
    closed = ports.choose(0, variable="a test")
    given = {"uri": trusted.uri, "username": trusted.username, "database": "neo4j"} | change
    uri = given["uri"].format(port=trusted.port, closed=closed)
    auth = (given["username"], trusted.password)
    if "certificate" in change:
        monkeypatch.setenv("SSL_CERT_FILE", change["certificate"])

    assert f"`{worker_says}" in GUIDE
    assert f"`{rig_says}`" in GUIDE
    with serving(folder, uri, auth) as host, host.driver() as driver, driver.session(
            database=given["database"]) as session, pytest.raises(Neo4jError, match=worker_says):
        session.run("RETURN 1").consume()
    with pytest.raises(BadInput, match=rig_says) as refused:
        neo4j.require(uri, *auth, given["database"])
    assert "\n" not in str(refused.value)


@pytest.mark.host
def test_a_client_that_routes_drops_the_reason_and_the_log_has_it(folder: Path) -> None:
    closed, says = ports.choose(0, variable="a test"), "Unable to retrieve routing information"
    with serving(folder, f"neo4j+s://127.0.0.1:{closed}", ("neo4j", "a-password")) as host:
        routed = host.uri.replace("bolt://", "neo4j://")
        with GraphDatabase.driver(routed, auth=host.auth) as driver, pytest.raises(ServiceUnavailable, match=says):
            driver.verify_connectivity()
        wait_until(lambda: "Connect call failed" in (folder / "host.log").read_text(), "the log has the reason")
    assert f"ServiceUnavailable: {says}" in " ".join(GUIDE.split())


@pytest.mark.parametrize(("change", "said"), [
    ({"NEO4J_USERNAME": "mallory"}, "refuses the user 'mallory': The client is unauthorized"),
    ({"NEO4J_DATABASE": "nowhere"}, "has no answer from the database 'nowhere'"),
    ({"SSL_CERT_FILE": "/dev/null"}, "check the address; if that is right, build an image with the"),
    ({"NEO4J_URI": "neo4j+s://nowhere.invalid"}, "cannot be reached from the containers")])
def test_the_containers_say_it_in_one_line_too(instance: Instance, change: dict[str, str], said: str) -> None:
    answer = subprocess.run([sys.executable, CHECKOUT / "docker" / "check-neo4j"], text=True, capture_output=True,
                            check=False, cwd=CHECKOUT, env=instance.variables | {"PATH": "/usr/bin"} | change)

    assert (answer.returncode, answer.stdout) == (1, "")
    assert said in answer.stderr
    assert answer.stderr.startswith("ERROR!!!: ")
    assert answer.stderr.count("\n") == 1
    assert instance.password not in answer.stderr


def test_a_file_that_cannot_be_written_is_refused_before_anything_starts(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in (tmp_path, tmp_path / "not-there" / "aura.env"):
        with pytest.raises(SystemExit, match="2"):
            aura.main([str(file)])
        answer = capsys.readouterr()
        assert answer.out == ""
        assert answer.err.splitlines()[-1].startswith(f"python -m testing.aura: error: {file} cannot be written: ")
