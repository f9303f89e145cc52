"""``rig watch``: which clients have connections open at a Neo4j. It takes one connection, and runs nothing else.

The server lists its connections with user agent and client. The owner of a connection is known from a user agent of
this project's patterns or, while a transaction runs, from its metadata: ``dag_id`` and ``task_id`` if the task has set
them.
"""

import getpass
import json
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self, TypedDict

import neo4j
from pydantic import SecretStr
from rich.console import Group
from rich.live import Live
from rich.text import Text

from patterns import identity
from patterns.server_errors import SERVER_ERRORS, how_to_reach, one_line, refuses_user
from rig.console import console, figures_table
from rig.errors import BadInput, RigError
from rig.plural import plural
from rig.settings import Settings, neo4j_address
from rig.stack.state import StackState
from worker_init.upstream import USER_AGENT as SHARED_AGENT

USER_AGENT = "neo4j-airflow-connections-rig"
UNKNOWN = "\N{EN DASH}"

_CONNECTIONS = ("CALL dbms.listConnections() YIELD connectionId, userAgent, clientAddress, username, connector "
                "WHERE connector STARTS WITH 'bolt' RETURN connectionId, userAgent, clientAddress, username")
_TRANSACTIONS = "SHOW TRANSACTIONS YIELD connectionId, metaData RETURN connectionId, metaData"
_USER = "SHOW CURRENT USER YIELD user, roles RETURN roles"
_ADMIN = "admin"


class Target(NamedTuple):
    """The server to watch, and the user to log on with."""

    uri: str
    username: str
    password: SecretStr


class Client(TypedDict):
    """Connections that differ only in their ids. ``running`` is None if it is not known."""

    user_agent: str | None
    client: str
    username: str | None
    pattern: str | None
    worker: str | None
    task_pid: int | None
    dag_id: str | None
    task_id: str | None
    open: int
    running: int | None


class Look(TypedDict):
    """The server at one moment (epoch, s). ``seen`` is how many connections were seen since the first look."""

    schema: int
    at: float
    server: str
    open: int
    idle: int | None
    running: int | None
    seen: int
    clients: list[Client]
    missing: list[str]


class _Owner(NamedTuple):
    user_agent: str | None
    client: str
    username: str | None
    dag_id: str | None
    task_id: str | None


@dataclass
class Watcher:
    """Looks at a server over one connection, which is not counted in any figure. A context manager."""

    target: Target
    _agent: str = field(default_factory=lambda: f"{USER_AGENT} (watch={uuid.uuid4().hex})")
    _seen: set[str] = field(default_factory=set)
    _reached: bool = False

    def __enter__(self) -> Self:
        self._driver = neo4j.GraphDatabase.driver(
            self.target.uri, auth=(self.target.username, self.target.password.get_secret_value()),
            user_agent=self._agent, max_connection_pool_size=1, connection_timeout=5, connection_acquisition_timeout=5,
            max_transaction_retry_time=0)
        return self

    def __exit__(self, *_: object) -> None:
        self._driver.close()

    def looks(self, every: float) -> Iterator[Look]:
        """Look again and again, ``every`` seconds after the last look. The first look does not wait."""
        while True:
            yield self.look()
            time.sleep(every)

    def look(self) -> Look:
        """Look once.

        Raises BadInput if the user may not list connections or the server was never reached, RigError if it no longer
        answers.
        """
        try:
            with self._driver.session(fetch_size=-1) as session:
                rows = [record.data() for record in session.run(_CONNECTIONS)]
                roles = session.run(_USER).single(strict=True)["roles"]
                running, reason = self._transactions(session)
        except SERVER_ERRORS as error:
            raise self._explained(error) from error
        others = [row for row in rows if row["userAgent"] != self._agent]
        self._reached = True
        self._seen |= {row["connectionId"] for row in others}
        missing = [line for line in (_missing_role(self.target.username, roles), reason) if line]
        return _look(self.target.uri, others, running, len(self._seen), missing)

    @staticmethod
    def _transactions(session: neo4j.Session) -> tuple[Mapping[str, Mapping[str, Any]] | None, str | None]:
        """Return the metadata of each running transaction by connection; None and the reason if that is refused."""
        try:
            found = session.run(_TRANSACTIONS).values()
        except neo4j.exceptions.ClientError as error:
            return None, (f"which connections are in a transaction cannot be told: {one_line(error)} — grant "
                          "SHOW TRANSACTION")
        return {connection: metadata or {} for connection, metadata in found if connection}, None

    def _explained(self, error: Exception) -> RigError:
        uri, said = self.target.uri, one_line(error)
        if refuses_user(error):
            return BadInput(f"Neo4j at {uri} refuses the user {self.target.username!r}: {said}",
                            "check NEO4J_USERNAME and NEO4J_PASSWORD")
        if isinstance(error, neo4j.exceptions.ClientError):
            return BadInput(f"user {self.target.username!r} may not list the connections of {uri}: {said}",
                            "grant it EXECUTE PROCEDURE dbms.listConnections, SHOW TRANSACTION and the role admin")
        if self._reached:
            return RigError(f"Neo4j at {uri} does not answer any more: {said}")
        return BadInput(f"Neo4j at {uri} cannot be reached: {said}",
                        how_to_reach(said, "check the address and that the server is up"))


def _missing_role(username: str, roles: list[str] | None) -> str | None:
    """Return what a user without the role admin does not see. The Community Edition has no roles."""
    if roles is None or _ADMIN in roles:
        return None
    return (f"user {username!r} does not have the role {_ADMIN} (it has: {', '.join(roles) or 'none'}): Neo4j shows it "
            "only its own connections and transactions")


def _look(uri: str, rows: list[dict[str, Any]], running: Mapping[str, Mapping[str, Any]] | None, seen: int,
          missing: list[str]) -> Look:
    open_: Counter[_Owner] = Counter()
    busy: Counter[_Owner] = Counter()
    for row in rows:
        owner = _owner(row, (running or {}).get(row["connectionId"], {}))
        open_[owner] += 1
        busy[owner] += row["connectionId"] in (running or {})
    known = running is not None
    clients = [_client(owner, open_[owner], busy[owner] if known else None)
               for owner in sorted(open_, key=lambda owner: (-open_[owner], str(owner)))]
    return Look(schema=1, at=time.time(), server=uri, open=len(rows), seen=seen, clients=clients, missing=missing,
                running=busy.total() if known else None, idle=len(rows) - busy.total() if known else None)


def _owner(row: Mapping[str, Any], metadata: Mapping[str, Any]) -> _Owner:
    host = (row["clientAddress"] or "").rpartition(":")[0].strip("[]")
    dag, task = (str(metadata[name]) if name in metadata else None for name in ("dag_id", "task_id"))
    return _Owner(row["userAgent"], host or UNKNOWN, row["username"] or None, dag, task)


def _client(owner: _Owner, open_: int, running: int | None) -> Client:
    agent = identity.parse(owner.user_agent)
    return Client(
        user_agent=owner.user_agent, client=owner.client, username=owner.username, dag_id=owner.dag_id,
        task_id=owner.task_id, pattern=agent.pattern if agent else None, worker=agent.worker if agent else None,
        task_pid=agent.task_pid if agent else None, open=open_, running=running)


def target(config: Settings, uri: str | None, username: str | None, stack: Callable[[], StackState]) -> Target:
    """Return the server to watch: the one that is named, else that of NEO4J_URI, else that of the running stack.

    The password is NEO4J_PASSWORD, or the user is asked for it: other users of this machine could read it in an
    argument. Raises BadInput if no server is named, or if there is no terminal to ask for the password.
    """
    if uri is None and config.neo4j_uri is None:
        try:
            state = stack()
        except BadInput as error:
            raise BadInput("no Neo4j is named, and no stack is running",
                           "give --uri, or set NEO4J_URI and NEO4J_PASSWORD") from error
        return Target(state.neo4j_uri, state.neo4j_username, state.secrets.neo4j)
    try:
        address = neo4j_address(uri or config.neo4j_uri or "")
    except ValueError as error:
        raise BadInput(f"--uri: {error}", "name one server, such as bolt://127.0.0.1:7687") from None
    name = username or config.neo4j_username
    return Target(address, name, config.neo4j_password or _asked_for(name, address))


def _asked_for(username: str, address: str) -> SecretStr:
    if not sys.stdin.isatty():
        raise BadInput("no password is set, and there is no terminal to ask for it", "set NEO4J_PASSWORD")
    return SecretStr(getpass.getpass(f"Password of {username} at {address}: "))


# For the terminal

def show(looks: Iterable[Look], *, as_json: bool) -> None:
    """Show each look. On a terminal, it replaces the last one; elsewhere, looks follow each other."""
    if as_json:
        for look in looks:
            print(json.dumps(look), flush=True)
    elif not console.is_terminal:
        for look in looks:
            console.print(shown(look))
    else:
        with Live(console=console, auto_refresh=False) as live:
            for look in looks:
                live.update(shown(look), refresh=True)


def shown(look: Look) -> Group:
    """Return a look in the form for people."""
    made = figures_table("user agent", "client", "user", "Airflow task", title=Text(_headline(look)),
                         title_justify="left", title_style="bold")
    for title in ("open", "idle", "in a\ntransaction"):
        made.add_column(title, justify="right")
    for client in look["clients"]:
        running = client["running"]
        made.add_row(Text(_agent(client)), Text(client["client"]), Text(client["username"] or UNKNOWN),
                     Text(_task(client)), str(client["open"]),
                     *([UNKNOWN] * 2 if running is None else [str(client["open"] - running), str(running)]))
    return Group(made, *(Text(line, style="yellow") for line in look["missing"]))


def _headline(look: Look) -> str:
    halves = "" if look["running"] is None else f" ({look['idle']} idle, {look['running']} in a transaction)"
    return (f"{look['server']}: {plural(look['open'], 'connection')} open{halves}, {look['seen']} seen since the "
            f"start; {time.strftime('%H:%M:%S', time.localtime(look['at']))}")


def _agent(client: Client) -> str:
    if client["user_agent"] is None:
        return "(no HELLO yet)"
    if client["user_agent"] == SHARED_AGENT:
        return f"{SHARED_AGENT}: shared drivers"
    return f"pattern {client['pattern']}" if client["pattern"] else client["user_agent"]


def _task(client: Client) -> str:
    named = f"{client['dag_id'] or UNKNOWN}.{client['task_id'] or UNKNOWN}" if client["dag_id"] or client["task_id"] \
        else ""
    process = f"process {client['task_pid']} of worker {client['worker']}" if client["worker"] else ""
    return ", ".join(filter(None, (named, process))) or UNKNOWN
