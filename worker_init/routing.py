"""Which members of a cluster serve which database: routing tables as plain values, without I/O.

The driver has the same inside its pool, under a lock that it holds while it asks a server, so that one dead connection
would stop everybody. Here a table is only read and replaced; the pool decides who asks for it. The rules are those of
the driver's ``RoutingTable``: a table is valid for its ``ttl``, and reads only need a reader.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from worker_init.errors import ProtocolViolation
from worker_init.handshake import Version

# How long an impersonated user's home database is assumed to stay the same, if the server corrects a mistake.
_HOME_SECONDS = 60.0
_MOST_HOMES = 10_000
# The driver's own delay (RoutingConfig.routing_table_purge_delay): a table that was not refreshed is dropped after it.
_PURGE_SECONDS = 30.0


class Route(NamedTuple):
    """What decides which server of a cluster a transaction goes to. With ``anywhere``, any of them will do."""

    read_only: bool = False
    database: str | None = None
    bookmarks: tuple[str, ...] = ()
    impersonated: str | None = None
    anywhere: bool = False


class Place(NamedTuple):
    """The server that a connection leads to, and the Bolt version that it must speak (None: the newest available)."""

    address: str
    version: Version | None = None

    def __str__(self) -> str:
        return f"{self.address}, Bolt {self.version}" if self.version else self.address


# Neither a leader nor a routing table is needed.
ANYWHERE = Route(read_only=True, anywhere=True)


@dataclass
class Table:
    """The routers, readers and writers for one database. ``serial`` tells which of two events came first."""

    database: str
    routers: tuple[str, ...]
    readers: tuple[str, ...]
    writers: tuple[str, ...]
    expires_at: float
    serial: int

    @property
    def members(self) -> set[str]:
        """Every member that the table names."""
        return {*self.routers, *self.readers, *self.writers}


class Tables:
    """The routing tables of one upstream. ``seed`` is the address that the user gave."""

    def __init__(self, seed: str) -> None:
        self.seed = seed
        self._tables: dict[str, Table] = {}
        self._homes: dict[str | None, tuple[float, str]] = {}

    def home_of(self, user: str | None, now: float) -> str | None:
        """Return the home database of an impersonated user, or of the upstream's own user (None), if it is known."""
        valid_until, home = self._homes.get(user, (0.0, None))
        return home if now < valid_until else None

    def table(self, database: str) -> Table | None:
        """Return the table of a database, valid or not; None if there is none."""
        return self._tables.get(database)

    def routers(self, database: str | None) -> tuple[str, ...]:
        """Return the members that can be asked for a database's table, first choice first."""
        table = self._tables.get(database or "")
        known = table.routers if table else tuple(dict.fromkeys(
            router for each in self._tables.values() for router in each.routers))
        return tuple(dict.fromkeys((*known, self.seed)))

    def members(self) -> tuple[str, ...]:
        """Return every member that any table names."""
        return tuple(dict.fromkeys(member for table in self._tables.values() for member in sorted(table.members)))

    def find(self, database: str, *, read_only: bool, now: float, since: int) -> tuple[str, ...] | None:
        """Return the members that serve a database; None if its table must be asked for.

        A table that came after ``since`` is valid whatever its age, because it was asked for on purpose.
        """
        table = self._tables.get(database)
        if table is None or (table.serial <= since and now >= table.expires_at):
            return None
        found = table.readers if read_only else table.writers
        return found if found or table.serial > since else None

    def store(self, answer: dict[str, Any], *, asked: str | None, user: str | None, routes_itself: bool,
              now: float, serial: int) -> Table:
        """Keep a server's answer to ROUTE. Raises ProtocolViolation if the answer is not a table.

        ``asked`` is the database that was asked for. None means a home database, which the answer names.
        """
        table = parse(answer, asked, now, serial)
        self._tables = {name: known for name, known in self._tables.items() if now < known.expires_at + _PURGE_SECONDS}
        self._tables[table.database] = table
        if asked is None:
            if len(self._homes) >= _MOST_HOMES:
                self._homes.clear()
            lasts = float("inf") if user is None else _HOME_SECONDS if routes_itself else 0.0
            self._homes[user] = (now + lasts, table.database)
        return table

    def drop_writer(self, database: str, member: str) -> None:
        """Forget that a member leads a database, because it has refused a write."""
        if table := self._tables.get(database):
            table.writers = _without(table.writers, member)

    def expire(self, now: float) -> None:
        """Make every table invalid, so that it is asked for again before its next use. Its routers are kept."""
        for table in self._tables.values():
            table.expires_at = min(table.expires_at, now)
        self._homes.clear()

    def deactivate(self, member: str) -> None:
        """Forget a member that cannot be reached, until a table names it again."""
        for table in self._tables.values():
            table.routers = _without(table.routers, member)
            table.readers = _without(table.readers, member)
            table.writers = _without(table.writers, member)


def parse(answer: dict[str, Any], asked: str | None, now: float, serial: int) -> Table:
    """Read the map ``rt`` of the answer to ROUTE. Raises ProtocolViolation if it is not a table, or names no reader."""
    try:
        roles: dict[str, list[str]] = {"ROUTE": [], "READ": [], "WRITE": []}
        for server in answer["servers"]:
            roles.setdefault(server["role"], []).extend(map(str, server["addresses"]))
        ttl = float(answer["ttl"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ProtocolViolation("the answer to ROUTE is no routing table") from None
    if not (roles["ROUTE"] and roles["READ"]):
        raise ProtocolViolation("the routing table names no router or no reader")
    routers, readers, writers = (_once(roles[role]) for role in ("ROUTE", "READ", "WRITE"))
    return Table(str(answer.get("db") or asked or ""), routers, readers, writers, now + ttl, serial)


def _once(addresses: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(addresses))


def _without(members: tuple[str, ...], member: str) -> tuple[str, ...]:
    return tuple(other for other in members if other != member)
