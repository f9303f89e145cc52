"""The rig's own Neo4j: it serves when its check says so, with its own password, on loopback, over Bolt alone."""

import re
import socket
import stat
import threading
import time
from pathlib import Path

import neo4j
import pytest
from neo4j.exceptions import AuthError

from rig.errors import BadInput, Hung, ServiceDied
from rig.stack import neo4j as neo4j_service
from rig.stack import neo4j_jars, processes
from rig.stack.ports import choose
from rig.stack.service import Service
from testing.neo4j_server import StartedNeo4j
from tests.rig import kernel_sockets

PASSWORD = "correct-horse"

pytestmark = pytest.mark.neo4j


def service(folder: Path, port: int, password: str) -> Service:
    return neo4j_service.service(folder, folder, port, heap="512m", password=password, env={})


def query(server: StartedNeo4j, password: str) -> int:
    with neo4j.GraphDatabase.driver(server.uri, auth=("neo4j", password)) as driver:
        return int(driver.execute_query("RETURN 1 AS one").records[0]["one"])


def refusal(uri: str, username: str = "neo4j", password: str = PASSWORD, database: str = "neo4j") -> str:
    """Return the one line with which the rig refuses a server."""
    with pytest.raises(BadInput) as caught:
        neo4j_service.require(uri, username, password, database)
    line = str(caught.value)
    assert caught.value.exit_code == 2
    assert "\n" not in line
    assert password not in line
    return line


# --- a server of our own ---------------------------------------------------------------------------


def test_it_does_not_serve_before_it_is_started(tmp_path: Path) -> None:
    reason = service(tmp_path, choose(0, variable="a test"), PASSWORD).check()
    assert reason
    assert "refused" in reason
    assert "\n" not in reason


def test_one_that_ends_instead_of_serving_says_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ServiceDied) as caught:
        StartedNeo4j(tmp_path, taken.getsockname()[1], PASSWORD).start()
    assert "neo4j has ended instead of serving" in str(caught.value)
    assert "in use" in caught.value.detail


def test_one_that_does_not_serve_in_time_is_stopped_again(tmp_path: Path) -> None:
    server = StartedNeo4j(tmp_path, choose(0, variable="a test"), PASSWORD, start_within=0)
    with pytest.raises(Hung, match=r"neo4j does not serve after 0 s: .* refused"):
        server.start()
    assert (server.process, list(processes.marked(str(tmp_path)))) == (None, [])


def test_its_check_is_content_and_it_answers_with_its_password(neo4j_server: StartedNeo4j, tmp_path: Path) -> None:
    assert service(tmp_path, neo4j_server.port, neo4j_server.password).check() is None
    assert query(neo4j_server, neo4j_server.password) == 1


def test_the_password_that_every_new_server_has_no_longer_works(neo4j_server: StartedNeo4j) -> None:
    with pytest.raises(AuthError):
        query(neo4j_server, neo4j_service.FIRST_PASSWORD)
    assert query(neo4j_server, neo4j_server.password) == 1


def test_the_check_does_not_take_over_a_server_that_has_another_password(
        neo4j_server: StartedNeo4j, tmp_path: Path) -> None:
    reason = service(tmp_path, neo4j_server.port, "another-password").check()
    assert reason
    assert "unauthorized" in reason
    assert query(neo4j_server, neo4j_server.password) == 1


def test_nothing_listens_but_bolt_and_only_on_loopback(neo4j_server: StartedNeo4j) -> None:
    assert neo4j_server.process
    # UDP too: since 2026.08 a server announces itself on every private network, such as that of Docker's bridge.
    assert kernel_sockets.listening(neo4j_server.process) == {("127.0.0.1", neo4j_server.port)}


def test_its_start_mentions_no_broadcast_and_no_setting_that_is_deprecated(neo4j_server: StartedNeo4j) -> None:
    log = (neo4j_server.folder / "neo4j.log").read_text(encoding="utf-8")
    assert "Started." in log
    assert not re.findall(r".*(?:broadcast|Fleet Manager|deprecated).*", log)


def test_its_password_is_where_nobody_can_read_it(neo4j_server: StartedNeo4j, tmp_path: Path) -> None:
    assert neo4j_server.process
    assert neo4j_server.password not in kernel_sockets.arguments(neo4j_server.process)
    one = service(tmp_path, neo4j_server.port, neo4j_server.password)
    assert neo4j_server.password not in f"{one!r} {one.url}"
    conf = neo4j_server.folder / "conf" / "neo4j.conf"
    assert stat.S_IMODE(conf.stat().st_mode) == 0o600
    texts = [conf, neo4j_server.folder / "neo4j.log", *neo4j_server.folder.glob("logs/*")]
    assert not [path for path in texts if path.is_file() and neo4j_server.password.encode() in path.read_bytes()]


def test_it_is_found_by_the_mark_of_its_stack(neo4j_server: StartedNeo4j) -> None:
    assert neo4j_server.process
    assert [process.pid for process in processes.marked(str(neo4j_server.folder))] == [neo4j_server.process.pid]


def test_it_reports_to_nobody(neo4j_server: StartedNeo4j) -> None:
    off = {"dbms.usage_report.enabled", "dbms.fleet_manager.enabled", "server.fleet_discovery.enabled",
           "server.http.enabled", "server.https.enabled"}
    with neo4j.GraphDatabase.driver(neo4j_server.uri, auth=("neo4j", neo4j_server.password)) as driver:
        rows = driver.execute_query("SHOW SETTINGS YIELD name, value WHERE name IN $names RETURN name, value",
                                    names=sorted(off))
    assert {row["name"]: row["value"] for row in rows.records} == dict.fromkeys(off, "false")


# --- a server of the user's own --------------------------------------------------------------------


def test_its_version_is_the_locked_one(neo4j_server: StartedNeo4j) -> None:
    assert neo4j_service.require(neo4j_server.uri, "neo4j", neo4j_server.password, "neo4j") == (
        f"{neo4j_jars.version()} community")


def test_a_wrong_user_or_password_names_their_variables(neo4j_server: StartedNeo4j) -> None:
    # An unknown name: the server would lock the right one out for a while.
    line = refusal(neo4j_server.uri, "mallory")
    assert "refuses the user 'mallory': " in line
    assert line.endswith("check NEO4J_USERNAME and NEO4J_PASSWORD")


def test_a_database_that_is_not_there_names_its_variable(neo4j_server: StartedNeo4j) -> None:
    line = refusal(neo4j_server.uri, password=neo4j_server.password, database="nowhere")
    assert "nowhere" in line
    assert line.endswith("check NEO4J_DATABASE")


@pytest.mark.parametrize("scheme", ["bolt", "neo4j", "neo4j+s"])
def test_nothing_at_the_address_says_why_and_names_its_variable(scheme: str) -> None:
    uri = f"{scheme}://127.0.0.1:{choose(0, variable='a test')}"
    line = refusal(uri)
    assert line.startswith(f"Neo4j at {uri} cannot be reached: ")
    assert line.count("Connection refused") == 1
    assert "check NEO4J_URI" in line


@pytest.mark.parametrize("scheme", ["bolt", "neo4j"])
def test_a_name_that_nobody_knows_is_one_line(scheme: str) -> None:
    assert "check NEO4J_URI" in refusal(f"{scheme}://no-such-host.invalid")


def test_a_server_without_tls_that_is_asked_for_it_is_one_line(neo4j_server: StartedNeo4j) -> None:
    assert "check NEO4J_URI" in refusal(neo4j_server.uri.replace("bolt:", "bolt+s:"))


def test_a_server_that_is_none_of_neo4js_is_one_line() -> None:
    def answer() -> None:
        client, _ = web.accept()
        with client:
            client.recv(1024)
            client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as web:
        thread = threading.Thread(target=answer)
        thread.start()
        assert "check NEO4J_URI" in refusal(f"bolt://127.0.0.1:{web.getsockname()[1]}")
        thread.join()


def test_a_user_who_has_to_change_the_password_first_is_told_so(neo4j_server: StartedNeo4j) -> None:
    with neo4j.GraphDatabase.driver(neo4j_server.uri, auth=("neo4j", neo4j_server.password)) as driver:
        driver.execute_query("CREATE OR REPLACE USER newcomer SET PASSWORD 'first-one' CHANGE REQUIRED",
                             database_="system")
        line = refusal(neo4j_server.uri, "newcomer", "first-one")
    assert "must be changed" in line
    assert line.endswith("check NEO4J_USERNAME and NEO4J_PASSWORD")


def test_what_accepts_and_says_nothing_does_not_hold_the_user_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        began = time.monotonic()
        assert "check NEO4J_URI" in refusal(f"bolt://127.0.0.1:{mute.getsockname()[1]}")
        assert time.monotonic() - began < 30


def test_jars_of_another_version_have_their_own_class_and_settings(tmp_path: Path) -> None:
    made = neo4j_service.service(tmp_path, tmp_path, 7687, heap="512m", password=PASSWORD, env={},
                                 main_class="org.example.Main", settings=["first=1", "second=2"])
    assert "org.example.Main" in made.command
    assert neo4j_service.MAIN_CLASS not in made.command
    assert (tmp_path / "conf" / "neo4j.conf").read_text().splitlines()[-2:] == ["first=1", "second=2"]
