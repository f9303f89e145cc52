"""A TCP hop in a separate process: it makes a network slow, or ends TLS in front of a server.

``python -m benchmarks.hop --target-port 7687 --delay 0.005 --connecting`` prints the port that it listens on.
``--delay`` applies to each direction, so it adds twice as much to a round trip. ``--connecting`` also holds back a new
connection for one round trip, as a network does; on a loopback the handshake takes no time. A delay may end up to a
millisecond late, because the timers are that coarse.
"""

import argparse
import asyncio
import socket
import ssl
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from worker_init.arguments import real, whole


class _End(asyncio.Protocol):
    """One side of a connection. What arrives here goes out at ``other``, later."""

    def __init__(self, delay: float, other: "_End | None" = None) -> None:
        self.transport: asyncio.Transport | None = None
        self.other = other
        self.opens_at = 0.0
        self._delay = delay
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[bytes] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self.other:
            self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        self._waiting.append(data)
        self._loop.call_at(max(self._loop.time() + self._delay, self.opens_at), self._send)

    def _send(self) -> None:
        data = self._waiting.popleft()
        if self.other and self.other.transport:
            self.other.transport.write(data)

    def connection_lost(self, _: Exception | None) -> None:
        if self.other and self.other.transport:
            self._loop.call_later(self._delay, self.other.transport.close)


class _Hop:
    def __init__(self, target_port: int, delay: float, *, connecting: bool) -> None:
        self._target_port = target_port
        self._delay = delay
        self._connecting = connecting
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(self) -> _End:
        """Return the near side of a new connection."""
        near = _End(self._delay)
        task = asyncio.ensure_future(self._connect(near))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return near

    async def _connect(self, near: _End) -> None:
        loop = asyncio.get_running_loop()
        far = _End(self._delay, near)
        # Its first bytes would leave when the handshake is over, and then take as long as any others.
        near.opens_at = loop.time() + 3 * self._delay if self._connecting else 0.0
        await loop.create_connection(lambda: far, "127.0.0.1", self._target_port)
        near.other = far
        if near.transport:
            near.transport.resume_reading()


async def serve(target_port: int, delay: float, certificate: Path | None, *, connecting: bool) -> None:
    """Serve until the process is ended; print the port first."""
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    hop = _Hop(target_port, delay, connecting=connecting)
    server = await asyncio.get_running_loop().create_server(hop.accept, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def running(target_port: int, *, delay: float = 0.0, connecting: bool = False,
            certificate: Path | None = None) -> Iterator[int]:
    """Run a hop in front of a port until the block ends; yield the hop's port."""
    command = [sys.executable, "-m", "benchmarks.hop", "--target-port", str(target_port), "--delay", str(delay)]
    command += ["--connecting"] * connecting + (["--certificate", str(certificate)] if certificate else [])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield int(cast("IO[str]", process.stdout).readline())
        finally:
            process.terminate()


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target-port", type=whole(1, 65535), required=True)
    parser.add_argument("--delay", type=real(0), default=0.0, help="seconds, each way")
    parser.add_argument("--connecting", action="store_true", help="hold back a new connection for a round trip")
    parser.add_argument("--certificate", type=Path, help="PEM file with certificate and key: end TLS with it")
    options = parser.parse_args()
    asyncio.run(serve(options.target_port, options.delay, options.certificate, connecting=options.connecting))


if __name__ == "__main__":
    main()
