"""An Airflow secrets backend that leads a task's Neo4j connections, wherever they are stored, through shared drivers.

The Celery hooks switch it on in each pool process, in front of the user's own backend. In a task it resolves a
connection in Airflow's own order: the user's backend, the environment, then the execution API. If the connection has
the type ``neo4j``, the backend returns it with the address of a relay of the driver host, and all else unchanged.

If a backend raises an exception, Airflow asks the next one. So this backend never refuses with an exception: if there
can be no shared driver, the task gets its own connection and one line in its log. A denial comes from Airflow, and is
passed on.
"""

import asyncio
import functools
import importlib
import inspect
import json
import logging
import os
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any, NamedTuple

from airflow.sdk import configuration
from airflow.sdk import log as sdk_log
from airflow.sdk.bases.secrets_backend import BaseSecretsBackend
from airflow.sdk.configuration import conf, get_custom_secret_backend
from airflow.sdk.exceptions import AirflowSecretsBackendAccessDenied
from airflow.sdk.log import mask_secret

from worker_init.address_request import AddressRequest, NoAddress, ask
from worker_init.backend_setting import FOLDER, SLOT, WRAPPED, variables
from worker_init.connection_ids import ConnectionIds
from worker_init.errors import BadSetting
from worker_init.settings import connection_ids
from worker_init.targets import NEO4J_TYPE, Address, AirflowConnection, read_connection

log = logging.getLogger(__name__)

_FIELDS = ("conn_type", "host", "port", "login", "password", "schema", "extra")


def switch_on(environment: MutableMapping[str, str], folder: Path, slot: int) -> None:
    """Have the tasks of this process ask the host of a runtime folder for their Neo4j connections.

    The user's own backend stays configured, with its arguments. This one is put in front of it.
    """
    environment.update(variables(folder, slot, conf.get("workers", "secrets_backend", fallback="") or ""))
    # Airflow 3.2 has no such cache.
    getattr(configuration, "clear_secrets_backends_cache", lambda: None)()


class SharedDriverConnections(BaseSecretsBackend):
    """The user's backend. In tasks, Neo4j connections go through shared drivers; elsewhere it adds nothing."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        self._wrapped = _wrapped(os.environ.get(WRAPPED, ""), arguments)

    def _set_connection_class(self, conn_class: type) -> None:
        super()._set_connection_class(conn_class)
        if hasattr(self._wrapped, "_set_connection_class"):
            self._wrapped._set_connection_class(conn_class)  # noqa: SLF001 - as Airflow itself does with this one

    def get_connection(self, conn_id: str, team_name: str | None = None) -> Any:
        """Return a connection, or None if there is none.

        Raises AirflowSecretsBackendAccessDenied if Airflow denies access.
        """
        if not _is_task():
            return _call(self._wrapped, "get_connection", team_name, conn_id=conn_id)
        found = self._resolve(conn_id, team_name)
        mine = _mine(found)
        if not mine:
            return found
        if mine.found.password:     # Airflow masks the password of the connection that it is given
            mask_secret(mine.found.password)
        return mine.through_host()

    async def aget_connection(self, conn_id: str) -> Any:
        """Return a connection, or None if there is none.

        Raises AirflowSecretsBackendAccessDenied if Airflow denies access.
        """
        if not _is_task():
            return await _acall(self._wrapped, "connection", conn_id=conn_id)
        found = await self._aresolve(conn_id)
        mine = _mine(found)
        if not mine:
            return found
        if mine.found.password:
            await _amask(mine.found.password)
        return await asyncio.to_thread(mine.through_host)

    def get_variable(self, key: str, team_name: str | None = None) -> Any:
        """Return a variable from the user's backend, or None."""
        return _call(self._wrapped, "get_variable", team_name, key=key)

    async def aget_variable(self, key: str) -> Any:
        """Return a variable from the user's backend, or None."""
        return await _acall(self._wrapped, "variable", key=key)

    def get_config(self, key: str) -> Any:
        """Return a configuration option from the user's backend, or None."""
        return self._wrapped.get_config(key) if self._wrapped else None

    def _chain(self) -> list[Any]:
        """Return the backends that Airflow would ask, in its order."""
        from airflow.sdk.execution_time.supervisor import ensure_secrets_backend_loaded  # noqa: PLC0415 - it is there
        others = [one for one in ensure_secrets_backend_loaded() if not isinstance(one, SharedDriverConnections)]
        return [self._wrapped, *others] if self._wrapped else others

    def _resolve(self, conn_id: str, team_name: str | None) -> Any:
        for backend in self._chain():
            try:
                if found := _call(backend, "get_connection", team_name, conn_id=conn_id):
                    return found
            except AirflowSecretsBackendAccessDenied:
                raise
            except Exception:
                _could_not(backend)
        return None

    async def _aresolve(self, conn_id: str) -> Any:
        for backend in self._chain():
            try:
                if found := await _acall(backend, "connection", conn_id=conn_id):
                    return found
            except AirflowSecretsBackendAccessDenied:
                raise
            except Exception:
                _could_not(backend)
        return None


class Mine(NamedTuple):
    """A connection to lead through a shared driver: as it was found, and as Neo4jHook reads it."""

    found: Any
    read: AirflowConnection

    def through_host(self) -> Any:
        """Return the connection with a relay's address, or unchanged if there is none."""
        try:
            address = ask(Path(os.environ[FOLDER]), AddressRequest(_slot(os.environ), self.read.target))
        except NoAddress as error:
            _say(f"connection {self.found.conn_id}: this task connects by itself: {error}")
            return self.found
        return self._at(address) if address else self.found

    def _at(self, address: Address) -> Any:
        found, extra = self.found, self.read.local_extra
        as_json = found.extra if extra == self.read.extra else json.dumps(extra)
        return type(found)(conn_id=found.conn_id, conn_type=found.conn_type, description=found.description,
                           host=address.host, port=address.port, login=address.credentials.username,
                           password=address.credentials.password, schema=found.schema,
                           extra=as_json)


def _mine(found: Any) -> Mine | None:
    """Return the connection to lead through a shared driver, or None if it stays as it is."""
    if not found or FOLDER not in os.environ:
        return None
    try:
        ids = connection_ids(os.environ)
    except BadSetting as error:
        _say(f"this task connects by itself: {error}")
        return None
    if not _is_wanted(found, ids):
        return None
    try:
        return Mine(found, read_connection({name: getattr(found, name) for name in _FIELDS}))
    except BadSetting as error:
        _say(f"connection {found.conn_id}: this task connects by itself: it {error}")
        return None


def _is_wanted(found: Any, ids: ConnectionIds) -> bool:
    return ids.admits(found.conn_id) if found.conn_type == NEO4J_TYPE else ids.names(found.conn_id)


def _wrapped(name: str, arguments: Mapping[str, Any]) -> Any:
    """Return the user's backend: the one of [workers], whose arguments Airflow has read, else the one of [secrets]."""
    if not name:
        return get_custom_secret_backend(worker_mode=False)
    module, _, of_module = name.rpartition(".")
    return getattr(importlib.import_module(module), of_module)(**arguments)


def _call(backend: Any, method: str, team_name: str | None, **key: str) -> Any:
    """Call a lookup method of a backend, which may be too old to know teams."""
    if backend is None:
        return None
    lookup = getattr(backend, method)
    knows_teams = {"team_name", "kwargs"} & inspect.signature(lookup).parameters.keys()
    return lookup(**key, **({"team_name": team_name} if knows_teams else {}))


async def _acall(backend: Any, what: str, **key: str) -> Any:
    """Call a lookup without blocking the event loop, even if the backend has no asynchronous version of it."""
    if backend is None:
        return None
    if lookup := getattr(backend, f"aget_{what}", None):
        return await lookup(**key)
    return await asyncio.to_thread(_call, backend, f"get_{what}", None, **key)


async def _amask(password: str) -> None:
    """Mask a password in the task's log. Airflow 3.2 can only do this outside an event loop."""
    if amask_secret := getattr(sdk_log, "amask_secret", None):
        await amask_secret(password)
    else:
        await asyncio.to_thread(mask_secret, password)


def _is_task() -> bool:
    """Whether this is a task's process, found out as Airflow does."""
    runner = sys.modules.get("airflow.sdk.execution_time.task_runner")
    return getattr(runner, "SUPERVISOR_COMMS", None) is not None


def _slot(environment: Mapping[str, str]) -> int:
    slot = environment.get(SLOT, "0")
    return int(slot) if slot.isdecimal() else 0


def _could_not(backend: Any) -> None:
    """Log at Airflow's own level that the next backend is asked."""
    log.debug("%s could not be asked for a connection; asking the next one", type(backend).__name__, exc_info=True)


@functools.cache
def _say(what: str) -> None:
    """Log a line, once for each task."""
    log.warning("%s", what)
