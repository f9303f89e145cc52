"""A Neo4j that lets nobody list connections: on Community every user that may do anything may do that."""

import socket
from contextlib import suppress

from tests.rig.counting_proxy import CountingProxy

LISTING, REFUSED = b"dbms.listConnections", b"dbms.listConnectionz"


class RefusingProxy(CountingProxy):
    """Passes connections on; while ``refusing``, it asks the server for a procedure that is not there."""

    refusing = False

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):     # the other direction has ended the connection
            while data := source.recv(65536):
                sink.sendall(data.replace(LISTING, REFUSED) if self.refusing else data)
        self._end(source)
        self._end(sink)
