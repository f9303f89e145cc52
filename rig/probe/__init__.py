"""Counting Bolt connections where the truth is: at the server.

Two things come out of a window. The ids (``bolt-N``: N only grows and is never used again) of a short
marker connection at each end give the exact number of connections that the server accepted between
them. A sampler on one connection of its own, several times a second, gives what is open, idle and
running. Both exclude the probe itself, and say how much of the machine it took.
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
from rig import others
from rig.probe.sampler import Sampler
from rig.probe.watch import Look, Watch
from rig.probe.window import Listed, Marker, Opened, Seen, Window
from rig.records import Sample
from rig.server_errors import SERVER_ERRORS, one_line
from worker_init.upstream import USER_AGENT as RELAY_AGENT

__all__ = ["USER_AGENT", "Look", "Opened", "Probe", "Server", "Watch", "Window"]

USER_AGENT = "neo4j-airflow-connections-rig"
# A server with other users may list http-N and bolt-local-N too: these are no Bolt connections over a network.
LIST_CONNECTIONS = ("CALL dbms.listConnections() YIELD connectionId, userAgent, clientAddress "
                    "WHERE connectionId =~ 'bolt-[0-9]+' RETURN connectionId, userAgent, clientAddress")
LIST_TRANSACTIONS = "SHOW TRANSACTIONS YIELD connectionId WHERE connectionId =~ 'bolt-[0-9]+'"
OWN_ID = "CALL dbms.listConnections() YIELD connectionId, userAgent WHERE userAgent = $agent RETURN connectionId"
STARTED = "CALL dbms.queryJmx('java.lang:type=Runtime') YIELD attributes RETURN attributes.StartTime.value AS started"
PREFIX = "bolt-"
MARKER = "(marker="
DRIVER_AGENT = "neo4j-python/"         # how the driver names itself where nobody gives it a name, as the stock hook
NAMELESS = ("the stock hook takes no user agent: its connections cannot be told from those of others who use this "
            "server")


@dataclass(frozen=True)
class Server:
    """The server that is counted. ``alone``: it is the rig's own, and nobody but the cell and the rig should use it."""

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
        """Return None if the user may list connections and transactions, else the reason why not."""
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
        """Begin a count without an end. Raises one of SERVER_ERRORS where the server does not let it."""
        return Watch(self, alone=self._server.alone)

    def sample(self, index: int, *, nameless: bool = False) -> Seen:
        """Return what is open and what runs now, of the DAG run's connections. Raises one of SERVER_ERRORS.

        These are those that name themselves; on a server of the rig's own also those that have not said yet who they
        are, and with ``nameless`` those that name the driver alone.
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
        """Say whether a connection is of the DAG run. On the rig's own server one that has not said HELLO yet is."""
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
        """Return a marker connection, None where the window now says why there is none."""
        try:
            # Another server's user may not be allowed to ask, and its count is a lower bound anyhow.
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
                          "a lower bound: connections that a sample saw; others use this server too", *ids)
        if window.others:
            return Opened(sum(id_ > first.id for id_ in window.connections), False,
                          f"a lower bound: {others.seen(len(window.others))} on this server", *ids)
        between = last.id - first.id - 1 - sum(first.id < number < last.id for number in own)
        return Opened(between, True, None, *ids)

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
