"""Which servers the drivers lead to, and what tasks find in their environment.

The default upstream comes from ``NEO4J_URI``, ``NEO4J_USERNAME``, ``NEO4J_PASSWORD`` and
``NEO4J_DATABASE``; an Airflow connection id has its own from ``AIRFLOW_CONN_<ID>``, as URI or JSON.
Two of them share a driver only where server and identity are the same.
"""

import json
import secrets
import socket
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from worker_init.errors import BadSetting

_DEFAULT_PORT = 7687
# What the provider's hook makes an encrypted URI of: on the local hop there is no TLS.
_TLS_EXTRAS = ("certs_self_signed", "certs_trusted_ca", "encrypted")


class Target(NamedTuple):
    """A server and the identity that is used there: two of them never share a connection."""

    uri: str
    username: str
    password: str

    def __repr__(self) -> str:
        return f"{self.username}@{self.uri}"


class Credentials(NamedTuple):
    """What a client has to log on with. Random, made by the worker, valid as long as the worker lives."""

    username: str
    password: str

    @classmethod
    def random(cls) -> "Credentials":
        """Return credentials that nobody can guess."""
        return cls(f"worker-{secrets.token_hex(4)}", secrets.token_urlsafe(32))

    def __repr__(self) -> str:
        return f"Credentials({self.username!r})"


class Address(NamedTuple):
    """Where a driver is reached, and how one logs on there."""

    host: str
    port: int
    credentials: Credentials

    @classmethod
    def of(cls, sock: socket.socket, credentials: Credentials) -> "Address":
        """Return the address of a listening socket."""
        host, port = sock.getsockname()[:2]
        return cls(host, port, credentials)


class AirflowConnection(NamedTuple):
    """An Airflow connection of type neo4j, as far as its hook reads it."""

    host: str
    port: int
    login: str
    password: str
    schema: str
    extra: dict[str, Any]

    def __repr__(self) -> str:
        return f"AirflowConnection({self.login}@{self.host}:{self.port})"

    @property
    def target(self) -> Target:
        """The server that the provider's hook would connect to."""
        scheme = "neo4j" if self.extra.get("neo4j_scheme") else "bolt"
        if self.extra.get("certs_self_signed"):
            scheme += "+ssc"
        elif self.extra.get("certs_trusted_ca") or self.extra.get("encrypted"):
            scheme += "+s"
        return Target(f"{scheme}://{self.host}:{self.port}", self.login, self.password)

    def through(self, address: Address) -> str:
        """Return the same connection, by way of a local driver, as JSON for the environment."""
        extra = {key: value for key, value in self.extra.items() if key not in _TLS_EXTRAS}
        return json.dumps({"conn_type": "neo4j", "host": address.host, "port": address.port,
                           "login": address.credentials.username, "password": address.credentials.password,
                           "schema": self.schema, "extra": extra})


class Upstreams(NamedTuple):
    """Every server that the worker's drivers lead to. ``default`` and ``ids`` point into ``targets``."""

    targets: tuple[Target, ...]
    default: int | None
    database: str | None
    ids: tuple[tuple[str, int, AirflowConnection], ...]
    notes: tuple[str, ...]

    def environment(self, addresses: list[Address]) -> dict[str, str]:
        """Return what a task finds in its environment; ``addresses`` are those of ``targets``."""
        found = {variable_of(name): connection.through(addresses[at]) for name, at, connection in self.ids}
        if self.default is not None:
            host, port, credentials = addresses[self.default]
            found |= {"NEO4J_WORKER_URI": f"bolt://{host}:{port}", "NEO4J_WORKER_USERNAME": credentials.username,
                      "NEO4J_WORKER_PASSWORD": credentials.password}
        if self.default is not None and self.database:
            found["NEO4J_WORKER_DATABASE"] = self.database
        return found


def variable_of(connection_id: str) -> str:
    """Return the name of the variable in which Airflow looks for a connection."""
    return f"AIRFLOW_CONN_{connection_id.upper()}"


def upstreams_of(environment: Mapping[str, str], connection_ids: tuple[str, ...]) -> Upstreams:
    """Read the upstreams that an environment describes. What cannot be resolved is left alone, with a note.

    The default upstream is ``NEO4J_URI``'s, without it the first connection's.
    """
    targets: dict[Target, int] = {}
    ids, notes = [], []
    default = None
    if uri := environment.get("NEO4J_URI"):
        target = Target(uri, environment.get("NEO4J_USERNAME", ""), environment.get("NEO4J_PASSWORD", ""))
        default = targets.setdefault(target, len(targets))
    for name in connection_ids:
        try:
            connection = parse_connection(environment.get(variable_of(name)))
        except BadSetting as error:
            notes.append(f"connection {name} stays as it is: {variable_of(name)} {error}")
        else:
            ids.append((name, targets.setdefault(connection.target, len(targets)), connection))
    if default is None and ids:
        default = ids[0][1]
    database = environment.get("NEO4J_DATABASE") or (ids[0][2].schema if ids and "NEO4J_URI" not in environment
                                                     else None)
    return Upstreams(tuple(targets), default, database or None, tuple(ids), tuple(notes))


def parse_connection(value: str | None) -> AirflowConnection:
    """Read an Airflow connection. Raises BadSetting, without the value: there is a password in it."""
    if not value:
        raise BadSetting("is not in the worker's environment")
    try:
        fields = _from_json(value) if value.lstrip().startswith("{") else _from_uri(value)
        port = int(fields.get("port") or _DEFAULT_PORT)
    except (ValueError, TypeError, AttributeError):
        raise BadSetting("cannot be read") from None
    if fields.get("conn_type") != "neo4j":
        raise BadSetting("is not a connection of type neo4j")
    if not fields.get("host"):
        raise BadSetting("names no host")
    return AirflowConnection(fields["host"], port, fields.get("login") or "", fields.get("password") or "",
                             fields.get("schema") or "", fields.get("extra") or {})


def _from_json(value: str) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(value)
    extra = fields.get("extra")
    return fields | {"extra": json.loads(extra) if isinstance(extra, str) and extra else extra or {}}


def _from_uri(value: str) -> dict[str, Any]:
    parts = urlsplit(value)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    extra = json.loads(query["__extra__"]) if "__extra__" in query else query
    return {"conn_type": parts.scheme.replace("-", "_"), "host": unquote(parts.hostname or ""), "port": parts.port,
            "login": unquote(parts.username or ""), "password": unquote(parts.password or ""),
            "schema": unquote(parts.path.lstrip("/")), "extra": extra}
