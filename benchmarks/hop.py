"""A TCP hop in a separate process: it makes a network slow, ends TLS in front of a server, or joins two networks.

``python -m benchmarks.hop --target-port 7687 --delay 0.005 --connecting`` prints the port that it listens on.
``--delay`` applies to each direction, so it adds twice as much to a round trip. ``--connecting`` also holds back a new
connection for one round trip, as a network does; on a loopback the handshake takes no time. A delay may end up to a
millisecond late, because the timers are that coarse.

``--inside PID`` listens in the network of another process, at the same port numbers as the targets, and connects to
them in this process's own network. It needs Linux, and root.
"""

import argparse
import asyncio
import ctypes
import os
import socket
import ssl
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import IO, cast

from worker_init.arguments import real, whole

BACKLOG = 1024      # connections that wait to be accepted; the system's own limit holds as well


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
        try:
            await loop.create_connection(lambda: far, "127.0.0.1", self._target_port)
        except OSError:     # the server is down: the client must not wait for an answer
            if near.transport:
                near.transport.close()
            return
        near.other = far
        if near.transport:
            near.transport.resume_reading()


async def serve(target_ports: Sequence[int], delay: float, certificate: Path | None, *, connecting: bool,
                inside: int | None = None) -> None:
    """Serve until the process is ended; first print the port of each target, on a line."""
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    listeners = list(_listeners(target_ports, inside))
    async with AsyncExitStack() as stack:
        for target, listener in zip(target_ports, listeners, strict=True):
            hop = _Hop(target, delay, connecting=connecting)
            await stack.enter_async_context(await asyncio.get_running_loop().create_server(
                hop.accept, sock=listener, backlog=BACKLOG, ssl=context))
        print(*(listener.getsockname()[1] for listener in listeners), flush=True)
        await asyncio.Event().wait()


def _listeners(target_ports: Sequence[int], inside: int | None) -> Iterator[socket.socket]:
    """Yield a socket for each target: at the target's port in the network of a process, or at a free one in ours."""
    if inside is None:
        yield from (socket.create_server(("127.0.0.1", 0)) for _ in target_ports)
        return
    with _network_of(inside):
        made = [socket.create_server(("127.0.0.1", port), backlog=BACKLOG) for port in target_ports]
    yield from made


@contextmanager
def _network_of(pid: int) -> Iterator[None]:
    """Let this thread make its sockets in the network of another process. A socket stays in the one it was made in."""
    ours, theirs = (os.open(f"/proc/{name}/ns/net", os.O_RDONLY) for name in ("thread-self", pid))
    try:
        _enter(theirs)
        try:
            yield
        finally:
            _enter(ours)
    finally:
        os.close(ours)
        os.close(theirs)


def _enter(network: int) -> None:
    """Do what os.setns does, which Python has from 3.12 on."""
    if ctypes.CDLL(None, use_errno=True).setns(network, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


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
    parser.add_argument("--target-port", type=whole(1, 65535), nargs="+", required=True,
                        help="ports of the servers behind the hop, on 127.0.0.1")
    parser.add_argument("--inside", type=whole(1), metavar="PID", help="listen in the network of this process")
    parser.add_argument("--delay", type=real(0), default=0.0, help="seconds, each way")
    parser.add_argument("--connecting", action="store_true", help="hold back a new connection for a round trip")
    parser.add_argument("--certificate", type=Path, help="PEM file with certificate and key: end TLS with it")
    options = parser.parse_args()
    asyncio.run(serve(options.target_port, options.delay, options.certificate, connecting=options.connecting,
                      inside=options.inside))


if __name__ == "__main__":
    main()
