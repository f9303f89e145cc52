"""Servers that fall silent, close the connection, take no more or have no leader: what tasks see, what is kept."""

import asyncio
import os
import signal
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import neo4j
import pytest
from neo4j.exceptions import DatabaseUnavailable

from testing.servers import Serving, serving
from testing.waiting import LIMIT, wait_until
from tests.worker_init.scripted import Member, Servers, servers
from worker_init.bolt import Scanner, Tag, message
from worker_init.control import find_folders, read_status
from worker_init.errors import UpstreamFailure
from worker_init.handshake import MAGIC, Version
from worker_init.pool import Pool
from worker_init.pool_actions import Limits
from worker_init.routing import ANYWHERE
from worker_init.targets import Target
from worker_init.upstream import Connection, Upstream

pytestmark = pytest.mark.host

AUTH = ("neo4j", "x")
# Every fault is tested with a server, and with a cluster of three members.
both = pytest.mark.parametrize("members", [1, 3], ids=["bolt", "cluster"])
BOLT_5_8 = MAGIC + b"\x00\x00\x08\x05" + b"\x00" * 12


def status(host: Serving) -> dict[str, Any]:
    found: dict[str, Any] = read_status(find_folders(host.folder)[0], LIMIT)["drivers"][0]
    return found


def value(driver: neo4j.Driver, **config: Any) -> Any:
    return driver.execute_query("RETURN 1", **({"database_": "neo4j"} | config)).records[0][0]


def wait_for(seconds: float, what: str) -> None:
    """Let time pass: that is the condition, in a few tests."""
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > seconds, what)


def is_idle(host: Serving) -> None:
    wait_until(lambda: status(host)["connections"]["in_use"] == 0, "nothing is lent")


class Client:
    """A client that sends its own bytes, and is gone when it likes."""

    def __init__(self, host: Serving) -> None:
        self._scanner = Scanner()
        self.sock = socket.create_connection(("127.0.0.1", host.port))
        self.sock.sendall(BOLT_5_8)
        assert len(self.sock.recv(4, socket.MSG_WAITALL)) == 4
        self.ask(message(Tag.HELLO, {}), message(
            Tag.LOGON, {"scheme": "basic", "principal": host.auth[0], "credentials": host.auth[1]}))

    def ask(self, *messages: bytes) -> None:
        """Send messages, and wait for the summary of each."""
        self.sock.sendall(b"".join(messages))
        self.answers(len(messages))

    def answers(self, number: int) -> None:
        while number > 0:
            block = self.sock.recv(65536)
            assert block, "the relay has closed the connection"
            number -= sum(piece.last and piece.tag != Tag.RECORD for piece in self._scanner.feed(block))

    def begin(self) -> None:
        self.ask(message(Tag.BEGIN, {}))

    def run(self) -> None:
        self.ask(message(Tag.RUN, "RETURN 1", {}, {}), message(Tag.PULL, {"n": -1}))

    def close(self) -> None:
        self.sock.close()


@contextmanager
def client(host: Serving) -> Iterator[Client]:
    new = Client(host)
    try:
        yield new
    finally:
        new.close()


# Settings, with and without routing

@both
def test_the_size_holds(members: int, tmp_path: Path) -> None:
    with (servers(members=members) as running, serving(tmp_path, running.uri(), AUTH, max_size=2) as host,
          host.driver() as driver, ThreadPoolExecutor(8) as threads):
        assert set(threads.map(lambda _: value(driver, routing_="r"), range(80))) <= {0, 1, 2}
        assert running.most <= 2


@both
def test_the_lifetime_holds(members: int, tmp_path: Path) -> None:
    with (servers(members=members) as running, serving(tmp_path, running.uri(), AUTH, max_lifetime=0.3) as host,
          host.driver() as driver):
        wait_until(lambda: value(driver) == 0 and running.opened > 3, "old connections are replaced")
        wait_until(lambda: not running.connections, "an idle one is closed when it is old")


@both
def test_the_idle_timeout_holds(members: int, tmp_path: Path) -> None:
    with (servers(members=members) as running, serving(tmp_path, running.uri(), AUTH, idle_timeout=1) as host,
          host.driver() as driver):
        began = time.monotonic()
        assert value(driver) == 0
        wait_until(lambda: not running.connections, "it is closed")
        assert time.monotonic() - began >= 1, "it was idle for less than its timeout"


class _Swallows(Member):
    """What is open when ``servers.silent`` is set gets no answer any more."""

    def data_received(self, data: bytes) -> None:
        if self not in getattr(self.servers, "silent", ()):
            super().data_received(data)


@both
def test_a_silent_connection_costs_a_task_no_more_than_a_check(members: int, tmp_path: Path) -> None:
    with (servers(_Swallows, members) as running, serving(tmp_path, running.uri(), AUTH, liveness_check=0.2) as host,
          host.driver() as driver):
        assert value(driver) == 0
        running.silent = [*running.connections]     # type: ignore[attr-defined]
        wait_for(0.2, "a check is due")
        assert value(driver) == 0
        assert " (checking): " in (tmp_path / "host.log").read_text(), "it was not the check that closed it"
        assert running.opened == 2


@both
def test_a_silent_connection_is_found_before_a_task_meets_it(members: int, tmp_path: Path) -> None:
    with (servers(_Swallows, members) as running, serving(tmp_path, running.uri(), AUTH, liveness_check=1) as host,
          host.driver() as driver):
        assert value(driver) == 0
        running.silent = [*running.connections]     # type: ignore[attr-defined]
        wait_until(lambda: status(host)["connections"]["open"] == 0, "it is closed, and no task has asked")
        opened = status(host)["connections"]["opened"]
        assert value(driver) == 0
        assert status(host)["connections"]["opened"] == opened + 1


@both
def test_connections_that_the_server_has_closed_are_forgotten(members: int, tmp_path: Path) -> None:
    with servers(members=members) as running, serving(tmp_path, running.uri(), AUTH) as host, host.driver() as driver:
        for number in range(1, 21):
            assert value(driver) == 0
            assert status(host)["connections"]["opened"] == number
            running.hang_up()
            wait_until(lambda: status(host)["connections"]["open"] == 0, "none is counted")
        assert status(host)["connections"]["closed"] == 20


class _Deaf(Member):
    """Reads nothing once it has logged a client on."""

    def answer(self, tag: int, body: bytes) -> None:
        super().answer(tag, body)
        if tag == Tag.LOGON:
            self.transport.pause_reading()


class _Holder:
    """Takes what is lent, and waits for its end."""

    def __init__(self) -> None:
        self.connection: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()

    def granted(self, connection: Connection) -> None:
        self.connection.set_result(connection)

    def refused(self, failure: UpstreamFailure) -> None:
        self.connection.set_exception(failure)


@both
def test_what_is_still_to_be_sent_does_not_keep_a_connection(members: int) -> None:
    """The server does not read, and the client of a large query is gone."""
    async def discard(running: Servers) -> None:
        limits = Limits(max_size=1, acquisition_timeout=5, max_lifetime=60, idle_timeout=60, liveness_check=60)
        pool = Pool(Upstream(Target(running.uri(), *AUTH), 5.0), limits, "a test")
        holder = _Holder()
        pool.lend(holder, ANYWHERE)
        connection = await holder.connection
        connection.write(b"x" * 30_000_000)
        pool.discard(connection)
        assert pool.upstream.open == pool.in_use == 0
        following = _Holder()
        pool.lend(following, ANYWHERE)      # there is room for it only when the end of the first was seen
        assert await following.connection is not connection
        await pool.close()

    with servers(_Deaf, members) as running:
        asyncio.run(discard(running))


class _CutsNoops(Member):
    """Sends a NOOP in two parts: one when a transaction or a RESET has been answered, one before the next answer."""

    is_cut = False

    def answer(self, tag: int, body: bytes) -> None:
        if self.is_cut:
            self.transport.write(b"\x00")
        self.is_cut = tag in (Tag.PULL, Tag.RESET)
        super().answer(tag, body)
        if tag == Tag.RESET:
            self.transport.write(b"\x00")
        elif tag == Tag.PULL:
            self.servers.loop.call_later(0.05, self.transport.write, b"\x00")


@both
def test_a_noop_in_two_parts_puts_nobody_out_of_step(members: int, tmp_path: Path) -> None:
    with (servers(_CutsNoops, members) as running, serving(tmp_path, running.uri(), AUTH, liveness_check=0.1) as host,
          client(host) as asking):
        for _ in range(4):
            asking.sock.settimeout(LIMIT)
            asking.run()
            wait_for(0.15, "the first half is there, and a check is due")
        assert running.opened == 1


# One task at a time, one connection

class _SlowReset(Member):
    def answer(self, tag: int, body: bytes) -> None:
        if tag == Tag.RESET:
            self.servers.loop.call_later(0.2, self.succeed)
        else:
            super().answer(tag, body)


@both
def test_a_task_that_follows_one_that_died_waits_for_its_connection(members: int, tmp_path: Path) -> None:
    with servers(_SlowReset, members) as running, serving(tmp_path, running.uri(), AUTH) as host:
        for _ in range(5):
            with client(host) as dying:
                dying.begin()
            with client(host) as following:
                following.run()
        assert running.opened == 1


@both
def test_a_task_whose_request_is_read_before_the_end_of_the_last_waits_for_its_connection(members: int,
                                                                                          tmp_path: Path) -> None:
    """The host had no processor time: both are there when it looks, the later one first."""
    with servers(members=members) as running, serving(tmp_path, running.uri(), AUTH) as host:
        for _ in range(5):
            with client(host) as dying, client(host) as following:
                dying.begin()
                os.kill(host.process.pid, signal.SIGSTOP)
                following.sock.sendall(message(Tag.RUN, "RETURN 1", {}, {}) + message(Tag.PULL, {"n": -1}))
                dying.close()
                os.kill(host.process.pid, signal.SIGCONT)
                following.answers(2)
        assert running.opened == 1


class _SlowLogon(Member):
    def answer(self, tag: int, body: bytes) -> None:
        if tag == Tag.LOGON and self.servers.opened > 1:
            self.servers.loop.call_later(0.5, self.succeed)
        else:
            super().answer(tag, body)


@both
def test_a_task_that_follows_one_that_died_while_it_waited_takes_over_what_was_opened_for_it(members: int,
                                                                                             tmp_path: Path) -> None:
    with servers(_SlowLogon, members) as running, serving(tmp_path, running.uri(), AUTH) as host:
        with client(host):
            pass
        running.hang_up()
        wait_until(lambda: status(host)["connections"]["open"] == 0, "the first connection is gone")
        for _ in range(3):
            with client(host) as dying:
                dying.sock.sendall(message(Tag.BEGIN, {}))
                wait_until(lambda: running.opened == 2, "one is opened for it")
        with client(host) as following:
            following.run()
        assert running.opened == 2


# A server that takes no more

class _TakesFive(Member):
    """A query takes a moment, and so do all of them together. ``refusing`` is how the sixth connection ends."""

    refusing = "a reset"

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._is_one_too_many = len(self.servers.connections) > 5
        if self._is_one_too_many and self.refusing == "a reset":
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        elif self._is_one_too_many and self.refusing == "an end":
            transport.close()

    def answer(self, tag: int, body: bytes) -> None:
        if self._is_one_too_many and tag == {"HELLO": Tag.HELLO, "LOGON": Tag.LOGON}.get(self.refusing):
            self.transport.write(message(Tag.FAILURE, _NO_THREADS))
            self.transport.close()
        elif tag == Tag.PULL:
            self.servers.loop.call_later(0.02, super().answer, tag, body)
        else:
            super().answer(tag, body)


_NO_THREADS = {"neo4j_code": "Neo.TransientError.Request.NoThreadsAvailable", "gql_status": "50N42",
               "message": "There are insufficient threads available for executing the current task.",
               "description": "error", "diagnostic_record": {}}


@both
@pytest.mark.parametrize("refusing", ["a reset", "an end", "HELLO", "LOGON"])
def test_a_server_that_takes_five_connections_serves_everybody(refusing: str, members: int, tmp_path: Path) -> None:
    kind = type("TakesFive", (_TakesFive,), {"refusing": refusing})
    with (servers(kind, members) as running, serving(tmp_path, running.uri(), AUTH, max_size=100) as host,
          host.driver(max_transaction_retry_time=0) as driver, ThreadPoolExecutor(20) as threads):
        def ask(_: int) -> str:
            try:
                with driver.session() as session:
                    session.run("RETURN 1").consume()
            except neo4j.exceptions.Neo4jError as error:
                return str(error)
            return "answered"
        assert Counter(threads.map(ask, range(200))) == {"answered": 200}
        assert status(host)["state"] == "up"
        assert status(host)["connections"]["open"] == 5
        assert status(host)["errors"] > 0, "it was asked for a sixth"
        assert (tmp_path / "host.log").read_text().count(" -> down") == 0


# What is said of a server that does not answer

class _SilentFrom(Member):
    silent_from = -1

    def data_received(self, data: bytes) -> None:
        if self.silent_from >= 0:
            super().data_received(data)

    def answer(self, tag: int, body: bytes) -> None:
        if tag < self.silent_from:
            super().answer(tag, body)


@pytest.mark.parametrize(("silent_from", "waited_for"), [
    (-1, "the answer to Bolt's version handshake"), (Tag.HELLO, "the answer to HELLO"),
    (Tag.LOGON, "the answer to LOGON")], ids=["handshake", "HELLO", "LOGON"])
@both
def test_a_silent_server_is_named_in_time_with_what_it_did_not_answer(members: int, silent_from: int, waited_for: str,
                                                                      tmp_path: Path) -> None:
    kind = type("Silent", (_SilentFrom,), {"silent_from": silent_from})
    with (servers(kind, members) as running,
          serving(tmp_path, running.uri(), AUTH, connection_timeout=1, acquisition_timeout=2 * LIMIT) as host,
          host.driver(max_transaction_retry_time=0) as driver):
        began = time.monotonic()
        with pytest.raises(DatabaseUnavailable, match=waited_for) as caught:
            value(driver)
        assert time.monotonic() - began < 2 * LIMIT, "it waited as long as for a connection that others have"
        assert running.uri() in str(caught.value)
        assert "WORKER_INIT_CONNECTION_TIMEOUT" in str(caught.value)
        assert status(host)["state"] == "down"


# Clusters

def test_reads_need_no_leader(tmp_path: Path) -> None:
    with servers(members=2) as running:
        running.writers, running.readers = [], [1]
        with (serving(tmp_path, running.uri("neo4j"), AUTH) as host,
              host.driver(max_transaction_retry_time=0) as driver):
            assert value(driver, routing_="r") == 1
            with pytest.raises(DatabaseUnavailable, match="leads the database neo4j"):
                value(driver)
            assert value(driver, routing_="r") == 1


def test_a_cluster_is_used_over_as_few_connections_as_a_server(tmp_path: Path) -> None:
    with servers(members=3) as running:
        running.readers = [1, 2]
        with serving(tmp_path, running.uri("neo4j"), AUTH) as host, host.driver() as driver:
            for _ in range(30):
                assert value(driver, routing_="r") in (1, 2)
                assert value(driver) == 0
            is_idle(host)
            assert len(running.connections) == 2, "a reader, and the leader"


class _NoTables(Member):
    """Once ``servers.silent`` is set, no member answers to ROUTE."""

    def answer(self, tag: int, body: bytes) -> None:
        if not (tag == Tag.ROUTE and getattr(self.servers, "silent", False)):
            super().answer(tag, body)


def test_a_routing_table_that_does_not_come_stops_nobody_else(tmp_path: Path) -> None:
    with (servers(_NoTables, members=3) as running,
          serving(tmp_path, running.uri("neo4j"), AUTH, connection_timeout=10 * LIMIT,
                  acquisition_timeout=10 * LIMIT) as host, host.driver() as driver, client(host) as stuck):
        assert value(driver) == 0
        running.silent = True       # type: ignore[attr-defined]
        stuck.sock.sendall(message(Tag.BEGIN, {"db": "other"}))
        wait_until(lambda: status(host)["waits"]["now"] == 1, "it waits for its table")
        assert [value(driver) for _ in range(5)] == [0] * 5
        assert status(host)["waits"]["now"] == 1, "it waits no longer"


def test_a_router_that_does_not_answer_is_passed_over(tmp_path: Path) -> None:
    class OneIsSilent(Member):
        def answer(self, tag: int, body: bytes) -> None:
            if not (tag == Tag.ROUTE and self.servers.opened > 1 and self.number == 0):
                super().answer(tag, body)

    with (servers(OneIsSilent, members=2) as running,
          serving(tmp_path, running.uri("neo4j"), AUTH, connection_timeout=1) as host, host.driver() as driver):
        assert value(driver, routing_="r") in (0, 1)
        running.hang_up()
        wait_until(lambda: status(host)["connections"]["open"] == 0, "they are closed")
        assert value(driver, database_="other") == 0


def test_a_member_that_is_gone_is_passed_over(tmp_path: Path) -> None:
    with servers(members=3) as running:
        running.readers = [1, 2]
        gone = socket.create_server(("127.0.0.1", 0))
        running.ports[1] = gone.getsockname()[1]
        gone.close()
        with serving(tmp_path, running.uri("neo4j"), AUTH) as host, host.driver() as driver:
            assert [value(driver, routing_="r") for _ in range(5)] == [2] * 5


class _Upgraded(Member):
    """Member 1 speaks an older Bolt, until ``servers.is_upgraded`` is set."""

    def __init__(self, running: Servers, number: int) -> None:
        super().__init__(running, number)
        is_new = number != 1 or getattr(running, "is_upgraded", False)
        self.offers = (Version(5, 8), Version(5, 7)) if is_new else (Version(5, 7),)


def test_a_cluster_that_is_upgraded_member_by_member_serves_everybody(tmp_path: Path) -> None:
    """A client from before the older member was seen is turned away once, its driver tries again."""
    with servers(_Upgraded, members=2) as running:
        running.readers = [1]
        with serving(tmp_path, running.uri("neo4j"), AUTH) as host:
            for _ in range(5):
                with host.driver() as driver:
                    assert [value(driver, routing_="r"), value(driver)] == [1, 0]
                    assert driver.get_server_info().protocol_version == (5, 7)
            assert status(host)["clients"]["refused"] <= 1
            running.is_upgraded = True      # type: ignore[attr-defined]
            running.hang_up()
            with host.driver() as driver:
                assert [value(driver, routing_="r"), value(driver)] == [1, 0]
