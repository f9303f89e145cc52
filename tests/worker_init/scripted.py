"""A scripted server: members that answer as told, so that a server's faults can be brought about at will."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from worker_init.bolt import Piece, Tag, body_of, message
from worker_init.packstream import unpack
from worker_init.selftest import ScriptedServer


class Member(ScriptedServer):
    """One connection of a server that says yes to everything; a test's own class says what it does otherwise."""

    agent = "Neo4j/5.26.0"

    def __init__(self, servers: "Servers", number: int) -> None:
        super().__init__()
        self.servers = servers
        self.number = number
        self._held = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.servers.opened += 1
        self.servers.connections.append(self)
        self.servers.most = max(self.servers.most, len(self.servers.connections))

    def connection_lost(self, _: Exception | None) -> None:
        self.servers.connections.remove(self)

    def take(self, piece: Piece, raw: bytes) -> None:
        self._held += raw
        if piece.last:
            whole, self._held = bytes(self._held), bytearray()
            self.answer(piece.tag, body_of(whole))

    def answer(self, tag: int, body: bytes) -> None:
        """Answer one message."""
        if tag == Tag.GOODBYE:
            self.transport.close()
        elif tag == Tag.HELLO:
            self.succeed(server=self.agent, connection_id="bolt-1", hints={})
        elif tag == Tag.ROUTE:
            fields, at = [], 2
            while at < len(body):
                field, at = unpack(body, at)
                fields.append(field)
            self.succeed(rt=self.servers.table(fields[2].get("db")))
        elif tag == Tag.PULL:
            self.transport.write(message(Tag.RECORD, [self.number]))
            self.succeed()
        else:
            self.succeed(**{"fields": ["member"]} if tag == Tag.RUN else {})

    def succeed(self, **metadata: Any) -> None:
        """Say SUCCESS."""
        self.transport.write(message(Tag.SUCCESS, metadata))


class Servers:
    """So many members; ``writers`` are the numbers of those that lead. ``most`` were open at once."""

    def __init__(self, kind: type[Member], members: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.connections: list[Member] = []
        self.opened = self.most = 0
        self.writers = [0]
        self.readers = [*range(members)]
        self.ports: list[int] = []
        self._kind = kind
        for number in range(members):
            self._listen(number)

    def _listen(self, number: int) -> None:
        server = self.loop.run_until_complete(
            self.loop.create_server(lambda: self._kind(self, number), "127.0.0.1", 0))
        self.ports.append(server.sockets[0].getsockname()[1])

    def uri(self, scheme: str | None = None) -> str:
        """Return the address of the first member; several are a cluster, unless told otherwise."""
        scheme = scheme or ("bolt" if len(self.ports) == 1 else "neo4j")
        return f"{scheme}://127.0.0.1:{self.ports[0]}"

    def table(self, database: str | None) -> dict[str, Any]:
        """Return what a member answers to ROUTE."""
        def at(numbers: list[int]) -> list[str]:
            return [f"127.0.0.1:{self.ports[number]}" for number in numbers]
        return {"ttl": 300, "db": database or "neo4j", "servers": [
            {"role": "ROUTE", "addresses": at([*range(len(self.ports))])},
            {"role": "READ", "addresses": at(self.readers)}, {"role": "WRITE", "addresses": at(self.writers)}]}

    def hang_up(self) -> None:
        """Close every connection."""
        def close() -> None:
            for connection in [*self.connections]:
                connection.transport.close()
        self.loop.call_soon_threadsafe(close)


@contextmanager
def servers(kind: type[Member] = Member, members: int = 1) -> Iterator[Servers]:
    """Run scripted members."""
    running = Servers(kind, members)
    thread = threading.Thread(target=running.loop.run_forever)
    thread.start()
    try:
        yield running
    finally:
        running.loop.call_soon_threadsafe(running.loop.stop)
        thread.join()
