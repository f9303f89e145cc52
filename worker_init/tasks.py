"""For tasks: an ordinary Neo4j driver, connected to a shared driver where there is one.

Whether there is one is read from the environment at each call, because it is the worker that puts it
there, in the pool process, before the task is forked from it.
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

# The pool process itself, where plain Celery runs its tasks: its driver outlives a task.
_process: dict[str, Any] = {"pid": None, "driver": None}


def driver(**config: Any) -> "neo4j.Driver":
    """Return a driver for the worker's upstream, or where there is none for what the worker would have led to.

    That is ``NEO4J_URI``, without it the first Airflow connection of ``WORKER_INIT_CONNECTION_IDS``.

    In a forked task it is a new one, closed at the task's end; in a plain Celery task it is the pool
    process's, closed with the process, unless ``config`` asks for a special one. ``config`` is passed
    on to ``neo4j.GraphDatabase.driver``. Raises BadSetting where there is no upstream at all.
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
    """Return an asynchronous driver like :func:`driver`'s, always a new one: it belongs to one event loop.

    Close it in that loop (``async with``); what a task leaves open ends with its process.
    """
    from neo4j import AsyncGraphDatabase  # noqa: PLC0415 - as above
    uri, auth = _where(os.environ)
    return AsyncGraphDatabase.driver(uri, **{"auth": auth} | config)


def database() -> str | None:
    """Return the database that the upstream was configured with."""
    return (os.environ.get("NEO4J_WORKER_DATABASE") or os.environ.get("NEO4J_DATABASE")
            or (None if _has_uri(os.environ) else _of_connections(os.environ).database))


def keep_process_driver(pid: int) -> None:
    """From now on this process keeps its driver from task to task."""
    _process.update(pid=pid, driver=None)


def close_process_driver() -> None:
    """Close the driver that this process has kept."""
    kept = _process["driver"]
    _process.update(pid=None, driver=None)
    if kept:
        kept.close()


def _forgotten_when_closed(made: "neo4j.Driver") -> "neo4j.Driver":
    """Have this process forget the driver that it keeps once a task closes it, also at the end of a ``with``."""
    close = made.close

    def close_and_forget() -> None:
        if _process["driver"] is made:
            _process["driver"] = None
        close()
    made.close = close_and_forget  # type: ignore[method-assign]
    return made


def _close(reference: "weakref.ref[neo4j.Driver]") -> None:
    """Close a driver at the task's end, unless nobody has held it until then."""
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
    """Return what the Airflow connections in the environment describe, without any other variable."""
    ids = connection_ids(environment).of_environment
    given = {variable_of(name): environment[variable_of(name)] for name in ids if variable_of(name) in environment}
    return upstreams_of(given, ids)
