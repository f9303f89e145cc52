"""A window: what the probe saw between two moments of one DAG run."""

import threading
from dataclasses import dataclass, replace
from typing import NamedTuple

from rig.records import Connection, CountedBy, ProbeShare, Sample


@dataclass(frozen=True)
class Opened:
    """How many connections the server accepted in a window. If ``count`` is None, ``reason`` says why.

    If ``exact`` is False, the count is a lower bound. The ids are those of the marker connections. ``by`` is the way of
    counting, None if there is no count. With a tap, ``by_ids`` is the count by the ids, None if that is not exact.
    """

    count: int | None
    exact: bool
    reason: str | None
    first_id: int | None
    last_id: int | None
    by: CountedBy | None = None
    by_ids: int | None = None

    def tapped(self, count: int) -> "Opened":
        """Return it with what a tap has counted in the same window: exact, whether others use the server or not."""
        return replace(self, count=count, exact=True, reason=None, by="tap", by_ids=self.count if self.exact else None)


@dataclass(frozen=True)
class Listed:
    """One row in the server's list of connections."""

    id: int
    user_agent: str | None
    client_address: str | None


class Marker(NamedTuple):
    """A marker connection: its own id, and when the server was started, if the server says that."""

    id: int
    server_started: int | None


class Seen(NamedTuple):
    """One look at the server: the sample, the cell's rows, the rig's own ids (except markers), and others' ids."""

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
        self.others: set[int] = set()       # connections that belong neither to the cell nor to the rig
        self.opened = Opened(None, False, "the window has not ended", None, None)
        self.share: ProbeShare | None = None
        self.trouble: str | None = None     # why samples are missing, if they are
        self._changed = threading.Condition()

    def add(self, seen: Seen) -> None:
        """Add a sample."""
        with self._changed:
            self.samples.append(seen.sample)
            for row in seen.rows:
                self._see(row, seen.sample.t)
            self.others |= seen.others
            for id_ in seen.others & self.connections.keys():       # only now it has named its owner
                del self.connections[id_]
            self.others -= self.connections.keys()      # seen before they had said whose they are
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
