"""A cluster of a few lines: Neo4j's own needs a licence, and a leader's change on demand.

Each member answers every query with its own number; ROUTE is answered from ``homes`` and ``leaders``.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from worker_init.bolt import Piece, Tag, body_of, message
from worker_init.packstream import unpack
from worker_init.selftest import ScriptedServer

_NOT_A_LEADER = {"neo4j_code": "Neo.ClientError.Cluster.NotALeader", "message": "No write operations are allowed here",
                 "gql_status": "50N42", "description": "error", "diagnostic_record": {}}


class Cluster:
    """Members 0, 1, …, which listen at ``ports``.

    ``homes`` has each user's home database, the driver's own user under None; ``leaders`` each database's
    leader. ``routed`` counts how often somebody asked for a routing table.
    """

    def __init__(self, homes: dict[str | None, str], leaders: dict[str, int]) -> None:
        self.homes = homes
        self.leaders = leaders
        self.routed = 0
        self.ports: list[int] = []

    def table(self, database: str | None, user: str | None) -> dict[str, Any]:
        """Return what a member answers to ROUTE."""
        self.routed += 1
        name = database or self.homes[user]
        addresses = [f"127.0.0.1:{port}" for port in self.ports]
        leader = addresses[self.leaders[name]]
        return {"rt": {"ttl": 300, "db": name, "servers": [
            {"addresses": addresses, "role": "ROUTE"}, {"addresses": addresses, "role": "READ"},
            {"addresses": [leader], "role": "WRITE"}]}}


class _Member(ScriptedServer):
    def __init__(self, cluster: Cluster, number: int) -> None:
        super().__init__()
        self._cluster = cluster
        self._number = number
        self._writes_here = True

    def take(self, piece: Piece, raw: bytes) -> None:
        assert piece.first
        assert piece.last
        self._answer(piece.tag, body_of(raw))

    def _answer(self, tag: int, body: bytes) -> None:
        fields, at = [], 2
        while at < len(body):
            field, at = unpack(body, at)
            fields.append(field)
        if tag == Tag.BEGIN:
            home = self._cluster.homes[fields[0].get("imp_user")]
            self._writes_here = self._cluster.leaders[fields[0].get("db") or home] == self._number
        answers: dict[int, dict[str, Any]] = {
            Tag.HELLO: {"server": "Neo4j/2026.8.0", "connection_id": "bolt-1", "hints": {"ssr.enabled": True}},
            Tag.RUN: {"fields": ["member"]}}
        if tag == Tag.BEGIN and not self._writes_here:
            self.transport.write(message(Tag.FAILURE, _NOT_A_LEADER))
        elif not self._writes_here and tag != Tag.RESET:
            self.transport.write(message(Tag.IGNORED))
        elif tag == Tag.ROUTE:
            table = self._cluster.table(fields[2].get("db"), fields[2].get("imp_user"))
            self.transport.write(message(Tag.SUCCESS, table))
        elif tag != Tag.GOODBYE:
            record = message(Tag.RECORD, [self._number]) if tag == Tag.PULL else b""
            self._writes_here = True
            self.transport.write(record + message(Tag.SUCCESS, answers.get(tag, {})))


@contextmanager
def cluster(homes: dict[str | None, str], leaders: dict[str, int], members: int) -> Iterator[Cluster]:
    """Run a cluster of so many members."""
    running, loop = Cluster(homes, leaders), asyncio.new_event_loop()

    async def listen(number: int) -> asyncio.Server:
        return await loop.create_server(lambda: _Member(running, number), "127.0.0.1", 0)

    for number in range(members):
        server = loop.run_until_complete(listen(number))
        running.ports.append(server.sockets[0].getsockname()[1])
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield running
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
