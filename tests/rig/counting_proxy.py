"""A TCP proxy that counts: it knows nothing of Bolt, and is the second opinion on what the probe counts."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

Address = tuple[str, int]


class CountingProxy:
    """Passes connections on to a server; ``accepted`` is how many there were."""

    def __init__(self, uri: str) -> None:
        host, _, port = uri.removeprefix("bolt://").rpartition(":")
        self.accepted = 0
        self._server: Address = (host, int(port))
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.uri = f"bolt://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Cut every connection and refuse new ones, as a server does that is away."""
        self._end(self._listener)
        with self._lock:
            sockets = list(self._sockets)
        for each in sockets:
            self._end(each)

    def _accept(self) -> None:
        with suppress(OSError):     # the listener was closed
            while True:
                client, _ = self._listener.accept()
                self.accepted += 1
                upstream = socket.create_connection(self._server)
                with self._lock:
                    self._sockets |= {client, upstream}
                for source, sink in ((client, upstream), (upstream, client)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):     # the other direction has ended the connection
            while data := source.recv(65536):
                sink.sendall(data)
        self._end(source)
        self._end(sink)

    @staticmethod
    def _end(each: socket.socket) -> None:
        with suppress(OSError):     # it has ended already
            each.shutdown(socket.SHUT_RDWR)
        each.close()


@contextmanager
def counting_proxy(uri: str) -> Iterator[CountingProxy]:
    """Count connections to a server until the block ends."""
    proxy = CountingProxy(uri)
    try:
        yield proxy
    finally:
        proxy.close()
