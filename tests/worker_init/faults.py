"""Ways to make things go wrong: a network that fails, clients that misbehave or die."""

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from testing.certificates import certificate
from testing.queries import ENDLESS, FILLER, ROWS
from testing.waiting import Answer
from worker_init.bolt import Tag, message
from worker_init.handshake import MAGIC, MANIFEST, Version

_CLIENT = f"""
import sys, time, neo4j
uri, user, password, mode = sys.argv[1:]
session = neo4j.GraphDatabase.driver(uri, auth=(user, password)).session(fetch_size=-1 if mode == "full" else 100)
LONG = {ENDLESS!r}
# No more of them than fit into the heap of the tests' Neo4j, which buffers what a client does not read.
ROWS = {ROWS!r}
FILLER = "a" * {len(FILLER)}
VICTIM = dict(victim=True)
def wait():
    print("ready", flush=True)
    sys.stdin.read()
if mode == "transaction":
    tx = session.begin_transaction(metadata=VICTIM)
    tx.run("CREATE (:Killed)").consume()
    wait()
elif mode == "query":
    print("ready", flush=True)
    session.run(neo4j.Query(LONG, metadata=VICTIM)).consume()
else:
    result = session.run(neo4j.Query(ROWS, metadata=VICTIM), filler=FILLER)
    for _ in range(50):
        next(result)
    wait()
"""


@contextmanager
def client_in(mode: str, uri: str, auth: tuple[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """Run a client that stays in a transaction, a paused stream, a full stream or a long query."""
    command = [sys.executable, "-c", _CLIENT, uri, *auth, mode]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout
        try:
            assert client.stdout.readline() == "ready\n"
            yield client
        finally:
            client.kill()


def kill(client: "subprocess.Popen[str]") -> None:
    """End a process as the kernel does when memory is short."""
    os.kill(client.pid, signal.SIGKILL)
    client.wait()


class _End(asyncio.Protocol):
    """One side of a connection through the hop; what comes here goes out at ``other``."""

    def __init__(self, hop: "Proxy", other: "_End | None" = None) -> None:
        self.transport: asyncio.Transport
        self.other = other
        self._hop = hop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._hop.joined(self)

    def data_received(self, data: bytes) -> None:
        if self._hop.table and _is_route(data):
            self.transport.write(message(Tag.SUCCESS, {"rt": self._hop.table()}))
        elif self.other:
            self._hop.carried += len(data)
            if self._hop.is_old and data.startswith(MAGIC):
                data = data.replace(MANIFEST, bytes(4), 1)
            if self._hop.speaks and data.startswith(MAGIC):
                data = MAGIC + bytes((0, 0, self._hop.speaks.minor, self._hop.speaks.major)) + bytes(12) + data[20:]
            self.other.transport.write(data)

    def connection_lost(self, _: Exception | None) -> None:
        self._hop.ends.pop(self, None)
        self._hop.held_back.discard(self)
        if self.other:
            self.other.transport.close()

    def pause_writing(self) -> None:
        self._hop.held_back.add(self)
        if self.other:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self._hop.held_back.discard(self)
        if self.other:
            self.other.transport.resume_reading()


class Proxy:
    """A TCP hop that can refuse, cut or swallow. It proves itself: ``carried`` counts what went through.

    ``held_back`` has the ends whose peer does not take what is meant for it. While it ``is_old`` a new client
    cannot ask for the manifest of versions, so the server speaks Bolt 5.8 to it as an older one would; ``speaks`` is a
    version that it is made to speak to everybody. As a member of a cluster it answers ROUTE itself, with ``table``.
    """

    def __init__(self, target_port: int, table: Callable[[], dict[str, Any]] | None = None) -> None:
        self.table = table
        self.carried = self.refused = 0
        self.is_old = False
        self.speaks: Version | None = None
        self.ends: dict[_End, bool] = {}
        self.held_back: set[_End] = set()
        self._target_port = target_port
        self._refuses = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._do(self._listen)
        self.port = int(self._server.sockets[0].getsockname()[1])

    @property
    def uri(self) -> str:
        """The server, through this hop."""
        return f"bolt://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Break every connection, and each new one at once."""
        async def cut() -> None:
            self._refuses = True
            for end in [*self.ends]:
                _break(end.transport)
        self._do(cut)

    def swallow(self, *, answers_only: bool = False) -> None:
        """Let every connection stand and nothing through any more; who connects from now on is served."""
        async def swallow() -> None:
            for end, is_far in self.ends.items():
                if is_far or not answers_only:
                    end.transport.pause_reading()
        self._do(swallow)

    def restore(self) -> None:
        """Let connections in again."""
        self._refuses = False

    def close(self) -> None:
        """End the hop with its connections."""
        async def close() -> None:
            self._server.close()
        self.cut()
        self._do(close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def joined(self, end: _End) -> None:
        """Connect a new client to the server, or turn it away."""
        self.ends[end] = end.other is not None
        if end.other:
            end.other.other = end
            end.other.transport.resume_reading()
        elif self._refuses:
            self.refused += 1
            _break(end.transport)
        else:
            end.transport.pause_reading()
            task = self._loop.create_task(self._connect(end))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _listen(self) -> asyncio.Server:
        return await self._loop.create_server(lambda: _End(self), "127.0.0.1", 0)

    async def _connect(self, near: _End) -> None:
        try:
            await self._loop.create_connection(lambda: _End(self, near), "127.0.0.1", self._target_port)
        except OSError:
            _break(near.transport)

    def _do(self, work: Callable[[], Coroutine[Any, Any, Answer]]) -> Answer:
        return asyncio.run_coroutine_threadsafe(work(), self._loop).result()


class ClusterOfProxies:
    """Three proxies in front of one server, as a cluster of three members, with the interface of one proxy.

    What makes things go wrong does so at every member. A table is valid for a second, so it is asked for again and
    again. When the members let connections in again, the next one leads.
    """

    def __init__(self, target_port: int, members: int = 3) -> None:
        self.leader = self.tables = 0
        self.members = [Proxy(target_port, self._table) for _ in range(members)]

    def _table(self) -> dict[str, Any]:
        self.tables += 1
        addresses = [f"127.0.0.1:{member.port}" for member in self.members]
        return {"ttl": 1, "db": "neo4j", "servers": [
            {"role": "ROUTE", "addresses": addresses}, {"role": "READ", "addresses": addresses},
            {"role": "WRITE", "addresses": [addresses[self.leader]]}]}

    @property
    def uri(self) -> str:
        """The cluster, by its first member."""
        return f"neo4j://127.0.0.1:{self.members[0].port}"

    @property
    def carried(self) -> int:
        """How many bytes went through."""
        return sum(member.carried for member in self.members)

    @property
    def refused(self) -> int:
        """How many connections were turned away."""
        return sum(member.refused for member in self.members)

    @property
    def held_back(self) -> set[_End]:
        """The ends whose peer does not take what is meant for it."""
        return set[_End]().union(*(member.held_back for member in self.members))

    @property
    def is_old(self) -> bool:
        """Whether the members speak as older ones would."""
        return self.members[0].is_old

    @is_old.setter
    def is_old(self, is_old: bool) -> None:
        for member in self.members:
            member.is_old = is_old

    def cut(self) -> None:
        """Break every connection, and each new one at once."""
        for member in self.members:
            member.cut()

    def swallow(self, *, answers_only: bool = False) -> None:
        """Let every connection stand and nothing through any more; who connects from now on is served."""
        for member in self.members:
            member.swallow(answers_only=answers_only)

    def restore(self) -> None:
        """Let connections in again; another member leads now."""
        self.leader = (self.leader + 1) % len(self.members)
        for member in self.members:
            member.restore()

    def close(self) -> None:
        """End the members with their connections."""
        for member in self.members:
            member.close()


def _is_route(data: bytes) -> bool:
    """Whether a client sends a ROUTE, which it does by itself."""
    return data[2:4] == bytes((0xB3, Tag.ROUTE))


def _break(transport: asyncio.Transport) -> None:
    """Close with a reset, as a host that has gone away does."""
    with_reset = b"\x01\x00\x00\x00\x00\x00\x00\x00"
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, with_reset)
    transport.abort()


Hop = Proxy | ClusterOfProxies
HOPS: dict[str, Callable[[int], Hop]] = {"bolt": Proxy, "cluster": ClusterOfProxies}
"""What stands before a server: one proxy, or three that are a cluster. The same faults can be brought about in each."""


@contextmanager
def hop_of(kind: str, target_port: int) -> Iterator[Hop]:
    """Run a hop of a kind in front of a port."""
    running = HOPS[kind](target_port)
    try:
        yield running
    finally:
        running.close()


@contextmanager
def proxy(target_port: int) -> Iterator[Proxy]:
    """Run a proxy in front of a port."""
    running = Proxy(target_port)
    try:
        yield running
    finally:
        running.close()


@contextmanager
def tls_hop(folder: Path, target_port: int) -> Iterator[int]:
    """End TLS in front of a port, with a certificate that nobody else trusts; the hop's own port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(folder))
    loop = asyncio.new_event_loop()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target_port)
        await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer), return_exceptions=True)
    server = loop.run_until_complete(asyncio.start_server(accept, "127.0.0.1", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
