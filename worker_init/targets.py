"""The servers that the shared drivers connect to, and the variables that tasks find in their environment.

The default upstream comes from ``NEO4J_URI``, ``NEO4J_USERNAME``, ``NEO4J_PASSWORD`` and ``NEO4J_DATABASE``. An Airflow
connection has its own upstream from ``AIRFLOW_CONN_<ID>``, as a URI or JSON. Two of them share a driver only if server
and identity are the same.
"""

import json
import secrets
import socket
from collections.abc import Container, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from worker_init.errors import BadSetting

_DEFAULT_PORT = 7687
# The driver also knows http, but that is not Bolt: there is no connection to lend.
_SCHEMES = ("bolt", "bolt+s", "bolt+ssc", "neo4j", "neo4j+s", "neo4j+ssc")
# The hook does not look at the type, so some connections that work have a wrong type. A connection that is plainly for
# another service was listed by mistake, and leading it elsewhere would break its own hook.
NEO4J_TYPE = "neo4j"
_TYPES = (NEO4J_TYPE, "bolt", "generic", "")
# With these, the provider's hook makes an encrypted URI, but there is no TLS between a task and a relay.
_TLS_EXTRAS = ("certs_self_signed", "certs_trusted_ca", "encrypted")


class Target(NamedTuple):
    """A server and the identity used there. Two different targets never share a connection.

    Without ``username`` there is no logon: the server asks for no authentication.
    """

    uri: str
    username: str
    password: str

    def __repr__(self) -> str:
        return f"{self.username}@{self.uri}"


class Credentials(NamedTuple):
    """What a client must log on with. Random, created by the worker, and valid as long as the worker lives."""

    username: str
    password: str

    @classmethod
    def random(cls) -> "Credentials":
        """Return credentials that nobody can guess."""
        return cls(f"worker-{secrets.token_hex(4)}", secrets.token_urlsafe(32))

    def __repr__(self) -> str:
        return f"Credentials({self.username!r})"


class Address(NamedTuple):
    """Where a relay listens, and what a client logs on with there."""

    host: str
    port: int
    credentials: Credentials

    @classmethod
    def of(cls, sock: socket.socket, credentials: Credentials) -> "Address":
        """Return the address of a listening socket."""
        host, port = sock.getsockname()[:2]
        return cls(host, port, credentials)


class AirflowConnection(NamedTuple):
    """An Airflow connection as the provider's ``Neo4jHook`` reads it."""

    host: str
    port: int
    login: str | None
    password: str | None
    schema: str
    extra: dict[str, Any]

    def __repr__(self) -> str:
        return f"AirflowConnection({self.login}@{self.host}:{self.port})"

    @property
    def target(self) -> Target:
        """The server that the hook would connect to; the extras have the hook's own precedence."""
        scheme = "neo4j" if self.extra.get("neo4j_scheme") else "bolt"
        if self.extra.get("certs_self_signed"):
            scheme += "+ssc"
        elif self.extra.get("certs_trusted_ca") or self.extra.get("encrypted"):
            scheme += "+s"
        has_auth = self.login is not None and self.password is not None
        return Target(f"{scheme}://{self.host}:{self.port}", (self.login or "") if has_auth else "",
                      (self.password or "") if has_auth else "")

    @property
    def local_extra(self) -> dict[str, Any]:
        """The extras without those that ask for TLS: the local hop has none."""
        return {key: value for key, value in self.extra.items() if key not in _TLS_EXTRAS}

    def through(self, address: Address) -> str:
        """Return the same connection, led through a relay, as JSON for the environment.

        The database (``schema``) and every extra that does not ask for TLS stay the same.
        """
        return json.dumps({"conn_type": "neo4j", "host": address.host, "port": address.port,
                           "login": address.credentials.username, "password": address.credentials.password,
                           "schema": self.schema, "extra": self.local_extra})


class Upstreams(NamedTuple):
    """Every server that the shared drivers connect to. ``default`` and ``ids`` point into ``targets``."""

    targets: tuple[Target, ...]
    default: int | None
    database: str | None
    ids: tuple[tuple[str, int, AirflowConnection], ...]
    notes: tuple[str, ...]

    def environment(self, addresses: list[Address], unshared: Container[int] = ()) -> dict[str, str]:
        """Return the variables for a task's environment; ``addresses`` are those of ``targets``.

        The task connects by itself to the targets whose numbers are in ``unshared``.
        """
        found = {variable_of(name): connection.through(addresses[at]) for name, at, connection in self.ids
                 if at not in unshared}
        if self.default is None or self.default in unshared:
            return found
        host, port, credentials = addresses[self.default]
        found |= {"NEO4J_WORKER_URI": f"bolt://{host}:{port}", "NEO4J_WORKER_USERNAME": credentials.username,
                  "NEO4J_WORKER_PASSWORD": credentials.password}
        if self.database:
            found["NEO4J_WORKER_DATABASE"] = self.database
        return found


def variable_of(connection_id: str) -> str:
    """Return the name of the variable in which Airflow looks for a connection."""
    return f"AIRFLOW_CONN_{connection_id.upper()}"


def upstreams_of(environment: Mapping[str, str], connection_ids: tuple[str, ...]) -> Upstreams:
    """Read the upstreams that an environment describes. A connection that cannot be resolved gets a note instead.

    The default upstream is that of ``NEO4J_URI``; without it, the first connection's. Raises BadSetting if
    ``NEO4J_URI`` cannot be used.
    """
    targets: dict[Target, int] = {}
    ids, notes = [], []
    default = None
    if target := _default_target(environment):
        default = targets.setdefault(target, len(targets))
    for name in connection_ids:
        try:
            connection = parse_connection(environment.get(variable_of(name)))
        except BadSetting as error:
            notes.append(f"connection {name} stays as it is: {variable_of(name)} {error}")
        else:
            ids.append((name, targets.setdefault(connection.target, len(targets)), connection))
    database = environment.get("NEO4J_DATABASE")
    if default is None and ids:
        _, default, connection = ids[0]
        database = database or connection.schema
    return Upstreams(tuple(targets), default, database or None, tuple(ids), tuple(notes))


def _default_target(environment: Mapping[str, str]) -> Target | None:
    uri = environment.get("NEO4J_URI")
    if not uri:
        return None
    try:
        check_uri(uri)
    except BadSetting as error:
        raise BadSetting(f"NEO4J_URI {error}") from None
    username, password = username_and_password(environment, "NEO4J_")
    return Target(uri, username, password)


def username_and_password(environment: Mapping[str, str], prefix: str) -> tuple[str, str]:
    """Return user name and password. A password alone gets Neo4j's first user; without both, the name is empty."""
    password = environment.get(f"{prefix}PASSWORD", "")
    return environment.get(f"{prefix}USERNAME") or ("neo4j" if password else ""), password


def check_uri(uri: str) -> None:
    """Raise BadSetting, without the value, for a URI that a Neo4j driver cannot use or should not be given."""
    try:
        parts = urlsplit(uri)
        has_host = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        raise BadSetting("cannot be read as a URI") from None
    if parts.scheme not in _SCHEMES:
        raise BadSetting(f"begins with none of {', '.join(f'{scheme}://' for scheme in _SCHEMES)}")
    if parts.username or parts.password:
        raise BadSetting("holds a user name or a password, which belong in settings of their own")
    if parts.query and not parts.scheme.startswith("neo4j"):
        raise BadSetting("holds a routing context (?…), which only neo4j:// can have")
    if not has_host or parts.path not in ("", "/") or any(letter.isspace() for letter in uri):
        raise BadSetting("names no host and port that can be used")


def parse_connection(value: str | None) -> AirflowConnection:
    """Read an Airflow connection. Raises BadSetting without the value, because it contains a password."""
    if not value:
        raise BadSetting("is not in the worker's environment")
    is_json = value.lstrip().startswith("{")
    if not is_json and value.count("://") > 1:      # Airflow takes the second scheme for a part of the host
        raise BadSetting("has a second scheme (as neo4j://bolt://…), which Neo4jHook cannot use: leave one")
    try:
        fields = json.loads(value) if is_json else _from_uri(value)
    except (ValueError, TypeError, AttributeError):
        raise BadSetting("cannot be read") from None
    return read_connection(fields)


def read_connection(fields: dict[str, Any]) -> AirflowConnection:
    """Read the fields of an Airflow connection, as in its JSON. Raises BadSetting, without any of the values."""
    try:
        port = int(fields.get("port") or _DEFAULT_PORT)
        extra = _extra(fields.get("extra"))
    except (ValueError, TypeError, AttributeError):
        raise BadSetting("cannot be read") from None
    if (fields.get("conn_type") or "").split("+")[0] not in _TYPES:
        raise BadSetting("is not a connection of type neo4j")
    _check_host(fields.get("host"))
    connection = AirflowConnection(fields["host"], port, fields.get("login"), fields.get("password"),
                                   fields.get("schema") or "", extra)
    check_uri(connection.target.uri)
    return connection


def _check_host(host: Any) -> None:
    """Raise BadSetting for a host that gives no address when Neo4jHook puts it before a colon and the port."""
    if not host or not isinstance(host, str):
        raise BadSetting("names no host")
    if "://" in host:
        raise BadSetting("has a scheme in its host, which Neo4jHook cannot use: write the name or address alone")
    if host.count(":") > 1 and not host.startswith("["):
        raise BadSetting("needs its IPv6 address in brackets, which Airflow keeps in JSON alone: "
                         '{"host": "[::1]", …}')


def _extra(extra: Any) -> dict[str, Any]:
    read = json.loads(extra) if isinstance(extra, str) and extra else extra or {}
    if not isinstance(read, dict):
        raise TypeError("not a map")
    return read


def _from_uri(value: str) -> dict[str, Any]:
    parts = urlsplit(value)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    extra = query.get("__extra__", query)
    return {"conn_type": parts.scheme.replace("-", "_"), "host": unquote(parts.hostname or ""), "port": parts.port,
            "login": None if parts.username is None else unquote(parts.username),
            "password": None if parts.password is None else unquote(parts.password),
            "schema": unquote(parts.path[1:]), "extra": extra}
