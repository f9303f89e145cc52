"""Which drivers have connections open, according to the server.

A task cannot know this: each task is a separate process, so a count kept in Python never includes another task's
drivers. The server sees every connection, and our drivers give their owner in the user agent.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple, TypedDict

from neo4j import Driver, GraphDatabase
from neo4j.exceptions import Forbidden

from patterns.facts import MONITOR_PATTERN
from patterns.identity import Identity, parse, user_agent
from patterns.target import ROOT, Target

log = logging.getLogger(__name__)

CONNECTIONS = ("CALL dbms.listConnections() YIELD connectionId, userAgent, clientAddress "
               "RETURN connectionId, userAgent, clientAddress")
TRANSACTIONS = "SHOW TRANSACTIONS YIELD connectionId"

NO_AGENT = "(no HELLO yet)"
UNKNOWN_CLIENT = "(unknown)"


class Connection(NamedTuple):
    """An open connection. ``client`` is the host in its address; ``running`` says that a transaction is open on it."""

    user_agent: str | None
    client: str
    running: bool


class DriverRow(TypedDict):
    """A driver with open connections: the task's pid, pattern and alias, as seen from a client host.

    Several drivers that one task made for one alias cannot be told apart; they share a row.
    """

    task: int
    pattern: str
    alias: str
    client: str
    idle: int
    running: int


class WorkerRow(TypedDict):
    """A worker process (``host:pid``) and what the tasks forked from it have open."""

    worker: str
    drivers: list[DriverRow]


class ClientRow(TypedDict):
    """A client that is not one of our drivers. ``user_agent`` is None for connections that have not sent HELLO."""

    user_agent: str | None
    client: str
    idle: int
    running: int


class Summary(TypedDict):
    """The server's open connections at one moment, without the monitor's own. It can be written as JSON."""

    schema: Literal[1]
    open: int
    idle: int
    running: int
    workers: list[WorkerRow]
    others: list[ClientRow]


class NotAllowedError(RuntimeError):
    """The user may not list the server's connections."""


def observe(environ: Mapping[str, str], alias: str = ROOT) -> Summary:
    """Ask the alias's server which connections are open, log them as a table and return them.

    Raises SettingError if the environment names no server, NotAllowedError if the user may not list connections, and
    the driver's own errors. A user without administrative rights only sees its own connections.
    """
    target = Target.from_environment(environ, alias)
    own = user_agent(Identity.of_this_process(MONITOR_PATTERN, alias))
    with GraphDatabase.driver(target.uri, auth=target.auth, user_agent=own) as driver:
        listed = _list(driver, target)
    summary = summarise(connection for connection in listed if connection.user_agent != own)
    for line in table(summary):
        log.info("%s", line)
    return summary


def summarise(connections: Iterable[Connection]) -> Summary:
    """Group connections by worker process and driver or, if they are not ours, by user agent and client."""
    idle: Counter[tuple[str | None, str]] = Counter()
    running: Counter[tuple[str | None, str]] = Counter()
    for agent, client, is_running in connections:
        (running if is_running else idle)[agent, client] += 1
    workers: dict[str, list[DriverRow]] = {}
    others: list[ClientRow] = []
    for agent, client in sorted(idle | running, key=lambda group: (group[0] or "", group[1])):
        counts = idle[agent, client], running[agent, client]
        identity = parse(agent)
        if identity is None:
            others.append(ClientRow(user_agent=agent, client=client, idle=counts[0], running=counts[1]))
        else:
            workers.setdefault(identity.worker, []).append(_driver_row(identity, client, *counts))
    return Summary(schema=1, open=idle.total() + running.total(), idle=idle.total(), running=running.total(),
                   workers=[WorkerRow(worker=worker, drivers=workers[worker]) for worker in sorted(workers)],
                   others=others)


def table(summary: Summary) -> list[str]:
    """Return the summary as lines for a log: a headline, then a line for each driver and client."""
    drivers = [(worker["worker"], f"task {row['task']}", row["pattern"], row["alias"], row["client"],
                str(row["idle"]), str(row["running"]))
               for worker in summary["workers"] for row in worker["drivers"]]
    others = [("-", row["user_agent"] or NO_AGENT, "-", "-", row["client"], str(row["idle"]), str(row["running"]))
              for row in summary["others"]]
    heading = ("worker process", "task or user agent", "pattern", "alias", "client", "idle", "running")
    return [_headline(summary), *_columns([heading, *drivers, *others])]


def _list(driver: Driver, target: Target) -> list[Connection]:
    with driver.session(database=target.database) as session:
        try:
            connections = session.run(CONNECTIONS).values()
            running = set(session.run(TRANSACTIONS).value())
        except Forbidden as error:
            raise NotAllowedError(
                f"user {target.username!r} may not list the connections of {target.uri}: expected permission to "
                "run dbms.listConnections and SHOW TRANSACTIONS — grant EXECUTE PROCEDURE and SHOW TRANSACTION, "
                "or give the monitor a user of its own through another alias") from error
    return [Connection(agent, _host(address), identifier in running) for identifier, agent, address in connections]


def _host(address: str | None) -> str:
    host, _, _ = (address or "").rpartition(":")
    return host.strip("[]") or UNKNOWN_CLIENT


def _driver_row(identity: Identity, client: str, idle: int, running: int) -> DriverRow:
    return DriverRow(task=identity.task_pid, pattern=identity.pattern, alias=identity.alias, client=client,
                     idle=idle, running=running)


def _headline(summary: Summary) -> str:
    instances = sum(len(worker["drivers"]) for worker in summary["workers"])
    return (f"🍌 Monitor: {summary['open']} connections open at the server ({summary['idle']} idle, "
            f"{summary['running']} running), {instances} driver instances in {len(summary['workers'])} worker "
            "processes. The monitor's own connection is not counted.")


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
