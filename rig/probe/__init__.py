"""Counts Bolt connections at the server, the only place that sees all of them.

A window has two results. At each end, a short marker connection reads its own id (``bolt-N``: N only grows and is never
used again). The difference of the two is the exact number of connections that the server accepted in between. A
sampler, on its own connection, sees several times a second which connections are open, idle and in a transaction. Both
leave out the probe itself, and report how much of the machine it used.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import neo4j
from pydantic import SecretStr

from patterns import identity
from patterns.facts import MONITOR_PATTERN
from patterns.server_errors import SERVER_ERRORS, one_line
from rig import others
from rig.probe.sampler import Sampler
from rig.probe.watch import Look, Watch
from rig.probe.window import Listed, Marker, Opened, Seen, Window
from rig.records import Sample
from worker_init.upstream import USER_AGENT as RELAY_AGENT

__all__ = ["USER_AGENT", "Look", "Opened", "Probe", "Server", "Watch", "Window"]

USER_AGENT = "neo4j-airflow-connections-rig"
# If a server has other users, it may also list http-N and bolt-local-N, which are not Bolt connections over a network.
LIST_CONNECTIONS = ("CALL dbms.listConnections() YIELD connectionId, userAgent, clientAddress "
                    "WHERE connectionId =~ 'bolt-[0-9]+' RETURN connectionId, userAgent, clientAddress")
LIST_TRANSACTIONS = "SHOW TRANSACTIONS YIELD connectionId WHERE connectionId =~ 'bolt-[0-9]+'"
# A driver that routes may have two: the first fetched the routing table, and the later one asks.
OWN_ID = ("CALL dbms.listConnections() YIELD connectionId, userAgent WHERE userAgent = $agent "
          "RETURN connectionId ORDER BY toInteger(substring(connectionId, size('bolt-'))) DESC LIMIT 1")
STARTED = "CALL dbms.queryJmx('java.lang:type=Runtime') YIELD attributes RETURN attributes.StartTime.value AS started"
PREFIX = "bolt-"
MARKER = "(marker="
DRIVER_AGENT = "neo4j-python/"         # the driver's own user agent if it is given none, as with the stock hook
NAMELESS = ("the stock hook takes no user agent: its connections cannot be told from those of others who use this "
            "server")


@dataclass(frozen=True)
class Server:
    """The server on which connections are counted. ``alone``: it is the rig's own, and only cell and rig use it."""

    uri: str
    username: str
    password: SecretStr = field(repr=False)
    alone: bool


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
        """Return None if the user may list connections and transactions, otherwise the reason why not."""
        try:
            self._list()
        except SERVER_ERRORS as error:
            return one_line(error)
        return None

    @contextmanager
    def window(self, index: int, on_sample: Callable[[Sample], None], *, nameless: bool = False) -> Iterator[Window]:
        """Count and sample until the block ends. Never raises for the server: the window says what is missing.

        With ``nameless`` the connections do not say whose they are: beside others' they cannot be counted. On a server
        of the rig's own those that name the driver alone are the cell's then. Others that are seen there all the same
        make the count a lower bound.
        """
        window = Window(index)
        if nameless and not self._server.alone:
            window.opened = Opened(None, False, NAMELESS, None, None)
            window.fail(NAMELESS)
            yield window
            return
        first = self._marker(window)
        sampler = Sampler(partial(self.sample, nameless=nameless), self._interval, window, on_sample)
        sampler.start()
        try:
            yield window
        finally:
            sampler.stop()
            last = self._marker(window)
            window.opened = self._opened(window, first, last, sampler.own_ids)
            window.share = sampler.share(markers=2)

    def watch(self) -> Watch:
        """Begin a count without an end. Raises one of SERVER_ERRORS if the server does not allow it."""
        return Watch(self, alone=self._server.alone)

    def sample(self, index: int, *, nameless: bool = False) -> Seen:
        """Return the DAG run's open connections, and those in a transaction. Raises one of SERVER_ERRORS.

        The DAG run's connections name their pattern. On the rig's own server, those without HELLO also count and, with
        ``nameless``, those that only name the driver.
        """
        before = time.time()
        rows, busy = self._list()
        moment = (before + time.time()) / 2
        not_ours = [row for row in rows if not _is_the_rigs(row)]
        cell = [row for row in not_ours if self._is_the_cells(row, nameless=nameless)]
        return Seen(Sample(index=index, t=moment, open=sorted(row.id for row in cell),
                           running=sorted(row.id for row in cell if row.id in busy)), cell,
                    own={row.id for row in rows if _is_the_rigs(row) and MARKER not in (row.user_agent or "")},
                    others={row.id for row in not_ours} - {row.id for row in cell})

    def _is_the_cells(self, row: Listed, *, nameless: bool) -> bool:
        """Return whether a connection is the DAG run's. On the rig's own server, one without HELLO counts as such."""
        if _names_itself(row) or not self._server.alone:
            return _names_itself(row)
        return row.user_agent is None or (nameless and row.user_agent.startswith(DRIVER_AGENT))

    def _list(self) -> tuple[list[Listed], set[int]]:
        with self._driver.session(fetch_size=-1) as session:
            rows = [_listed(record) for record in session.run(LIST_CONNECTIONS)]
            busy = {_number(record["connectionId"]) for record in session.run(LIST_TRANSACTIONS)
                    if record["connectionId"]}
        return rows, busy

    def _marker(self, window: Window) -> Marker | None:
        """Return a marker connection; None if it failed, in which case the window has the reason."""
        try:
            # Another server's user may not be allowed to ask, and its count is only a lower bound anyway.
            return self.mark(ask_start=self._server.alone)
        except SERVER_ERRORS as error:
            window.fail(one_line(error))
            return None

    def mark(self, *, ask_start: bool) -> Marker:
        """Open a connection, read its own id, close it. Raises one of SERVER_ERRORS."""
        agent = f"{USER_AGENT} {MARKER}{uuid.uuid4().hex})"
        with self._connect(agent) as driver, driver.session() as session:
            own = session.run(OWN_ID, agent=agent).single(strict=True)
            started = session.run(STARTED).single(strict=True)["started"] if ask_start else None
            return Marker(_number(own["connectionId"]), started)

    def _opened(self, window: Window, first: Marker | None, last: Marker | None, own: set[int]) -> Opened:
        ids = (first and first.id, last and last.id)
        if first is None or last is None:
            return Opened(None, False, f"connections cannot be listed: {window.trouble}", *ids)
        if last.id < first.id or last.server_started != first.server_started:
            return Opened(None, False, "the server was restarted within the window", *ids)
        if not self._server.alone:
            return Opened(sum(id_ > first.id for id_ in window.connections), False,
                          "a lower bound: connections that a sample saw; others use this server too", *ids,
                          "samples")
        if window.others:
            return Opened(sum(id_ > first.id for id_ in window.connections), False,
                          f"a lower bound: {others.seen(len(window.others))} on this server", *ids, "samples")
        between = last.id - first.id - 1 - sum(first.id < number < last.id for number in own)
        return Opened(between, True, None, *ids, "ids")

    def _connect(self, agent: str) -> neo4j.Driver:
        return neo4j.GraphDatabase.driver(
            self._server.uri, auth=(self._server.username, self._server.password.get_secret_value()),
            user_agent=agent, max_connection_pool_size=1, connection_timeout=5, connection_acquisition_timeout=5)


def _names_itself(row: Listed) -> bool:
    owner = identity.parse(row.user_agent)
    return row.user_agent == RELAY_AGENT or (owner is not None and owner.pattern != MONITOR_PATTERN)


def _is_the_rigs(row: Listed) -> bool:
    return (row.user_agent or "").startswith(USER_AGENT + " ")


def _listed(record: Any) -> Listed:
    return Listed(_number(record["connectionId"]), record["userAgent"], record["clientAddress"])


def _number(connection_id: str) -> int:
    return int(connection_id.removeprefix(PREFIX))
