"""For tasks: an ordinary Neo4j driver, connected to a shared driver if there is one.

Each call reads the environment again, because the worker changes it in the pool process, before it forks the task from
that process.
"""

import atexit
import os
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from worker_init.errors import BadSetting
from worker_init.settings import connection_ids
from worker_init.targets import Upstreams, upstreams_of, username_and_password, variable_of

if TYPE_CHECKING:
    import neo4j

# Set in the pool process itself, where plain Celery runs its tasks: its driver outlives a task.
_process: dict[str, Any] = {"pid": None, "driver": None}


def driver(**config: Any) -> "neo4j.Driver":
    """Return a driver for the worker's upstream or, without a worker, for the server that the worker would connect to.

    That server is ``NEO4J_URI``; without it, the first Airflow connection of ``WORKER_INIT_CONNECTION_IDS``.

    In a forked task the driver is a new one, closed at the task's end. In a plain Celery task it belongs to the pool
    process and is closed with it, unless ``config`` asks for a special one. ``config`` is passed on to
    ``neo4j.GraphDatabase.driver``. Raises BadSetting if there is no upstream at all.
    """
    # Late: a pool process that is starting must not pay for this import.
    from neo4j import GraphDatabase  # noqa: PLC0415
    uri, auth = _where(os.environ)
    if os.getpid() != _process["pid"] or config:
        made = GraphDatabase.driver(uri, **{"auth": auth} | config)
        atexit.register(_close, weakref.ref(made))
        return made
    if _process["driver"] is None:
        _process["driver"] = _forgotten_when_closed(GraphDatabase.driver(uri, auth=auth))
    kept: neo4j.Driver = _process["driver"]
    return kept


def async_driver(**config: Any) -> "neo4j.AsyncDriver":
    """Return an asynchronous driver like that of :func:`driver`, always a new one: it belongs to one event loop.

    Close it in that loop (``async with``). What a task leaves open ends with its process. Raises BadSetting if there is
    no upstream at all.
    """
    from neo4j import AsyncGraphDatabase  # noqa: PLC0415 - as above
    uri, auth = _where(os.environ)
    return AsyncGraphDatabase.driver(uri, **{"auth": auth} | config)


def database() -> str | None:
    """Return the database that the upstream was configured with; None for the server's default."""
    return (os.environ.get("NEO4J_WORKER_DATABASE") or os.environ.get("NEO4J_DATABASE")
            or (None if _has_uri(os.environ) else _of_connections(os.environ).database))


def keep_process_driver(pid: int) -> None:
    """Make this process keep its driver from task to task."""
    _process.update(pid=pid, driver=None)


def close_process_driver() -> None:
    """Close the driver that this process has kept."""
    kept = _process["driver"]
    _process.update(pid=None, driver=None)
    if kept:
        kept.close()


def _forgotten_when_closed(made: "neo4j.Driver") -> "neo4j.Driver":
    """Make this process forget its kept driver when a task closes it, even at the end of a ``with``."""
    close = made.close

    def close_and_forget() -> None:
        if _process["driver"] is made:
            _process["driver"] = None
        close()
    made.close = close_and_forget  # type: ignore[method-assign]
    return made


def _close(reference: "weakref.ref[neo4j.Driver]") -> None:
    """Close a driver at the task's end, unless it has been garbage-collected by then."""
    made = reference()
    if made:
        made.close()


def _where(environment: Mapping[str, str]) -> tuple[str, tuple[str, str] | None]:
    for prefix in ("NEO4J_WORKER_", "NEO4J_"):
        if uri := environment.get(f"{prefix}URI"):
            username, password = username_and_password(environment, prefix)
            return uri, (username, password) if username else None
    upstreams = _of_connections(environment)
    if upstreams.default is None:
        names = ", ".join(map(variable_of, connection_ids(environment).of_environment)) or "a connection"
        raise BadSetting(f"set NEO4J_URI, or {names}: the environment has no Neo4j (neither NEO4J_WORKER_URI nor "
                         f"NEO4J_URI is set{''.join(f'; {note}' for note in upstreams.notes)})")
    target = upstreams.targets[upstreams.default]
    return target.uri, (target.username, target.password) if target.username else None


def _has_uri(environment: Mapping[str, str]) -> bool:
    return any(environment.get(name) for name in ("NEO4J_WORKER_URI", "NEO4J_URI"))


def _of_connections(environment: Mapping[str, str]) -> Upstreams:
    """Return the upstreams of the Airflow connections in the environment, without any other variable."""
    ids = connection_ids(environment).of_environment
    given = {variable_of(name): environment[variable_of(name)] for name in ids if variable_of(name) in environment}
    return upstreams_of(given, ids)
