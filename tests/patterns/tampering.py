"""A server that answers with something else than it was asked: Neo4j itself cannot be made to."""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

NONCE = re.compile(rb"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")


@contextmanager
def tampering_proxy(uri: str) -> Iterator[str]:
    """Yield the address of a proxy that changes each nonce on its way back from the server."""
    host, _, port = uri.removeprefix("bolt://").rpartition(":")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, (host, int(port))), daemon=True).start()
        yield f"bolt://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, server: tuple[str, int]) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:  # the block has ended
            return
        upstream = socket.create_connection(server)
        for source, sink, is_answer in ((client, upstream, False), (upstream, client, True)):
            threading.Thread(target=_pump, args=(source, sink, is_answer), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket, is_answer: bool) -> None:
    with source, sink:
        try:
            while data := source.recv(65536):
                sink.sendall(NONCE.sub(b"f" * 32, data) if is_answer else data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:  # the other direction has ended the connection
            return
