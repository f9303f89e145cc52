"""Tells whether the installed driver still has the inside that :mod:`worker_init.upstream` uses.

The driver itself is asked, against a server of a few lines on the loopback: open a
connection, exchange bytes on it, give it back, close it. It takes some milliseconds.
"""

import asyncio
import logging
from typing import cast

from worker_init.bolt import Scanner, Tag, message
from worker_init.connections import Target
from worker_init.errors import UnfitDriver
from worker_init.handshake import Negotiation, Version
from worker_init.upstream import TESTED, Route, Timeouts, Upstream, driver_version

log = logging.getLogger(__name__)
_SECONDS = 10.0
_SUCCESS = message(Tag.SUCCESS, {"server": "Neo4j/self-test", "connection_id": "self-test", "hints": {}})


class _Server(asyncio.Protocol):
    """Answers every message with SUCCESS."""

    def __init__(self) -> None:
        self._negotiation: Negotiation | None = Negotiation()
        self._scanner = Scanner()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._negotiation:
            self._negotiation.feed(data)
            if self._negotiation.wants_offers:
                self._transport.write(self._negotiation.answer((Version(5, 8),)))
            if not self._negotiation.version:
                return
            data, self._negotiation = self._negotiation.rest, None
        ended = [piece for piece in self._scanner.feed(data) if piece.last and piece.tag != Tag.GOODBYE]
        self._transport.write(_SUCCESS * len(ended))


async def check_driver() -> None:
    """Raise UnfitDriver with the reason where the driver cannot be an upstream."""
    if driver_version not in TESTED:
        log.warning("neo4j %s is not among the tested versions (%s)", driver_version, ", ".join(TESTED))
    server = await asyncio.get_running_loop().create_server(_Server, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        await asyncio.wait_for(_exercise(port), _SECONDS)
    except Exception as error:
        raise UnfitDriver(f"neo4j {driver_version}: {type(error).__name__}: {error}") from error
    finally:
        server.close()


async def _exercise(port: int) -> None:
    upstream = Upstream(Target(f"bolt://127.0.0.1:{port}", "self", "test"), Timeouts(_SECONDS, _SECONDS))
    try:
        connection = await upstream.connect(Route())
        _expect(upstream.opened == upstream.open == 1, "one connection is counted")
        _expect(connection.server.version == (5, 8), "its version is known")
        await connection.reset(_SECONDS)
        await upstream.give_back(connection)
        connection = await upstream.connect(Route())
        _expect(upstream.opened == 1, "a connection that was given back is used again")
        await connection.reset(_SECONDS)
        upstream.close_connection(connection)
        _expect(upstream.open == 0, "a closed connection is not counted")
    finally:
        await upstream.close()


def _expect(truth: bool, what: str) -> None:
    if not truth:
        raise UnfitDriver(f"expected: {what}")
