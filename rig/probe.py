"""Counting Bolt connections where the truth is: at the server.

Two things come out of a window. The ids (``bolt-N``: N only grows and is never used again) of a short
marker connection at each end give the exact number of connections that the server accepted between
them. A sampler on one connection of its own, several times a second, gives what is open, idle and
running. Both exclude the probe itself, and say how much of the machine it took.
"""

import statistics
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import neo4j
from neo4j.exceptions import DriverError, Neo4jError
from pydantic import SecretStr

from patterns import identity
from patterns.facts import MONITOR_PATTERN
from rig.records import Connection, ProbeShare, Sample
from worker_init.upstream import USER_AGENT as RELAY_AGENT

USER_AGENT = "neo4j-airflow-connections-rig"
# A server with other users may list http-N and bolt-local-N too: these are no Bolt connections over a network.
LIST_CONNECTIONS = ("CALL dbms.listConnections() YIELD connectionId, userAgent, clientAddress "
                    "WHERE connectionId =~ 'bolt-[0-9]+' RETURN connectionId, userAgent, clientAddress")
LIST_TRANSACTIONS = "SHOW TRANSACTIONS YIELD connectionId WHERE connectionId =~ 'bolt-[0-9]+'"
OWN_ID = "CALL dbms.listConnections() YIELD connectionId, userAgent WHERE userAgent = $agent RETURN connectionId"
STARTED = "CALL dbms.queryJmx('java.lang:type=Runtime') YIELD attributes RETURN attributes.StartTime.value AS started"
QUERIES_PER_SAMPLE = 2
QUERIES_PER_MARKER = 2
PREFIX = "bolt-"
NAMELESS = ("the stock hook takes no user agent: its connections cannot be told from those of others who use this "
            "server")
SERVER_ERRORS = (DriverError, Neo4jError, OSError)


@dataclass(frozen=True)
class Server:
    """The server that is counted. ``alone``: nothing touches it but the cell and the probe."""

    uri: str
    username: str
    password: SecretStr = field(repr=False)
    alone: bool


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


class Window:
    """What the probe saw between two moments of one DAG run."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.samples: list[Sample] = []
        self.connections: dict[int, Connection] = {}
        self.opened = Opened(None, False, "the window has not ended", None, None)
        self.share: ProbeShare | None = None
        self.trouble: str | None = None     # why samples are missing, if they are
        self._changed = threading.Condition()

    def add(self, sample: Sample, listed: list[Listed]) -> None:
        """Take a sample in."""
        with self._changed:
            self.samples.append(sample)
            for row in listed:
                self._see(row, sample.t)
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


class Probe:
    """The probe of one server. Its connection is open from :meth:`open` to :meth:`close`."""

    def __init__(self, server: Server, interval: float) -> None:
        self._server = server
        self._interval = interval
        self._agent = f"{USER_AGENT} (probe={uuid.uuid4().hex})"
        self._driver = self._connect(self._agent)

    def close(self) -> None:
        """Close the probe's connection."""
        self._driver.close()

    def can_list(self) -> str | None:
        """Return None if the user may list connections and transactions, else the reason why not."""
        try:
            self._list()
        except SERVER_ERRORS as error:
            return one_line(error)
        return None

    @contextmanager
    def window(self, index: int, on_sample: Callable[[Sample], None], *, nameless: bool = False) -> Iterator[Window]:
        """Count and sample until the block ends. Never raises for the server: the window says what is missing.

        With ``nameless`` the connections do not say whose they are: beside others' they cannot be counted.
        """
        window = Window(index)
        if nameless and not self._server.alone:
            window.opened = Opened(None, False, NAMELESS, None, None)
            window.fail(NAMELESS)
            yield window
            return
        first = self._marker(window)
        sampler = _Sampler(self, self._interval, window, on_sample)
        sampler.start()
        try:
            yield window
        finally:
            sampler.stop()
            last = self._marker(window)
            window.opened = self._opened(window, first, last, sampler.own_ids)
            window.share = sampler.share(markers=2)

    def watch(self) -> "Watch":
        """Begin a count without an end. Raises one of SERVER_ERRORS where the server does not let it."""
        return Watch(self, alone=self._server.alone)

    def sample(self, index: int) -> tuple[Sample, list[Listed], set[int]]:
        """Return what is open and what runs now, the rows of the cell, and the probe's own ids."""
        before = time.time()
        rows, busy = self._list()
        moment = (before + time.time()) / 2
        own = {row.id for row in rows if row.user_agent == self._agent}
        cell = [row for row in rows if self._belongs(row)]
        return Sample(index=index, t=moment, open=sorted(row.id for row in cell),
                      running=sorted(row.id for row in cell if row.id in busy)), cell, own

    def _belongs(self, row: Listed) -> bool:
        """On a server of the rig's own all is the cell's but the rig's; elsewhere only what names itself."""
        if self._server.alone:
            return not (row.user_agent or "").startswith(USER_AGENT)
        owner = identity.parse(row.user_agent)
        return row.user_agent == RELAY_AGENT or (owner is not None and owner.pattern != MONITOR_PATTERN)

    def _list(self) -> tuple[list[Listed], set[int]]:
        with self._driver.session(fetch_size=-1) as session:
            rows = [_listed(record) for record in session.run(LIST_CONNECTIONS)]
            busy = {_number(record["connectionId"]) for record in session.run(LIST_TRANSACTIONS)
                    if record["connectionId"]}
        return rows, busy

    def _marker(self, window: Window) -> Marker | None:
        """Return a marker connection, None where the window now says why there is none."""
        try:
            # Another server's user may not be allowed to ask, and its count is a lower bound anyhow.
            return self.mark(ask_start=self._server.alone)
        except SERVER_ERRORS as error:
            window.fail(one_line(error))
            return None

    def mark(self, *, ask_start: bool) -> Marker:
        """Open a connection, read its own id, close it. Raises one of SERVER_ERRORS."""
        agent = f"{USER_AGENT} (marker={uuid.uuid4().hex})"
        with self._connect(agent) as driver, driver.session() as session:
            own = session.run(OWN_ID, agent=agent).single(strict=True)
            started = session.run(STARTED).single(strict=True)["started"] if ask_start else None
            return Marker(_number(own["connectionId"]), started)

    def _opened(self, window: Window, first: Marker | None, last: Marker | None, own: set[int]) -> Opened:
        ids = (first and first.id, last and last.id)
        if first is None or last is None:
            return Opened(None, False, f"connections cannot be listed: {window.trouble}", *ids)
        if last.id < first.id or last.server_started != first.server_started:
            return Opened(None, False, "the server was started anew within the window", *ids)
        if not self._server.alone:
            return Opened(sum(id_ > first.id for id_ in window.connections), False,
                          "a lower bound: connections that a sample saw; others use this server too", *ids)
        between = last.id - first.id - 1 - sum(first.id < number < last.id for number in own)
        return Opened(between, True, None, *ids)

    def _connect(self, agent: str) -> neo4j.Driver:
        return neo4j.GraphDatabase.driver(
            self._server.uri, auth=(self._server.username, self._server.password.get_secret_value()),
            user_agent=agent, max_connection_pool_size=1, connection_timeout=5, connection_acquisition_timeout=5)


class Look(NamedTuple):
    """The server at one moment (epoch, s): ids of its connections and the patterns they name, and what was opened.

    ``opened`` counts from the first look on; None where nothing was counted, or the server was started anew since.
    """

    t: float
    pattern_of: dict[int, str]
    running: frozenset[int]
    opened: int | None


class Watch:
    """Counts the connections that the server accepts, for as long as somebody looks.

    Exact on a server of the rig's own, by a marker connection at each look; elsewhere a lower bound, of those that a
    look has seen. The probe's own are in neither.
    """

    def __init__(self, probe: Probe, *, alone: bool) -> None:
        self._probe = probe
        self._first = self._last = probe.mark(ask_start=False).id if alone else None
        self._own: set[int] = set()         # connections of the probe since the first marker, and the later markers
        self._seen = set(self._look()[1])   # of others: only those that come later count
        self._known = frozenset(self._seen)

    def look(self, *, count: bool = True) -> Look:
        """Look once. Raises one of SERVER_ERRORS. Without ``count``, which takes a connection, nothing is counted."""
        sample, pattern_of = self._look()
        self._seen |= set(sample.open)
        return Look(sample.t, pattern_of, frozenset(sample.running), self._opened() if count else None)

    def _look(self) -> tuple[Sample, dict[int, str]]:
        sample, rows, own = self._probe.sample(0)
        self._own |= own
        return sample, {row.id: pattern_named(row.user_agent) for row in rows}

    def _opened(self) -> int | None:
        if self._first is None or self._last is None:
            return len(self._seen - self._known)
        now = self._probe.mark(ask_start=False).id
        if now < self._last:
            self._first = now + 1           # never reached again: ids have begun anew
        between = now - self._first - 1 - sum(self._first < number < now for number in self._own)
        self._own.add(now)
        self._last = now
        return between if between >= 0 else None


def pattern_named(user_agent: str | None) -> str:
    """Return the pattern that a connection's user agent names: those of shared drivers are ``worker``."""
    if user_agent == RELAY_AGENT:
        return "worker"
    owner = identity.parse(user_agent)
    return owner.pattern if owner else "other"


class _Sampler(threading.Thread):
    """Takes samples at an interval until it is stopped."""

    def __init__(self, probe: Probe, interval: float, window: Window, on_sample: Callable[[Sample], None]) -> None:
        super().__init__(name="probe", daemon=True)
        self.own_ids: set[int] = set()
        self._probe = probe
        self._interval = interval
        self._window = window
        self._on_sample = on_sample
        self._ended = threading.Event()
        self._tries = 0
        self._cpu_seconds = 0.0

    def run(self) -> None:
        due = time.monotonic()
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._interval, time.monotonic())
            self._try()
        self._cpu_seconds = time.thread_time()

    def stop(self) -> None:
        """Let the sample in progress end, and take no more."""
        self._ended.set()
        self.join()

    def share(self, markers: int) -> ProbeShare:
        times = [sample.t for sample in self._window.samples]
        gaps = sorted(later - earlier for earlier, later in pairwise(times))
        return ProbeShare(
            connections=markers + len(self.own_ids),
            queries=markers * QUERIES_PER_MARKER + self._tries * QUERIES_PER_SAMPLE,
            cpu_seconds=self._cpu_seconds, samples=len(times),
            interval_median=statistics.median(gaps) if gaps else None,
            interval_p95=gaps[int(0.95 * (len(gaps) - 1))] if gaps else None)

    def _try(self) -> None:
        self._tries += 1
        try:
            sample, rows, own = self._probe.sample(self._window.index)
        except SERVER_ERRORS as error:
            self._window.fail(one_line(error))
            return
        self.own_ids |= own
        self._window.add(sample, rows)
        self._show(sample)

    def _show(self, sample: Sample) -> None:
        try:
            self._on_sample(sample)
        except Exception as error:      # whoever watches must not stop the counting
            self._window.fail(f"the view failed: {one_line(error)}")


def _listed(record: Any) -> Listed:
    return Listed(_number(record["connectionId"]), record["userAgent"], record["clientAddress"])


def _number(connection_id: str) -> int:
    return int(connection_id.removeprefix(PREFIX))


def one_line(error: Exception) -> str:
    """Return an error of the server or the driver as one line."""
    return " ".join((getattr(error, "message", None) or str(error)).split())
