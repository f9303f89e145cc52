"""Accepts clients, and keeps some descriptors free for everything else that a host must open.

An event loop's own server copes badly when a process runs out of descriptors: asyncio's tries again each second, and
uvloop's closes the listening socket for good. Here, a client that would take one of the last descriptors is
disconnected at once, and its driver tries again.
"""

import asyncio
import errno
import logging
import resource
import socket
from collections.abc import Callable

log = logging.getLogger(__name__)
# How many clients are accepted in one turn of the event loop, so that others are served as well.
_AT_ONCE = 64
# Descriptors that clients do not get. They are for connections to Neo4j, the status and the log.
_RESERVE = 16
_PAUSE_SECONDS = 0.5
_NO_MORE = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listener:
    """A listening socket whose clients get a protocol each. ``on_refused`` is called for each refused client."""

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
        """Stop accepting. The socket itself belongs to the caller."""
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
        """Leave clients in the socket's queue for a moment. Trying again at once would take up all the time."""
        if error.errno not in _NO_MORE:
            raise error
        self._on_refused()
        self._loop.remove_reader(self._sock)
        self._pause = self._loop.call_later(_PAUSE_SECONDS, self._resume)


def _most_descriptors() -> int:
    """Return the lowest descriptor number that a client may not have: the kernel gives out the lowest free one."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(soft - _RESERVE, _RESERVE) if soft != resource.RLIM_INFINITY else 1 << 30
