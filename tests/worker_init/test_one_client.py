"""What one client does wrongly is its own affair, and what is gone has no effect: others are served."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import neo4j
import psutil
import pytest

from testing.servers import Serving, serving
from testing.waiting import wait_until
from tests.worker_init.stand_in import BOLT_5_8, PULL, RUN, RawClient, StandIn, lent, stand_in, status_of, waiting
from tests.worker_init.test_faults import peak_megabytes
from tests.worker_init.test_fidelity import hide_uvloop
from worker_init.bolt import Tag, chunked, message
from worker_init.packstream import pack

pytestmark = pytest.mark.host

ANSWERED = [Tag.SUCCESS, Tag.RECORD, Tag.SUCCESS]
AUTH = ("neo4j", "x")
NOOP = b"\x00\x00"


@pytest.fixture
def server() -> Iterator[StandIn]:
    with stand_in() as running:
        yield running


@contextmanager
def killed(host: Serving, send: Callable[[RawClient], object]) -> Iterator[Callable[[], None]]:
    """Run a client in a process of its own, and give what kills it."""
    pid = os.fork()
    if not pid:
        try:
            with RawClient(host) as client:
                send(client)
                signal.pause()
        finally:
            os._exit(0)

    def kill() -> None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    yield kill


def large_query(size: int) -> bytes:
    return message(Tag.RUN, "CREATE (n:Paid {note: $x})", {"x": "y" * size}, {}) + PULL


@pytest.mark.parametrize("wrong", [b"\x00\x02\xb0\x77\x00\x00", message(Tag.ROUTE, {}, ["x" * 1_200_000], {}),
                                   message(Tag.HELLO, {})], ids=["an unknown message", "ROUTE of 1 MB", "HELLO"])
def test_what_is_sent_wrongly_behind_a_query_breaks_nobody_elses(wrong: bytes, server: StandIn, folder: Path) -> None:
    with (serving(folder, server.uri, AUTH, max_size=1) as host, RawClient(host) as bystander, RawClient(host) as bad):
        assert bystander.one() == ANSWERED
        server.hold = True
        bad.send(RUN + PULL + wrong)
        wait_until(lambda: lent(host)() == 1, "the query is at the server")
        bystander.send(RUN + PULL)
        wait_until(lambda: waiting(host)() == 1, "the bystander waits")
        server.let_go()
        assert [bystander.read()[0] for _ in range(3)] == ANSWERED
        assert [bad.read()[0] for _ in range(3)] == ANSWERED
        assert bad.is_hung_up_on()
        status = status_of(host)
    assert (status["connections"]["opened"], status["clients"]["refused"]) == (1, 1)
    assert status["faults"] == {"own": 0, "server": 0}


def test_a_client_that_waits_behind_a_violator_is_told_when_the_server_is_away(server: StandIn, folder: Path) -> None:
    with (serving(folder, server.uri, AUTH, max_size=1) as host, RawClient(host) as bad,
          RawClient(host) as first, RawClient(host) as second):
        assert bad.one() == ANSWERED
        server.is_silent = True
        server.cut()
        wait_until(lambda: not server.connections, "its connection is gone")
        bad.send(RUN + message(Tag.ROUTE, {}, ["x" * 1_200_000], {}))
        wait_until(lambda: waiting(host)() == 1, "it waits")
        for client in (first, second):
            client.send(RUN)
        wait_until(lambda: waiting(host)() == 3, "the others wait behind it")
        server.cut()
        for client in (bad, first, second):
            tag, failure = client.read()
            assert (tag, failure["neo4j_code"]) == (Tag.FAILURE, "Neo.TransientError.General.DatabaseUnavailable")
        assert bad.is_hung_up_on()


@pytest.mark.parametrize("size", [1000, 1_500_000, 30_000_000])
def test_a_client_that_is_killed_while_it_waits_has_no_effect(size: int, server: StandIn, folder: Path) -> None:
    with (serving(folder, server.uri, AUTH, max_size=1, acquisition_timeout=600) as host,
          RawClient(host) as holder):
        holder.send(message(Tag.BEGIN, {}))
        holder.read()
        with killed(host, lambda client: client.send(large_query(size))) as kill:
            wait_until(lambda: waiting(host)() == 1, "it waits")
            kill()
        wait_until(lambda: waiting(host)() == 0, "it has left the queue")
        holder.send(message(Tag.COMMIT))
        holder.read()
        assert holder.one() == ANSWERED
        assert server.seen.count(Tag.RUN) == 1


def test_a_client_gets_signs_of_life_while_the_server_takes_its_held_query(server: StandIn, folder: Path) -> None:
    """Directly it would be sending for as long. Here it has sent all, and its driver would give up."""
    server.hints = {"connection.recv_timeout_seconds": 1}
    server.stops_at = 100_000
    with (serving(folder, server.uri, AUTH) as host,
          RawClient(host, hello={"notifications_minimum_severity": "OFF"}) as client):
        client.send(large_query(30_000_000))
        assert [client.sock.recv(len(NOOP)) for _ in range(2)] == [NOOP, NOOP]


def test_a_client_that_is_killed_while_the_host_is_stopped_has_no_effect(server: StandIn, folder: Path) -> None:
    with serving(folder, server.uri, AUTH) as host, RawClient(host) as other:
        ready, go = os.pipe(), os.pipe()

        def send(client: RawClient) -> None:
            os.write(ready[1], b"x")
            os.read(go[0], 1)
            client.send(RUN + PULL)
            os.write(ready[1], b"x")
        with killed(host, send) as kill:
            os.read(ready[0], 1)
            host.process.send_signal(signal.SIGSTOP)
            os.write(go[1], b"x")
            os.read(ready[0], 1)
            kill()
            host.process.send_signal(signal.SIGCONT)
        assert other.one() == ANSWERED
        wait_until(lambda: status_of(host)["clients"]["now"] == 1, "it is gone")
        assert server.seen.count(Tag.RUN) == 1


def test_a_client_that_is_killed_before_a_server_that_does_not_read_gives_its_place_back(
        server: StandIn, folder: Path) -> None:
    server.stops_at = 100_000
    with serving(folder, server.uri, AUTH, max_size=1) as host:
        with killed(host, lambda client: client.send(large_query(30_000_000))) as kill:
            wait_until(lambda: lent(host)() == 1, "its query is on its way")
            wait_until(lambda: server.seen.count(Tag.RUN) == 1, "a part of it is at the server")
            kill()
        wait_until(lambda: lent(host)() == 0, "its connection is closed")
        with RawClient(host) as other:
            assert other.one() == ANSWERED


def test_a_client_that_waits_for_a_connection_outlives_its_own_drivers_patience(server: StandIn, folder: Path) -> None:
    server.hints = {"connection.recv_timeout_seconds": 1}
    with (serving(folder, server.uri, AUTH, max_size=1) as host, RawClient(host) as holder,
          host.driver(max_transaction_retry_time=0) as driver, driver.session() as session):
        holder.send(message(Tag.BEGIN, {}))
        holder.read()
        found: list[neo4j.Record | Exception] = []

        def ask() -> None:
            try:
                found.append(session.run("RETURN 1").single(strict=True))
            except Exception as error:
                found.append(error)
        thread = threading.Thread(target=ask)
        thread.start()
        wait_until(lambda: waiting(host)() == 1, "it waits")
        thread.join(2.5)    # twice as long as its driver waits for a sign of life
        holder.send(message(Tag.COMMIT))
        thread.join(60)
        assert [type(answer) for answer in found] == [neo4j.Record], found


def read_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def endlessly(send: Callable[[bytes], object], block: bytes) -> None:
    """Send, up to far more than is held anywhere."""
    for _ in range(200_000_000 // len(block)):
        send(block)


FLOODS = {"before the server is known": (True, BOLT_5_8), "before HELLO": (False, BOLT_5_8),
          "before LOGON": (False, BOLT_5_8 + message(Tag.HELLO, {}))}


@pytest.mark.parametrize(("is_silent", "opening"), FLOODS.values(), ids=FLOODS)
def test_a_client_that_sends_without_an_end_before_logon_is_cut_off(is_silent: bool, opening: bytes, server: StandIn,
                                                                 folder: Path) -> None:
    server.is_silent = is_silent
    with serving(folder, server.uri, AUTH) as host:
        before = peak_megabytes(host.process.pid)
        with socket.create_connection(("127.0.0.1", host.port), timeout=60) as sock:
            sock.sendall(opening)
            with pytest.raises(ConnectionError):
                endlessly(sock.sendall, bytes(100_000))
        assert peak_megabytes(host.process.pid) - before < 10
        wait_until(lambda: status_of(host)["clients"]["refused"] == 1, "it is counted")


AHEAD = {"NOOPs and RESETs": bytes(200_000) + message(Tag.RESET), "messages": message(Tag.TELEMETRY, 1) * 1000,
         "a large query": large_query(1_000_000)}


@pytest.mark.parametrize("block", AHEAD.values(), ids=AHEAD)
def test_a_client_that_sends_ahead_without_an_end_is_not_read_from(block: bytes, server: StandIn, folder: Path) -> None:
    with serving(folder, server.uri, AUTH, max_size=1) as host, RawClient(host) as holder:
        holder.send(message(Tag.BEGIN, {}))
        holder.read()
        before = peak_megabytes(host.process.pid)
        with RawClient(host, seconds=2) as client:
            client.send(RUN)
            wait_until(lambda: waiting(host)() == 1, "it waits")
            with pytest.raises(TimeoutError):
                endlessly(client.send, block)
        assert peak_megabytes(host.process.pid) - before < 10


def test_a_client_that_reads_nothing_is_not_read_from(server: StandIn, folder: Path) -> None:
    with serving(folder, server.uri, AUTH) as host, RawClient(host, seconds=2) as client:
        before = peak_megabytes(host.process.pid)
        with pytest.raises(TimeoutError):
            endlessly(client.send, message(Tag.TELEMETRY, 1) * 20_000)
        assert peak_megabytes(host.process.pid) - before < 10


@pytest.mark.parametrize("scheme", ["bolt", "neo4j"])
def test_millions_of_parameters_that_have_to_be_read_keep_nobody_waiting(scheme: str, server: StandIn,
                                                                         folder: Path) -> None:
    values = 10_000_000
    body = b"\xb3\x10" + pack("RETURN 1") + b"\xa1\x81x\xd6" + values.to_bytes(4, "big") + b"\x90" * values + b"\xa0"
    with (serving(folder, server.uri, AUTH) as host, RawClient(host) as bystander,
          RawClient(host, hello={"notifications_minimum_severity": "OFF"}) as large):
        before = peak_megabytes(host.process.pid)
        sender = threading.Thread(target=lambda: large.send(chunked(body) + PULL))
        sender.start()
        slowest, sent_at = 0.0, time.monotonic()
        while Tag.RUN not in server.seen or sender.is_alive():
            began = time.monotonic()
            bystander.send(message(Tag.TELEMETRY, 1))
            bystander.read()
            slowest = max(slowest, time.monotonic() - began)
        took = time.monotonic() - sent_at
        sender.join()
        assert [large.read()[0] for _ in range(3)] == ANSWERED
        assert slowest < took / 3    # however busy the machine is: one step of many takes 20 ms at most
        assert peak_megabytes(host.process.pid) - before < 3 * len(body) / 1e6


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_host_without_descriptors_serves_on(loop: str, server: StandIn, folder: Path) -> None:
    limited = folder / "python"
    limited.write_text(f'#!/bin/sh\nexec prlimit --nofile=64:64 {sys.executable} "$@"\n', encoding="utf-8")
    limited.chmod(0o755)
    with ExitStack() as stack:
        if loop == "asyncio":
            hide_uvloop(folder, stack)
        host = stack.enter_context(serving(folder / "host", server.uri, AUTH, python=str(limited)))
        old = stack.enter_context(RawClient(host))
        assert old.one() == ANSWERED
        with ExitStack() as many:
            for _ in range(100):
                many.enter_context(socket.create_connection(("127.0.0.1", host.port)))
            wait_until(lambda: status_of(host)["clients"]["refused"] > 0, "some are refused")
            worked, began = read_seconds(host.process.pid), time.monotonic()
            wait_until(lambda: time.monotonic() - began > 1, "it has had a second to spin in")
            assert read_seconds(host.process.pid) - worked < (time.monotonic() - began) / 4
            assert old.one() == ANSWERED
        wait_until(lambda: status_of(host)["clients"]["now"] == 1, "they are gone")
        with RawClient(host) as new:
            assert new.one() == ANSWERED


def conversation(auth: tuple[str, str]) -> list[bytes]:
    """Return what a client says in a transaction, in steps at each of which it can die; RUN takes two."""
    return [BOLT_5_8[:7], BOLT_5_8[7:], message(Tag.HELLO, {}),
            message(Tag.LOGON, {"scheme": "basic", "principal": auth[0], "credentials": auth[1]}),
            message(Tag.BEGIN, {}), RUN[:9], RUN[9:], PULL, message(Tag.COMMIT), message(Tag.GOODBYE)]


OF_THE_TRANSACTION = (Tag.BEGIN, Tag.RUN, Tag.PULL, Tag.COMMIT)


def die_after(port: int, said: list[bytes]) -> None:
    """Say this, and be gone without reading an answer."""
    with socket.create_connection(("127.0.0.1", port)) as dying:
        dying.sendall(b"".join(said))


def test_nothing_of_a_dead_client_arrives_that_would_not_arrive_from_it_directly(server: StandIn, folder: Path) -> None:
    with serving(folder, server.uri, AUTH) as host:
        with RawClient(host) as first:
            assert first.one() == ANSWERED

        def nobody_is_here() -> bool:
            status = status_of(host)
            left = status["clients"]["now"], status["connections"]["in_use"], status["connections"]["open"]
            return left == (0, 0, len(server.connections))
        for steps in range(1, len(conversation(host.auth)) + 1):
            arrived = []
            for port in (server.port, host.port):
                wait_until(nobody_is_here, "nobody is here")
                at, opened, clients = len(server.seen), server.opened, status_of(host)["clients"]["total"]
                die_after(port, conversation(host.auth)[:steps])
                came = (lambda before=opened: server.opened > before) if port == server.port else (
                    lambda before=clients: status_of(host)["clients"]["total"] > before)
                wait_until(came, "it was here")
                wait_until(nobody_is_here, "it is gone")
                arrived.append([tag for tag in server.seen[at:] if tag in OF_THE_TRANSACTION])
            directly, through = arrived
            assert through == directly[:len(through)], steps
        assert status_of(host)["faults"] == {"own": 0, "server": 0}
