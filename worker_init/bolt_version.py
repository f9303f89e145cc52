"""Having the official driver open connections of one version of Bolt only.

What a value looks like depends on the version: where Neo4j sends a client of Bolt 6.1 a UUID, one of 6.0
gets a structure and one of 5.8 a map in its place, with a notification. So each client gets connections
that speak its own version. The driver asks for its versions in one place, which the whole process shares;
here that place looks at the context of the task that opens a connection.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from neo4j._async.io import AsyncBolt

from worker_init.handshake import Version

_wanted: ContextVar[Version | None] = ContextVar("wanted", default=None)
_drivers_own = AsyncBolt.get_handshake


def _handshake() -> bytes:
    """Return the four proposals: the driver's own, or one and nothing else."""
    version = _wanted.get()
    return bytes((0, 0, version.minor, version.major)) + bytes(12) if version else _drivers_own()


@contextmanager
def asking_for(version: Version | None) -> Iterator[None]:
    """Let connections that are opened within speak this version; None: the newest that both sides know."""
    before = _wanted.set(version)
    try:
        yield
    finally:
        _wanted.reset(before)


AsyncBolt.get_handshake = staticmethod(_handshake)  # type: ignore[method-assign]
