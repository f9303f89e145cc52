"""A window: what the probe saw between two moments of one DAG run."""

import threading
from dataclasses import dataclass
from typing import NamedTuple

from rig.records import Connection, ProbeShare, Sample


@dataclass(frozen=True)
class Opened:
    """How many connections the server accepted in a window; ``count`` is None for ``reason``.

    With ``exact`` False the count is a lower bound. The ids are those of the marker connections.
    """

    count: int | None
    exact: bool
    reason: str | None
    first_id: int | None
    last_id: int | None


@dataclass(frozen=True)
class Listed:
    """One row of the server's list of connections."""

    id: int
    user_agent: str | None
    client_address: str | None


class Marker(NamedTuple):
    """A marker connection: its own id, and when the server was started, where it tells that."""

    id: int
    server_started: int | None


class Seen(NamedTuple):
    """One look at the server: the sample, the rows of the cell, the rig's own ids (no marker's), and others'."""

    sample: Sample
    rows: list[Listed]
    own: set[int]
    others: set[int]


class Window:
    """What the probe saw between two moments of one DAG run."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.samples: list[Sample] = []
        self.connections: dict[int, Connection] = {}
        self.others: set[int] = set()       # connections that are not the cell's and not the rig's
        self.opened = Opened(None, False, "the window has not ended", None, None)
        self.share: ProbeShare | None = None
        self.trouble: str | None = None     # why samples are missing, if they are
        self._changed = threading.Condition()

    def add(self, seen: Seen) -> None:
        """Take a sample in."""
        with self._changed:
            self.samples.append(seen.sample)
            for row in seen.rows:
                self._see(row, seen.sample.t)
            self.others |= seen.others
            for id_ in seen.others & self.connections.keys():       # it has said only now who it is
                del self.connections[id_]
            self._changed.notify_all()

    def fail(self, reason: str) -> None:
        """Note that a sample could not be taken."""
        with self._changed:
            self.trouble = reason
            self._changed.notify_all()

    def wait_until_closed(self, limit: float, since: float) -> None:
        """Wait until a sample later than ``since`` (epoch, s) finds no connection, or ``limit`` seconds at most."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed(since) or self._blind(), timeout=limit)

    def _closed(self, since: float) -> bool:
        return bool(self.samples) and self.samples[-1].t > since and not self.samples[-1].open

    def _blind(self) -> bool:
        return self.trouble is not None and not self.samples

    def _see(self, row: Listed, moment: float) -> None:
        known = self.connections.get(row.id)
        self.connections[row.id] = Connection(
            index=self.index, id=row.id, user_agent=row.user_agent or (known.user_agent if known else None),
            client_address=row.client_address, first_seen=known.first_seen if known else moment, last_seen=moment)
