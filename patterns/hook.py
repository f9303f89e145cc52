"""What most DAGs use: the stock ``Neo4jHook`` of Airflow's provider, with nothing of this project in it."""

from collections.abc import Mapping
from typing import Any, ClassVar

from airflow.providers.neo4j.hooks.neo4j import Neo4jHook
from neo4j import AsyncDriver, Driver

from patterns.connection import DatabaseConnection, PoolSettings
from patterns.target import ROOT, Target

# The hook's own default; AIRFLOW_CONN_NEO4J_DEFAULT describes it.
DEFAULT_ID = "neo4j_default"


class NoAsyncDriverError(ValueError):
    """The stock hook only has the synchronous driver."""


class HookDatabaseConnection(DatabaseConnection):
    """One hook for each alias, asked for its driver at every call, as ``Neo4jHook.run`` does, and never closed.

    The alias ``root`` is the connection id ``neo4j_default``; any other alias is ``neo4j_<alias>``. The hook takes no
    user agent, so the server cannot tell whose its connections are.
    """

    name = "hook"
    settings: ClassVar[PoolSettings] = {}

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        super().__init__(environ)
        self._hooks: dict[str, Neo4jHook] = {}

    def get_driver(self, alias: str = ROOT) -> Driver:
        """Return the hook's driver. Raises Airflow's own error if there is no such connection."""
        hook = self._hook(alias)
        if hook.client is None:
            self._count()
        driver: Driver = hook.get_conn()
        return driver

    async def get_async_driver(self, alias: str = ROOT) -> AsyncDriver:
        """Raise NoAsyncDriverError, because the hook has no async driver."""
        raise NoAsyncDriverError(f"the stock Neo4jHook has no async driver (alias {alias!r}) — use driver sync")

    def target(self, alias: str = ROOT) -> Target:
        """Return the server that the hook connects to, as Airflow's connection describes it."""
        if alias not in self._targets:
            hook = self._hook(alias)
            # A task has its own Connection class, which the provider's annotations do not know.
            connection: Any = hook.get_connection(hook.neo4j_conn_id)
            self._targets[alias] = Target(hook.get_uri(connection), connection.login or "", connection.password or "",
                                          connection.schema or None)
        return self._targets[alias]

    def _hook(self, alias: str) -> Neo4jHook:
        if alias not in self._hooks:
            self._hooks[alias] = Neo4jHook(DEFAULT_ID if alias == ROOT else f"neo4j_{alias}")
        return self._hooks[alias]
