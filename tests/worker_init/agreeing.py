"""A Bolt server in a thread that agrees with everything, for tests of what is in front of it."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from worker_init.bolt import Piece, Tag, message
from worker_init.selftest import ScriptedServer

_SUCCESS = message(Tag.SUCCESS, {"server": "Neo4j/5.26.0", "connection_id": "bolt-1", "hints": {}, "fields": ["x"]})


class _Agreeing(ScriptedServer):
    """Answers every message with SUCCESS: a query has no rows."""

    def take(self, piece: Piece, _: bytes) -> None:
        if piece.last and piece.tag != Tag.GOODBYE:
            self.transport.write(_SUCCESS)


@contextmanager
def agreeing_server() -> Iterator[str]:
    """Run one until the block ends; yield its address."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(_Agreeing, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield f"bolt://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
