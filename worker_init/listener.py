"""Accepting clients, with descriptors left for what else a host has to open.

An event loop's own server does not survive a process that has no more descriptors: asyncio's tries again each
second, uvloop's closes the listening socket for good. Here a client for whom there would be none left is hung
up on at once, and its driver tries again.
"""

import asyncio
import errno
import logging
import resource
import socket
from collections.abc import Callable

log = logging.getLogger(__name__)
# Accepted in one turn of the event loop: others want to be served as well.
_AT_ONCE = 64
# Descriptors that clients do not get: for connections to Neo4j, the status, the log.
_RESERVE = 16
_PAUSE_SECONDS = 0.5
_NO_MORE = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listener:
    """A listening socket whose clients get a protocol each. ``on_refused`` is called for each that is hung up on."""

    def __init__(self, sock: socket.socket, protocol: Callable[[], asyncio.Protocol], on_refused: Callable[[], None],
                 ) -> None:
        self._sock = sock
        self._protocol = protocol
        self._on_refused = on_refused
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        sock.setblocking(False)
        self._resume()

    def close(self) -> None:
        """Accept no more; the socket itself is somebody else's."""
        self._loop.remove_reader(self._sock)
        if self._pause:
            self._pause.cancel()

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._sock, self._accept)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                accepted, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._wait(error)
                return
            if accepted.fileno() >= _most_descriptors():
                self._on_refused()
                accepted.close()
                continue
            accepted.setblocking(False)
            task = self._loop.create_task(self._serve(accepted))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol, accepted)
        except OSError as error:
            log.warning("a client could not be served: %s", error)
            accepted.close()

    def _wait(self, error: OSError) -> None:
        """Leave clients in the queue of the socket for a moment: trying again at once would be all that is done."""
        if error.errno not in _NO_MORE:
            raise error
        self._on_refused()
        self._loop.remove_reader(self._sock)
        self._pause = self._loop.call_later(_PAUSE_SECONDS, self._resume)


def _most_descriptors() -> int:
    """Return the lowest number that a client's descriptor may not have: the kernel gives the lowest that is free."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(soft - _RESERVE, _RESERVE) if soft != resource.RLIM_INFINITY else 1 << 30
