"""Ways to make things go wrong: a network that fails, clients that misbehave or die."""

import asyncio
import datetime
import os
import selectors
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_CLIENT = """
import sys, time, neo4j
uri, user, password, mode = sys.argv[1:]
session = neo4j.GraphDatabase.driver(uri, auth=(user, password)).session(fetch_size=-1 if mode == "full" else 100)
LONG = "UNWIND range(1,1000000000) AS x WITH x WHERE x%7=8 RETURN count(x)"
ROWS = "UNWIND range(1,5000000) AS x RETURN x, 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'+x AS s"
def wait():
    print("ready", flush=True)
    sys.stdin.read()
if mode == "transaction":
    tx = session.begin_transaction()
    tx.run("CREATE (:Killed)").consume()
    wait()
elif mode == "query":
    print("ready", flush=True)
    session.run(LONG).consume()
else:
    result = session.run(ROWS)
    for _ in range(50):
        next(result)
    wait()
"""


@contextmanager
def client_in(mode: str, uri: str, auth: tuple[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """Run a client that stays in a transaction, a paused stream, a full stream or a long query."""
    command = [sys.executable, "-c", _CLIENT, uri, *auth, mode]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout
        assert client.stdout.readline() == "ready\n"
        try:
            yield client
        finally:
            client.kill()


def kill(client: "subprocess.Popen[str]") -> None:
    """End a process as the kernel does when memory is short."""
    os.kill(client.pid, signal.SIGKILL)
    client.wait()


class Proxy:
    """A TCP hop that can refuse, cut or swallow. It proves itself: ``carried`` counts what went through."""

    def __init__(self, target_port: int) -> None:
        self.carried = 0
        self._target_port = target_port
        self._silent = False
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._refuses = self._ended = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def uri(self) -> str:
        """The server, by way of this hop."""
        return f"bolt://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Break every connection, and each new one at once."""
        self._refuses = True
        with self._lock:
            pairs, self._pairs = self._pairs, {}
        for sock in pairs:
            with_reset = b"\x01\x00\x00\x00\x00\x00\x00\x00"
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, with_reset)
            self._forget(sock)

    def swallow(self) -> None:
        """Let every connection stand, and nothing through."""
        self._silent = True

    def mend(self) -> None:
        """Be a good hop again."""
        self._refuses = self._silent = False

    def close(self) -> None:
        """End the hop with its connections."""
        self._ended = True
        self.cut()
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        while not self._ended:
            for key, _ in self._selector.select(0.05):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if sock is self._listener:
                    self._accept()
                elif not self._silent:
                    self._carry(sock)

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        if self._refuses:
            near.close()
            return
        far = socket.create_connection(("127.0.0.1", self._target_port))
        with self._lock:
            self._pairs |= {near: far, far: near}
        for sock in (near, far):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(sock, selectors.EVENT_READ)

    def _carry(self, sock: socket.socket) -> None:
        other = self._pairs.get(sock)
        try:
            data = sock.recv(65536) if other else b""
            if data and other:
                other.sendall(data)
                self.carried += len(data)
                return
        except OSError:
            data = b""
        for end in (sock, other):
            if end:
                self._forget(end)

    def _forget(self, sock: socket.socket) -> None:
        with self._lock:
            self._pairs.pop(sock, None)
        if sock.fileno() >= 0:
            if sock.fileno() in self._selector.get_map():
                self._selector.unregister(sock)
            sock.close()


@contextmanager
def proxy(target_port: int) -> Iterator[Proxy]:
    """Run a proxy in front of a port."""
    running = Proxy(target_port)
    try:
        yield running
    finally:
        running.close()


@contextmanager
def tls_hop(folder: Path, target_port: int) -> Iterator[int]:
    """End TLS in front of a port, with a certificate that nobody else trusts; the hop's own port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_certificate(folder))
    loop = asyncio.new_event_loop()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target_port)
        await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer), return_exceptions=True)
    server = loop.run_until_complete(asyncio.start_server(accept, "127.0.0.1", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def _certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
                   .serial_number(1).not_valid_before(now - datetime.timedelta(days=1))
                   .not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256()))
    path = folder / "certificate.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return path
