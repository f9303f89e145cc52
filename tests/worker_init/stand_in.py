"""A server of a few lines in Neo4j's place, to have it stall or fall silent when a test says so, and a raw client."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from testing.servers import Serving
from worker_init.bolt import Piece, Scanner, Tag, body_of, message
from worker_init.control import find_folders, read_status
from worker_init.handshake import MAGIC
from worker_init.packstream import unpack_map
from worker_init.selftest import ScriptedServer

BOLT_5_8 = MAGIC + b"\x00\x00\x08\x05" + b"\x00" * 12
RUN, PULL = message(Tag.RUN, "RETURN 1", {}, {}), message(Tag.PULL, {"n": -1})
ROW = message(Tag.RECORD, [1])
SUCCESS = message(Tag.SUCCESS, {})


class StandIn:
    """What all connections of the server have in common. ``seen`` has the tags of what came, in order.

    While it ``is_silent`` a connection is accepted and never answered; a query of more than ``stops_at`` bytes is read
    no further. ``hold`` keeps the answers to PULL back until ``let_go``.
    """

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.hints: dict[str, Any] = {}
        self.is_silent = self.hold = False
        self.stops_at: int | None = None
        self.port = 0
        self.connections: set[_Connection] = set()
        self.opened = 0
        self.loop = asyncio.new_event_loop()

    @property
    def uri(self) -> str:
        return f"bolt://127.0.0.1:{self.port}"

    def let_go(self) -> None:
        """Answer what was held back."""
        self.hold = False
        for connection in [*self.connections]:
            self.loop.call_soon_threadsafe(connection.let_go)

    def cut(self) -> None:
        """Break every connection."""
        for connection in [*self.connections]:
            self.loop.call_soon_threadsafe(connection.transport.abort)


class _Connection(ScriptedServer):
    def __init__(self, server: StandIn) -> None:
        super().__init__()
        self._server = server
        self._size = 0
        self._held = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._server.connections.add(self)
        self._server.opened += 1

    def connection_lost(self, _: Exception | None) -> None:
        self._server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        if not self._server.is_silent:
            super().data_received(data)

    def take(self, piece: Piece, raw: bytes) -> None:
        self._size = len(raw) if piece.first else self._size + len(raw)
        if self._server.stops_at is not None and self._size > self._server.stops_at:
            self.transport.pause_reading()
        if piece.first:
            self._server.seen.append(piece.tag)
        if not piece.last or piece.tag == Tag.GOODBYE:
            return
        if piece.tag == Tag.PULL and self._server.hold:
            self._held += 1
            return
        hello = {"server": "Neo4j/5.26.0", "connection_id": "bolt-1", "hints": self._server.hints}
        answers: dict[int, dict[str, Any]] = {Tag.HELLO: hello, Tag.RUN: {"fields": ["x"]}}
        rows = ROW if piece.tag == Tag.PULL else b""
        self.transport.write(rows + message(Tag.SUCCESS, answers.get(piece.tag, {})))

    def let_go(self) -> None:
        self.transport.write((ROW + SUCCESS) * self._held)
        self._held = 0


@contextmanager
def stand_in() -> Iterator[StandIn]:
    """Run the server in a thread."""
    running = StandIn()

    async def listen() -> asyncio.Server:
        return await running.loop.create_server(lambda: _Connection(running), "127.0.0.1", 0)

    async def end() -> None:
        listening.close()
        for connection in [*running.connections]:
            connection.transport.abort()
        await asyncio.sleep(0)
        running.loop.stop()
    listening = running.loop.run_until_complete(listen())
    running.port = listening.sockets[0].getsockname()[1]
    thread = threading.Thread(target=running.loop.run_forever)
    thread.start()
    try:
        yield running
    finally:
        running.loop.call_soon_threadsafe(lambda: running.loop.create_task(end()))
        thread.join()


class RawClient:
    """A client of Bolt 5.8 that sends what it is told to."""

    def __init__(self, host: Serving, *, hello: dict[str, Any] | None = None, seconds: float = 60.0) -> None:
        self.sock = socket.create_connection(("127.0.0.1", host.port), timeout=seconds)
        self._scanner = Scanner()
        self._whole = b""
        self._read: list[tuple[int, dict[str, Any]]] = []
        self.send(BOLT_5_8 + message(Tag.HELLO, hello or {}) + message(
            Tag.LOGON, {"scheme": "basic", "principal": host.auth[0], "credentials": host.auth[1]}))
        assert self.sock.recv(4, socket.MSG_WAITALL) == b"\x00\x00\x08\x05"
        assert [self.read()[0] for _ in range(2)] == [Tag.SUCCESS, Tag.SUCCESS]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.sock.sendall(data)

    def read(self) -> tuple[int, dict[str, Any]]:
        """Return the next message's tag and its metadata; raise EOFError at the end."""
        while not self._read:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError
            for piece in self._scanner.feed(data):
                self._whole += self._scanner.block[piece.start:piece.stop]
                if piece.last:
                    body, self._whole = body_of(self._whole), b""
                    self._read.append((piece.tag, unpack_map(body, 2)[0] if piece.tag in (0x70, 0x7F) else {}))
        return self._read.pop(0)

    def one(self) -> list[int]:
        """Run a query to its end; return the tags of its answers."""
        self.send(RUN + PULL)
        return [self.read()[0] for _ in range(3)]

    def is_hung_up_on(self) -> bool:
        """Whether the relay ends the connection, whatever it says before."""
        try:
            while True:
                self.read()
        except (EOFError, ConnectionError):
            return True


def status_of(host: Serving) -> dict[str, Any]:
    """Return the status of a host's first driver."""
    status: dict[str, Any] = read_status(find_folders(host.folder)[0], 5.0)["drivers"][0]
    return status


def lent(host: Serving) -> Callable[[], int]:
    """Return what says how many connections are lent."""
    return lambda: int(status_of(host)["connections"]["in_use"])


def waiting(host: Serving) -> Callable[[], int]:
    """Return what says how many clients wait for one."""
    return lambda: int(status_of(host)["waits"]["now"])
