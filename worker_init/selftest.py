"""Tells whether the installed driver still has the internals that :mod:`worker_init.upstream` uses.

It tries the driver itself, against a server of a few lines on the loopback: open a connection, exchange bytes on it,
close it. This takes some milliseconds.

There are two errors. ``UnfitDriver`` means that the test ran and failed. ``SelfTestNotRun`` means that the machine
could not run it: it had no descriptors or memory, or was too slow.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import cast

from worker_init.bolt import Piece, Scanner, Tag, message
from worker_init.errors import ProtocolViolation, SelfTestNotRun, UnfitDriver, is_of_the_driver
from worker_init.handshake import Negotiation, Version
from worker_init.routing import Place
from worker_init.targets import Target
from worker_init.upstream import TESTED, OnAnswer, OnNonsense, Upstream, driver_version

log = logging.getLogger(__name__)
_SECONDS = 10.0
_SUCCESS = message(Tag.SUCCESS, {"server": "Neo4j/self-test", "connection_id": "self-test", "hints": {}})


class ScriptedServer(asyncio.Protocol, ABC):
    """The server's side of Bolt 5.8, up to the messages. ``take`` decides how they are answered."""

    offers: tuple[Version, ...] = (Version(5, 8),)

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self._negotiation: Negotiation | None = Negotiation()
        self._scanner = Scanner()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: a client is here."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """asyncio: agree on the version first, then handle the messages."""
        if self._negotiation:
            self._negotiation.feed(data)
            if self._negotiation.wants_offers:
                self.transport.write(self._negotiation.answer(self.offers))
            if not self._negotiation.version:
                return
            data, self._negotiation = self._negotiation.rest, None
        for piece in self._scanner.feed(data):
            self.take(piece, self._scanner.block[piece.start:piece.stop])

    @abstractmethod
    def take(self, piece: Piece, raw: bytes) -> None:
        """Handle a piece of a message, and answer."""


class _Agreeing(ScriptedServer):
    """Answers every message with SUCCESS."""

    def take(self, piece: Piece, _: bytes) -> None:
        if piece.last and piece.tag != Tag.GOODBYE:
            self.transport.write(_SUCCESS)


async def check_driver() -> None:
    """Raise UnfitDriver with the reason if the driver cannot be an upstream.

    Raises SelfTestNotRun if this could not be found out.
    """
    if driver_version not in TESTED:
        log.warning("neo4j %s is not among the tested versions (%s)", driver_version, ", ".join(TESTED))
    try:
        await asyncio.wait_for(_run(), _SECONDS)
    except Exception as error:
        what = f"neo4j {driver_version}: {type(error).__name__}: {error}"
        if is_of_the_driver(error):
            raise UnfitDriver(f"this Neo4j driver cannot be shared ({what})") from error
        raise SelfTestNotRun(f"the Neo4j driver could not be tested ({what})") from error


async def _run() -> None:
    server = await asyncio.get_running_loop().create_server(_Agreeing, "127.0.0.1", 0)
    try:
        await _exercise(server.sockets[0].getsockname()[1])
    finally:
        server.close()


async def _exercise(port: int) -> None:
    for scheme in ("bolt", "neo4j"):
        upstream = Upstream(Target(f"{scheme}://127.0.0.1:{port}", "self", "test"), _SECONDS)
        _expect(upstream.is_routed == (scheme == "neo4j"), "a URI tells whether it routes")
        try:
            connection = await upstream.connect(Place(upstream.seed))
            _expect(upstream.opened == upstream.open == 1, "one connection is counted")
            _expect(connection.server.version == (5, 8), "its version is known")
            _expect(await _tag_of(connection.ask_alive) == Tag.SUCCESS, "RESET is answered")
            _expect(await _tag_of(partial(connection.ask_table, None, None, ())) == Tag.SUCCESS, "ROUTE is answered")
            connection.close()
            _expect(upstream.open == 0, "a closed connection is not counted")
        finally:
            await upstream.close()


async def _tag_of(ask: Callable[[OnAnswer, OnNonsense], None]) -> int:
    """Ask the server for something; return the tag of its answer."""
    answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    ask(lambda tag, _: answer.set_result(tag), lambda why: answer.set_exception(ProtocolViolation(why)))
    return await answer


def _expect(truth: bool, what: str) -> None:
    if not truth:
        raise UnfitDriver(f"expected: {what}")
