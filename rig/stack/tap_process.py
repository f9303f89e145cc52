"""The tap's own process: a TCP proxy in front of one Neo4j that records each connection that it forwards.

``python -m rig.stack.tap_process --server bolt+s://db.example:7687 --port 20000 --opened FILE`` listens on 127.0.0.1.
It touches FILE as soon as it listens, and appends a byte for each connection that it opens to the server, so that the
file's size is their number. It knows nothing about Bolt. If the server's address asks for TLS, TLS ends here: the
certificate names the server's host, so no client that connects to 127.0.0.1 could verify it.
"""

import argparse
import asyncio
import os
import resource
import ssl
import sys
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

DEFAULT_PORT = 7687
BACKLOG = 4096      # hundreds of tasks may connect in one moment; the system's own limit holds as well
CHUNK = 65_536      # bytes


class TapServer:
    """Forwards connections to a server. ``opened`` is the file that gets a byte for each."""

    def __init__(self, server: str, opened: Path) -> None:
        parts = urlsplit(server)
        self._host, self._port = parts.hostname or "", parts.port or DEFAULT_PORT
        self._tls = tls_of(parts.scheme)
        self._opened = opened

    async def serve(self, port: int) -> None:
        """Listen on a port of 127.0.0.1 until the process is ended. Raises OSError if the port cannot be opened."""
        listener = await asyncio.start_server(self._pass_on, "127.0.0.1", port, backlog=BACKLOG)
        self._opened.touch()
        async with listener:
            await listener.serve_forever()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(self._host, self._port, ssl=self._tls)
        except OSError as error:
            # Not counted, because nobody could use it.
            _refuse(f"no connection to {self._host}:{self._port}: {error}", writer)
            return
        try:
            self._write_down()
        except OSError as error:
            # Not forwarded, because it would be missing in the count.
            _refuse(f"{self._opened} cannot be written: {error.strerror}", writer, far_writer)
            return
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_pump(reader, far_writer))
                both.create_task(_pump(far_reader, writer))
        except* OSError:        # one side has broken off
            pass
        finally:
            for end in (writer, far_writer):
                end.close()     # what was written before is still sent

    def _write_down(self) -> None:
        """Count a connection before its first byte is forwarded, so a client with an answer is always counted."""
        # Not created again where somebody has removed it: the count would begin at 0.
        file = os.open(self._opened, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(file, b".")
        finally:
            os.close(file)


def tls_of(scheme: str) -> ssl.SSLContext | None:
    """Return the TLS settings that the official driver would use for this scheme; None if it would use no TLS."""
    _, _, tls = scheme.partition("+")
    if not tls:
        return None
    context = ssl.create_default_context()
    if tls == "ssc":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _refuse(why: str, *ends: asyncio.StreamWriter) -> None:
    print(f"ERROR {why}", file=sys.stderr, flush=True)
    for end in ends:
        end.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Forward bytes until the source sends no more, then tell the other side so: it may still have an answer to send.

    Raises OSError if one side breaks off.
    """
    while data := await source.read(CHUNK):
        sink.write(data)
        await sink.drain()
    if sink.can_write_eof():
        sink.write_eof()
    else:               # TLS has no end of one direction alone
        sink.close()


def _allow_many_files() -> None:
    """Raise the limit of open files as far as the system allows: each connection takes two."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError):      # macOS says "unlimited", but does not accept it
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(prog="python -m rig.stack.tap_process", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True, help="a bolt address")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--opened", type=Path, required=True, metavar="FILE")
    options = parser.parse_args()
    _allow_many_files()
    asyncio.run(TapServer(options.server, options.opened).serve(options.port))


if __name__ == "__main__":
    main()
