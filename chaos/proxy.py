"""A proxy that makes a network fail: it cuts connections, delays data, or silently lets nothing through.

A program of the same kind (toxiproxy) is not among the packages that this project installs. So this one is tested
before it is used (:func:`prove`).
"""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

TRIPS = 20      # round trips without a delay
AS_IF = 0.3     # seconds of delay in that test
THERE_AND_BACK = 2


class Proxy:
    """Forwards connections to a port on 127.0.0.1. ``delay`` is in seconds, in each direction."""

    def __init__(self, server: int, port: int = 0) -> None:
        self._server = server
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=200)
        self.port = int(self._listener.getsockname()[1])
        self.delay = 0.0
        self._touched = 0
        self._counting = threading.Lock()
        self._passing = threading.Event()
        self._passing.set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def silent(self) -> bool:
        """Whether the proxy is a black hole: connections stay open, but nothing passes."""
        return not self._passing.is_set()

    @silent.setter
    def silent(self, silent: bool) -> None:
        if silent:
            self._passing.clear()
        else:
            self._passing.set()

    @property
    def touched(self) -> int:
        """How many pieces of data the proxy has delayed or held back so far."""
        return self._touched

    def cut(self) -> int:
        """Reset every connection, and return how many there were. New connections are forwarded."""
        pairs = list(self._pairs)
        for pair in pairs:
            for one in pair:
                with suppress(OSError):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                _end(one)
        return len(pairs)

    def close(self) -> None:
        """Cut every connection and accept no more."""
        _end(self._listener)
        self.cut()
        self.silent = False     # a thread that holds something back can end

    def _accept(self) -> None:
        with suppress(OSError):     # the listener was closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        try:
            upstream = socket.create_connection(("127.0.0.1", self._server))
        except OSError:     # the server is down, and so is everything behind the proxy
            _end(client)
            return
        pair = (client, upstream)
        self._pairs.add(pair)
        back = threading.Thread(target=self._pump, args=(upstream, client), daemon=True)
        back.start()
        self._pump(client, upstream)
        back.join()
        self._pairs.discard(pair)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):     # the other direction has ended the connection
            while data := source.recv(65536):
                if self.delay or self.silent:
                    with self._counting:
                        self._touched += 1
                time.sleep(self.delay)      # the delay that was asked for
                self._passing.wait()
                sink.sendall(data)
        _end(source)
        _end(sink)


def _end(one: socket.socket) -> None:
    with suppress(OSError):     # it has ended already
        one.shutdown(socket.SHUT_RDWR)
    one.close()


@contextmanager
def _echo() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=_say_again, args=(client,), daemon=True).start()
        threading.Thread(target=serve, daemon=True).start()
        yield int(listener.getsockname()[1])


def _say_again(client: socket.socket) -> None:
    with suppress(OSError), client:
        while data := client.recv(100):
            client.sendall(data)


def prove() -> None:
    """Raise RuntimeError if the proxy does not work as described, tested against a server that echoes."""
    with _echo() as port:
        proxy = Proxy(port)
        try:
            with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
                # The fastest of several: a busy machine may delay one of them.
                _require(min(_round_trip(client) for _ in range(TRIPS)) < AS_IF, "it holds back what should pass")
                proxy.delay = AS_IF
                _require(_round_trip(client) >= 2 * AS_IF, "it does not delay")
                _require(proxy.touched == THERE_AND_BACK, f"it counts {proxy.touched} pieces of one round trip")
                proxy.delay, proxy.silent = 0.0, True
                client.settimeout(AS_IF)
                _require(_is_silent(client), "something passes a black hole")
                proxy.silent = False
                client.settimeout(10)
                _require(client.recv(1) == b"?", "what was held back is lost")
                _require(proxy.cut() == 1, "it does not say what it cuts")
                _require(_is_reset(client), "a connection outlives a cut")
        finally:
            proxy.close()


def _round_trip(client: socket.socket) -> float:
    began = time.monotonic()
    client.sendall(b"!")
    _require(client.recv(1) == b"!", "it changes what passes")
    return time.monotonic() - began


def _is_silent(client: socket.socket) -> bool:
    client.sendall(b"?")
    try:
        client.recv(1)
    except TimeoutError:
        return True
    return False


def _is_reset(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise RuntimeError(f"the proxy of the chaos suite is broken: {otherwise}")
