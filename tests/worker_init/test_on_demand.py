"""What a driver host serves because a task has asked for it: shared, bounded, and closed when nobody needs it."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import neo4j
import pytest
from neo4j.exceptions import AuthError

from testing.programs import running_program
from testing.servers import Neo4jServer, Serving, serving
from testing.waiting import wait_until
from worker_init.address_request import AddressRequest, NoAddress, Peer, ask
from worker_init.backend_setting import BACKEND, FOLDER, SETTING, SLOT, WRAPPED
from worker_init.control import find_folders, make_folder, read_status
from worker_init.host import Host, HostSettings
from worker_init.pool_actions import Limits
from worker_init.targets import Address, Target

pytestmark = pytest.mark.neo4j


@pytest.fixture
def served(server: Neo4jServer, tmp_path: Path) -> Iterator[Serving]:
    with serving(tmp_path, server.uri, server.auth, max_upstreams=3, idle_timeout=0.2) as running:
        yield running


@pytest.fixture
def folder(served: Serving) -> Path:
    (found,) = find_folders(served.folder)
    return found


@pytest.fixture
def graph(server: Neo4jServer) -> Target:
    """Return the same server as an upstream of its own: another URI is another one."""
    return Target(server.uri.replace("127.0.0.1", "localhost"), *server.auth)


def address_of(folder: Path, target: Target, slot: int = 0) -> Address:
    address = ask(folder, AddressRequest(slot, target))
    assert address
    return address


def one(address: Address) -> Any:
    """Return the answer to a query at an address."""
    uri = f"bolt://{address.host}:{address.port}"
    with neo4j.GraphDatabase.driver(uri, auth=(address.credentials.username, address.credentials.password)) as driver:
        return driver.execute_query("RETURN 1 AS one").records[0]["one"]


def upstreams(folder: Path) -> list[str]:
    return [driver["upstream"] for driver in read_status(folder, 5.0)["drivers"]]


class Task:
    """A process that asks for an address, says so, and lives until its input ends."""

    def __init__(self, folder: Path, target: Target) -> None:
        code = ("import sys; from pathlib import Path; from worker_init.address_request import *;"
                "from worker_init.targets import Target; uri, user, password = sys.stdin.readline().split();"
                "print(ask(Path(sys.argv[1]), AddressRequest(0, Target(uri, user, password))).port, flush=True);"
                "sys.stdin.read()")
        self._process = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, text=True)
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(" ".join(target) + "\n")
        self._process.stdin.flush()
        self.port = int(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=30)


def test_an_address_leads_to_the_server_and_equal_requests_share_it(folder: Path, graph: Target) -> None:
    address = address_of(folder, graph)
    assert one(address) == 1
    assert address_of(folder, graph) == address
    assert address_of(folder, graph, slot=1) != address
    assert upstreams(folder).count(graph.uri) == 2


def test_an_upstream_of_the_environment_is_shared_too(folder: Path, served: Serving, server: Neo4jServer) -> None:
    address = address_of(folder, Target(server.uri, *server.auth))
    assert (address.port, tuple(address.credentials)) == (served.port, served.auth)


def test_a_connection_that_leads_to_a_relay_already_stays_as_it_is(folder: Path, served: Serving,
                                                                   graph: Target) -> None:
    address = address_of(folder, graph)
    for port, credentials in ((served.port, served.auth), (address.port, address.credentials)):
        for scheme in ("bolt", "neo4j"):
            assert ask(folder, AddressRequest(0, Target(f"{scheme}://127.0.0.1:{port}", *credentials))) is None


def test_a_wrong_password_is_neo4js_own_error(folder: Path, graph: Target) -> None:
    with pytest.raises(AuthError, match=r"unauthorized.*The upstream is bolt://localhost"):
        one(address_of(folder, graph._replace(password="wrong")))


def test_more_upstreams_than_are_allowed_are_refused_with_the_setting(folder: Path, graph: Target) -> None:
    for number in (1, 2):
        address_of(folder, graph._replace(username=f"user-{number}"))
    with pytest.raises(NoAddress, match="serves 3 upstreams, and WORKER_INIT_MAX_UPSTREAMS=3 allows no more"):
        address_of(folder, graph)
    assert address_of(folder, graph._replace(username="user-1"), slot=1)


def test_one_that_no_task_needs_makes_room(folder: Path, graph: Target) -> None:
    with Task(folder, graph._replace(username="user-1")):
        address_of(folder, graph._replace(username="user-2"))
        with pytest.raises(NoAddress):
            address_of(folder, graph)
    assert wait_until(lambda: has_room(folder, graph), "there is room")


def has_room(folder: Path, target: Target) -> bool:
    try:
        return bool(one(address_of(folder, target)) == 1)
    except NoAddress:
        return False


def test_it_stays_as_long_as_a_task_lives_and_goes_when_none_does(folder: Path, graph: Target) -> None:
    with Task(folder, graph) as first:
        with Task(folder, graph) as second:
            assert second.port == first.port
        # Several times the idle timeout of 0.2 s: what a host would have closed by then, it has closed.
        for _ in range(10):
            with pytest.raises(subprocess.TimeoutExpired):
                first._process.wait(0.1)
        assert graph.uri in upstreams(folder)
    wait_until(lambda: graph.uri not in upstreams(folder), "it is closed")
    wait_until(lambda: not listens(first.port), "and so is its port")


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_another_password_is_another_identity_and_the_earlier_one_ends_with_its_tasks(
        server: Neo4jServer, graph: Target, tmp_path: Path) -> None:
    with serving(tmp_path, server.uri, server.auth, idle_timeout=600) as running:
        (folder,) = find_folders(running.folder)
        old = graph._replace(password="before")
        with Task(folder, old) as before:
            address = address_of(folder, graph)
            assert address.port != before.port
            assert one(address) == 1
            assert upstreams(folder).count(graph.uri) == 2
        wait_until(lambda: upstreams(folder).count(graph.uri) == 1, "the earlier one is closed")
        assert one(address) == 1


def test_a_wrong_password_does_not_end_the_right_one(server: Neo4jServer, graph: Target, tmp_path: Path) -> None:
    with serving(tmp_path, server.uri, server.auth, idle_timeout=600) as running:
        (folder,) = find_folders(running.folder)
        with Task(folder, graph) as task, pytest.raises(AuthError):
            one(address_of(folder, graph._replace(password="wrong")))
        assert address_of(folder, graph).port == task.port


def test_what_cannot_be_read_is_refused_and_no_password_is_logged(folder: Path, served: Serving, graph: Target) -> None:
    one(address_of(folder, graph))
    for slot, target in ((-1, graph), (0, ("hidden",)), ("0", graph)):
        with pytest.raises(NoAddress, match="cannot be read"):
            ask(folder, AddressRequest(slot, target))  # type: ignore[arg-type]
    with pytest.raises(NoAddress, match="cannot"):
        ask(folder, AddressRequest(0, Target("neo4j://db?a=1&a=2", "u", "hidden")))
    log = (served.folder / "host.log").read_text()
    assert "hidden" not in log
    assert graph.password not in log


def test_a_host_for_airflow_needs_no_upstream_and_its_file_switches_the_backend_on(
        graph: Target, tmp_path: Path) -> None:
    file = tmp_path / "environment"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("NEO4J_", "AIRFLOW_"))}
    with running_program(
            [sys.executable, "-m", "worker_init.cli", "serve", "--airflow", "--environment-file", str(file)],
            env={**environment, "WORKER_INIT_RUNTIME_DIR": str(tmp_path), SETTING: "company.Backend"}) as serving_:
        wait_until(lambda: file.exists() or serving_.poll() is not None, "the host serves")
        (folder,) = find_folders(tmp_path)
        assert file.read_text().splitlines() == [f"{SETTING}={BACKEND}", f"{FOLDER}={folder}", f"{SLOT}=0",
                                                 f"{WRAPPED}=company.Backend"]
        assert one(address_of(folder, graph)) == 1
    assert serving_.returncode == 0


def test_without_a_host_it_is_said_within_the_time(tmp_path: Path, graph: Target) -> None:
    with pytest.raises(NoAddress, match="no driver host answers in") as caught:
        ask(tmp_path, AddressRequest(0, graph))
    assert graph.password not in str(caught.value)


@pytest.mark.parametrize(("user", "is_draining", "reason"), [(1, False, "does not own"), (0, True, "about to end")])
def test_nobody_else_is_answered_and_nobody_at_the_end(user: int, is_draining: bool, reason: str, tmp_path: Path,
                                                       graph: Target) -> None:
    line = AddressRequest(0, graph).line()

    async def answer() -> dict[str, Any]:
        host = Host(HostSettings(Limits(1, 1, 1, 1, 1), 1, 1, make_folder(tmp_path), 8), has_pool=False)
        if is_draining:
            await host.drain(0)
        return await host._address(line, Peer(os.getpid(), os.getuid() if is_draining else -1))
    refused = asyncio.run(answer())
    assert reason in refused["refused"]
    assert graph.password not in json.dumps(refused)
