"""Bad input, lost clients, lost servers: who is meant sees it, nobody else does."""

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import neo4j
import pytest
from neo4j.exceptions import AuthError, DatabaseUnavailable, IncompleteCommit, ServiceUnavailable, TransientError

from rig.stack import ports
from testing.servers import Neo4jServer, Serving, serving
from testing.waiting import wait_until, wait_until_stable
from tests.worker_init.faults import HOPS, Hop, client_in, hop_of, kill
from worker_init.bolt import Tag, message
from worker_init.control import find_folders, read_status
from worker_init.handshake import MAGIC

pytestmark = pytest.mark.neo4j

VICTIMS = "SHOW TRANSACTIONS YIELD metaData WHERE metaData.victim RETURN count(*)"
BOLT_5_8 = MAGIC + b"\x00\x00\x08\x05" + b"\x00" * 12


def driver_status(serving_host: Serving) -> dict[str, Any]:
    status: dict[str, Any] = read_status(find_folders(serving_host.folder)[0], 5.0)["drivers"][0]
    return status


def value(driver: neo4j.Driver, query: str = "RETURN 1 AS x") -> Any:
    return driver.execute_query(query, database_="neo4j").records[0][0]


@pytest.fixture(scope="module", params=HOPS)
def kind(request: pytest.FixtureRequest) -> str:
    """Name what the upstream is: a server, or a cluster of three members. Every fault is tested with both."""
    return str(request.param)


@pytest.fixture(scope="module")
def uri(kind: str, server: Neo4jServer) -> Iterator[str]:
    """Return the upstream's address, for tests in which nothing happens to the network."""
    if kind == "bolt":
        yield server.uri
    else:
        with hop_of(kind, server.port) as running:
            yield running.uri


@pytest.fixture
def hop(kind: str, server: Neo4jServer) -> Iterator[Hop]:
    """Run what can make the network fail, in front of the server."""
    with hop_of(kind, server.port) as running:
        yield running


@pytest.fixture(scope="module")
def host(uri: str, server: Neo4jServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Run a host with default settings; tests that need others start their own."""
    with serving(tmp_path_factory.mktemp("host"), uri, server.auth) as running:
        yield running


@pytest.fixture
def bystander(relayed: neo4j.Driver) -> Iterator[None]:
    """Another client of the same host: it must not notice."""
    seen: list[Any] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.wait(0.01):
            try:
                seen.append(value(relayed))
            except Exception as error:
                seen.append(error)
    thread = threading.Thread(target=ask)
    thread.start()
    yield
    wait_until(lambda: len(seen) > 5, "the bystander has asked")
    ended.set()
    thread.join()
    assert set(seen) == {1}


GARBAGE = {
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "noise": bytes(range(256)) * 300,
    "a query before HELLO": BOLT_5_8 + message(Tag.RUN, "RETURN 1", {}, {}),
    "a query before LOGON": BOLT_5_8 + message(Tag.HELLO, {}) + message(Tag.RUN, "RETURN 1", {}, {}),
    "HELLO twice": BOLT_5_8 + message(Tag.HELLO, {}) * 2,
    "an endless HELLO": BOLT_5_8 + message(Tag.HELLO, {"user_agent": "x" * 100_000}),
    "a LOGON that is no map": BOLT_5_8 + message(Tag.HELLO, {}) + message(Tag.LOGON, [1, 2]),
    "a truncated value": BOLT_5_8 + b"\x00\x04\xb1\x01\xa1\x8f\x00\x00",
    "a chunk of one byte": BOLT_5_8 + b"\x00\x01\xb1\x00\x01\x01\x00\x00",
    "an unknown message": BOLT_5_8 + b"\x00\x02\xb0\x77\x00\x00",
    "a version nobody speaks": MAGIC + b"\x00\x00\x00\x03" + b"\x00" * 12,
}


@pytest.mark.parametrize("sent", GARBAGE.values(), ids=GARBAGE)
@pytest.mark.usefixtures("bystander")
def test_a_client_that_does_not_speak_bolt_is_turned_away(sent: bytes, host: Serving) -> None:
    with socket.create_connection(("127.0.0.1", host.port)) as sock:
        sock.settimeout(10)
        assert hung_up(sock, sent)


def hung_up(sock: socket.socket, sent: bytes) -> bool:
    """Whether the other side ends the connection; what it says before that does not matter."""
    try:
        sock.sendall(sent)
        while sock.recv(65536):
            pass
    except ConnectionError:
        return True
    return True


def logged_on(auth: tuple[str, str]) -> bytes:
    """Return all that a client says until it may ask for something."""
    return BOLT_5_8 + message(Tag.HELLO, {}) + message(
        Tag.LOGON, {"scheme": "basic", "principal": auth[0], "credentials": auth[1]})


AFTER_LOGON = {
    "an endless ROUTE": message(Tag.ROUTE, {}, ["x" * 2_000_000], {}),
    "a second LOGON": message(Tag.LOGON, {}),
    "an unknown message": b"\x00\x02\xb0\x77\x00\x00",
    "a chunk of one byte": b"\x00\x01\xb1\x00\x01\x01\x00\x00",
}


@pytest.mark.parametrize("sent", AFTER_LOGON.values(), ids=AFTER_LOGON)
@pytest.mark.usefixtures("bystander")
def test_a_client_that_leaves_the_protocol_is_turned_away(sent: bytes, host: Serving) -> None:
    with socket.create_connection(("127.0.0.1", host.port)) as sock:
        sock.settimeout(60)
        assert hung_up(sock, logged_on(host.auth) + sent)


@pytest.mark.usefixtures("bystander")
def test_who_stops_within_a_message_hinders_nobody(kind: str, host: Serving) -> None:
    # Where the relay has to read a query, as it does for a cluster, there is no connection for it before its end.
    least = 20 if kind == "bolt" else 0
    query = message(Tag.RUN, "RETURN $x", {"x": "y" * 1000}, {})
    with ExitStack() as sockets:
        for _ in range(20):
            sock = sockets.enter_context(socket.create_connection(("127.0.0.1", host.port)))
            sock.sendall(logged_on(host.auth) + query[:500])
        wait_until(lambda: driver_status(host)["clients"]["now"] >= 20, "they are there")
        wait_until(lambda: driver_status(host)["connections"]["in_use"] >= least, "each holds a connection")
        with host.driver() as driver:
            assert value(driver) == 1
    wait_until(lambda: driver_status(host)["connections"]["in_use"] <= 1, "their connections are free again")


@pytest.mark.usefixtures("bystander")
def test_a_slow_client_has_no_more_time_to_log_on_than_others(uri: str, server: Neo4jServer, folder: Path) -> None:
    with (serving(folder, uri, server.auth, logon_timeout=1) as host,
          socket.create_connection(("127.0.0.1", host.port)) as sock):
        slow, is_open = iter(BOLT_5_8 + message(Tag.HELLO, {"user_agent": "x" * 60_000})), True
        sock.settimeout(0.02)
        while is_open:
            try:
                sock.sendall(bytes((next(slow),)))
                is_open = sock.recv(1000) != b""
            except TimeoutError:
                continue
            except ConnectionError:
                is_open = False
        assert next(slow, None) is not None     # it was not for having said all
        wait_until(lambda: driver_status(host)["clients"]["refused"] == 1, "it was turned away")


@pytest.mark.usefixtures("bystander")
def test_a_truncated_handshake_is_closed_after_a_while(uri: str, server: Neo4jServer, folder: Path) -> None:
    with serving(folder, uri, server.auth, logon_timeout=1) as host:
        for part in (MAGIC[:2], BOLT_5_8[:11], BOLT_5_8):
            with socket.create_connection(("127.0.0.1", host.port)) as sock:
                sock.settimeout(60)
                assert hung_up(sock, part)
        assert driver_status(host)["clients"]["refused"] == 3


@pytest.mark.usefixtures("bystander")
def test_wrong_credentials_are_refused_as_neo4j_refuses_them(server: Neo4jServer, host: Serving) -> None:
    seen = []
    for uri in (server.uri, host.uri):
        with neo4j.GraphDatabase.driver(uri, auth=("neo4j", "wrong-password")) as driver:
            with pytest.raises(AuthError) as caught:
                driver.verify_connectivity()
            seen.append((caught.value.code, caught.value.message, caught.value.gql_status))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("mode", ["transaction", "stream", "full", "query"])
@pytest.mark.usefixtures("bystander")
def test_a_killed_client_leaves_nothing_behind(mode: str, uri: str, server: Neo4jServer, folder: Path,
                                               direct: neo4j.Driver) -> None:
    # With no idle timeout that could close a connection which was given back in the middle of an answer.
    with (serving(folder, uri, server.auth, idle_timeout=3600) as host,
          client_in(mode, host.uri, host.auth) as client):
        wait_until(lambda: value(direct, VICTIMS) == 1, "the client's transaction is open")
        kill(client)
        wait_until(lambda: value(direct, VICTIMS) == 0, "the client's transaction is gone")
        wait_until(lambda: driver_status(host)["connections"]["in_use"] == 0, "its connection is back")
        with host.driver() as driver:
            assert value(driver) == 1
    assert value(direct, "MATCH (n:Killed) RETURN count(n)") == 0


def test_who_waits_for_a_connection_gets_the_next_one(kind: str, uri: str, server: Neo4jServer, folder: Path) -> None:
    with (serving(folder, uri, server.auth, max_size=2) as host, host.driver() as driver,
          ThreadPoolExecutor(1) as threads, ExitStack() as sessions):
        held = [sessions.enter_context(driver.session()).begin_transaction() for _ in range(2)]
        for tx in held:
            tx.run("RETURN 1").consume()
        answer = threads.submit(value, driver)
        wait_until(lambda: driver_status(host)["waits"]["now"] == 1, "it waits")
        assert not answer.done()
        held[0].close()
        assert answer.result(60) == 1
        held[1].close()
        status = driver_status(host)
        assert status["connections"]["opened"] == 2
        # Each of the two waited for its connection to be opened; in a cluster also for the routing table.
        assert status["waits"]["total"] == (3 if kind == "bolt" else 4)
        assert status["waits"]["longest_seconds"] > 0


def test_who_waits_too_long_is_told_why(uri: str, server: Neo4jServer, folder: Path) -> None:
    with (serving(folder, uri, server.auth, max_size=1, acquisition_timeout=0.3) as host,
          host.driver(max_transaction_retry_time=0) as driver, driver.session() as session,
          session.begin_transaction() as tx):
        tx.run("RETURN 1").consume()
        with pytest.raises(TransientError, match="WORKER_INIT_MAX_SIZE") as caught:
            value(driver)
        assert caught.value.code == "Neo.TransientError.Request.NoThreadsAvailable"
        with driver.session() as other, pytest.raises(TransientError):
            other.run("RETURN 1").consume()
        assert tx.run("RETURN 7").single(strict=True)[0] == 7
        assert driver_status(host)["waits"]["timed_out"] == 2


def test_a_client_that_ends_while_it_waits_leaves_the_queue(uri: str, server: Neo4jServer, folder: Path) -> None:
    with (serving(folder, uri, server.auth, max_size=1) as host, host.driver() as driver,
          driver.session() as session, session.begin_transaction() as tx):
        tx.run("RETURN 1").consume()
        with client_in_background(host) as client:
            wait_until(lambda: driver_status(host)["waits"]["now"] == 1, "it waits")
            client.close()
            wait_until(lambda: driver_status(host)["waits"]["now"] == 0, "it waits no more")


class client_in_background:  # noqa: N801 - a context manager
    """A raw client with a query that has to wait."""

    def __init__(self, host: Serving) -> None:
        self._host = host

    def __enter__(self) -> socket.socket:
        self._sock = socket.create_connection(("127.0.0.1", self._host.port))
        self._sock.sendall(logged_on(self._host.auth) + message(Tag.RUN, "RETURN 1", {}, {})
                           + message(Tag.PULL, {"n": -1}))
        return self._sock

    def __exit__(self, *_: object) -> None:
        self._sock.close()


def kill_connections(direct: neo4j.Driver) -> None:
    """Let the server close every connection of a relay; they are gone at the end."""
    killed = relays_connections(direct)
    for connection in killed:
        direct.execute_query("CALL dbms.killConnection($id)", id=connection, database_="system")
    wait_until(lambda: not killed & relays_connections(direct), "they are gone")


def relays_connections(direct: neo4j.Driver) -> set[str]:
    records = direct.execute_query("CALL dbms.listConnections() YIELD connectionId, userAgent",
                                   database_="system").records
    return {record["connectionId"] for record in records if record["userAgent"] == "worker-init"}


def test_a_connection_that_the_server_closed_is_replaced(relayed: neo4j.Driver, direct: neo4j.Driver) -> None:
    for _ in range(5):
        assert value(relayed) == 1
        kill_connections(direct)
    relayed.verify_connectivity()
    assert value(relayed) == 1


def test_a_server_that_is_upgraded_serves_old_clients_and_new_ones(hop: Hop, server: Neo4jServer, folder: Path,
                                                                       direct: neo4j.Driver) -> None:
    with ExitStack() as stack:
        hop.is_old = True
        host = stack.enter_context(serving(folder, hop.uri, server.auth))
        from_before = stack.enter_context(host.driver())
        assert (value(from_before), bolt_of(from_before)) == (1, (5, 8))
        hop.is_old = False
        hop.cut()
        hop.restore()
        assert value(from_before) == 1
        after = stack.enter_context(host.driver())
        assert (value(after), bolt_of(after)) == (1, bolt_of(direct))
        assert bolt_of(from_before) == (5, 8)


def test_a_server_that_is_downgraded_is_asked_again_in_its_version(hop: Hop, server: Neo4jServer, folder: Path,
                                                                      direct: neo4j.Driver) -> None:
    with serving(folder, hop.uri, server.auth) as host, host.driver() as driver:
        assert (value(driver), bolt_of(driver)) == (1, bolt_of(direct))
        hop.is_old = True
        hop.cut()
        hop.restore()
        assert (value(driver), bolt_of(driver)) == (1, (5, 8))


def bolt_of(driver: neo4j.Driver) -> tuple[int, int]:
    major, minor = driver.get_server_info().protocol_version
    return major, minor


def test_a_managed_transaction_survives_the_loss_of_its_connection(relayed: neo4j.Driver,
                                                                   direct: neo4j.Driver) -> None:
    tries = []

    def work(tx: neo4j.ManagedTransaction) -> Any:
        tries.append(tx.run("RETURN 1").consume())
        if len(tries) == 1:
            kill_connections(direct)
        return tx.run("RETURN 9").single(strict=True)[0]
    with relayed.session() as session:
        assert session.execute_write(work) == 9
    assert len(tries) == 2


@pytest.mark.parametrize("way", ["directly", "through the relay", "the host is killed"])
def test_a_commit_whose_answer_was_lost_is_told_as_such(way: str, hop: Hop, server: Neo4jServer, folder: Path,
                                                        direct: neo4j.Driver) -> None:
    """Nobody knows whether it took place, so nobody may repeat it: the driver says the same in each case."""
    with ExitStack() as stack:
        host = stack.enter_context(serving(folder, hop.uri, server.auth))
        uri, auth = (hop.uri, server.auth) if way == "directly" else (host.uri, host.auth)
        threads = stack.enter_context(ThreadPoolExecutor(1))
        session = stack.enter_context(stack.enter_context(neo4j.GraphDatabase.driver(uri, auth=auth)).session())
        tx = session.begin_transaction()
        tx.run("CREATE (:Lost)").consume()
        hop.swallow(answers_only=True)
        commit = threads.submit(tx.commit)
        wait_until(lambda: value(direct, "MATCH (n:Lost) RETURN count(n)") == 1, "the server has committed")
        (host.process.kill if way == "the host is killed" else hop.cut)()
        with pytest.raises(IncompleteCommit):
            commit.result(60)
    direct.execute_query("MATCH (n:Lost) DELETE n")


def test_a_server_that_is_down_is_named_and_comes_back(hop: Hop, server: Neo4jServer, folder: Path) -> None:
    with serving(folder, hop.uri, server.auth, connection_timeout=2) as host:
        hop.cut()
        with host.driver(max_transaction_retry_time=0) as driver:
            for ask in (driver.verify_connectivity, lambda: value(driver)):
                with pytest.raises(DatabaseUnavailable, match=f"no connection to {hop.uri}") as caught:
                    ask()
                assert caught.value.is_retryable()
                assert server.password not in str(caught.value)
            hop.restore()
            assert value(driver) == 1
            assert hop.carried > 0
            hop.cut()
            with pytest.raises((DatabaseUnavailable, ServiceUnavailable)):
                value(driver)
            hop.restore()
            assert value(driver) == 1
            status = driver_status(host)
        assert status["state"] == "up"
        assert status["errors"] >= 1


def test_managed_transactions_outlive_a_server_that_is_away_for_a_while(hop: Hop, server: Neo4jServer,
                                                                             folder: Path) -> None:
    with serving(folder, hop.uri, server.auth) as host, host.driver() as driver:
        assert value(driver) == 1
        hop.cut()
        with ThreadPoolExecutor(1) as threads:
            answer = threads.submit(value, driver)
            wait_until(lambda: hop.refused, "the server was asked for while it was away")
            assert not answer.done()
            hop.restore()
            assert answer.result(60) == 1


def test_nobody_listens_at_the_upstream(uri: str, folder: Path) -> None:
    uri = f"{urlsplit(uri).scheme}://127.0.0.1:{ports.choose(0, variable='a test')}"
    with serving(folder, uri, ("neo4j", "x")) as host, host.driver(max_transaction_retry_time=0) as driver:
        with pytest.raises(DatabaseUnavailable, match="Errno 111"):
            value(driver)
        assert driver_status(host)["state"] == "down"


def test_a_silent_connection_is_found_out_before_it_is_lent(kind: str, hop: Hop, server: Neo4jServer,
                                                                folder: Path) -> None:
    with (serving(folder, hop.uri, server.auth, liveness_check=0.001) as host,
          host.driver() as driver):
        assert value(driver) == 1
        wait_until(lambda: driver_status(host)["connections"]["in_use"] == 0, "it is idle")
        hop.swallow()
        assert value(driver) == 1
        # In a cluster the routing table has expired meanwhile, and another member is asked for it.
        assert driver_status(host)["connections"]["opened"] == (2 if kind == "bolt" else 3)


def test_connections_that_nobody_uses_are_given_back(uri: str, server: Neo4jServer, folder: Path) -> None:
    with serving(folder, uri, server.auth, idle_timeout=0.3) as host, host.driver() as driver:
        assert value(driver) == 1
        wait_until(lambda: driver_status(host)["connections"]["open"] == 0, "the idle connection is closed")
        assert driver_status(host)["connections"]["opened"] == 1
        assert value(driver) == 1


def test_leases_are_the_transactions_of_clients_alone(uri: str, server: Neo4jServer, folder: Path) -> None:
    with serving(folder, uri, server.auth) as host:
        for expected in (0, 1, 2):    # the host asks the server what it speaks when the first client comes
            assert driver_status(host)["leases"] == expected
            with host.driver() as driver:
                assert value(driver) == 1


def test_an_old_connection_is_replaced(uri: str, server: Neo4jServer, folder: Path) -> None:
    with serving(folder, uri, server.auth, max_lifetime=0.3) as host, host.driver() as driver:
        assert value(driver) == 1
        wait_until(lambda: value(driver) == 1 and driver_status(host)["connections"]["opened"] > 1, "another is opened")


def test_a_changed_password_is_neo4js_own_error(uri: str, server: Neo4jServer, folder: Path,
                                                direct: neo4j.Driver) -> None:
    system: Any = {"database_": "system"}
    direct.execute_query("CREATE OR REPLACE USER changing SET PASSWORD 'first-password' CHANGE NOT REQUIRED", **system)
    try:
        with serving(folder, uri, ("changing", "first-password")) as host, host.driver() as driver:
            assert value(driver) == 1
            direct.execute_query("ALTER USER changing SET PASSWORD 'second-password'", **system)
            kill_connections(direct)
            with pytest.raises(AuthError) as caught:
                driver.execute_query("RETURN 1")
            assert caught.value.code == "Neo.ClientError.Security.Unauthorized"
    finally:
        direct.execute_query("DROP USER changing", **system)


# Before 6.4 the driver names no cause, and the host adds its class.
_OF_A_REFUSED_CERTIFICATE = r"\(Connection\w+Error\)" if neo4j.__version__ < "6.4" else "encrypted"


def test_a_refused_certificate_is_named(uri: str, server: Neo4jServer, folder: Path) -> None:
    with (serving(folder, uri.replace(":", "+s:", 1), server.auth) as host,
          host.driver(max_transaction_retry_time=0) as driver,
          pytest.raises(neo4j.exceptions.Neo4jError, match=_OF_A_REFUSED_CERTIFICATE)):
        value(driver)


def test_a_warm_stop_lets_a_transaction_end(uri: str, server: Neo4jServer, folder: Path) -> None:
    with (serving(folder, uri, server.auth) as host, host.driver() as driver, driver.session() as session,
          session.begin_transaction() as tx):
        tx.run("RETURN 1").consume()
        host.process.send_signal(signal.SIGTERM)
        wait_until(lambda: read_status(find_folders(folder)[0], 5.0)["state"] == "draining", "it drains")
        assert tx.run("RETURN 2").single(strict=True)[0] == 2
        tx.commit()
        assert host.process.wait(10) == 0


def test_a_thousand_idle_clients_are_no_burden(uri: str, server: Neo4jServer, folder: Path) -> None:
    with serving(folder, uri, server.auth) as host, host.driver() as driver, ExitStack() as sockets:
        before = resident_megabytes(host.process.pid)
        for _ in range(1000):
            sock = sockets.enter_context(socket.create_connection(("127.0.0.1", host.port)))
            sock.sendall(logged_on(host.auth))
        wait_until(lambda: driver_status(host)["clients"]["now"] >= 1000, "they are there")
        assert value(driver) == 1
        assert driver_status(host)["connections"]["open"] == 1
        assert driver_status(host)["clients"]["refused"] == 0
        assert resident_megabytes(host.process.pid) - before < 50


def test_a_client_that_does_not_read_is_held_back(hop: Hop, server: Neo4jServer, folder: Path) -> None:
    """What is read from the server comes to a stop. Much may be on the way then, in the kernel; little in the host."""
    with serving(folder, hop.uri, server.auth) as host, host.driver() as driver:
        assert value(driver) == 1
        before = peak_megabytes(host.process.pid)
        with client_in("full", host.uri, host.auth):
            wait_until_stable(lambda: hop.carried if hop.held_back else None, "no more is read from the server")
            assert peak_megabytes(host.process.pid) - before < 16
            assert value(driver) == 1


def test_a_large_message_is_passed_on_and_not_kept(server: Neo4jServer, folder: Path) -> None:
    """Parameters of 32 MB, from a client whose connection is the only one. For a cluster they have to be read."""
    with serving(folder, server.uri, server.auth, max_size=1) as host, host.driver() as driver:
        before = resident_megabytes(host.process.pid)
        assert driver.execute_query("RETURN size($x) AS x", x="x" * 32_000_000).records[0][0] == 32_000_000
        assert peak_megabytes(host.process.pid) - before < 16


def resident_megabytes(pid: int) -> float:
    return memory(pid, "VmRSS")


def peak_megabytes(pid: int) -> float:
    return memory(pid, "VmHWM")


def memory(pid: int, field: str) -> float:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields[field].split()[0]) / 1024


def test_no_password_shows(server: Neo4jServer, host: Serving, relayed: neo4j.Driver) -> None:
    assert value(relayed) == 1
    folder = find_folders(host.folder)[0]
    shown = json.dumps(read_status(folder, 5.0)) + (host.folder / "host.log").read_text()
    shown += Path(f"/proc/{host.process.pid}/cmdline").read_text()
    assert server.password not in shown
    assert host.auth[1] not in shown
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (host.folder / "environment").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_uid == os.getuid()
