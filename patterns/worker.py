"""The pattern that shares connections across tasks: the shared driver of ``worker_init``."""

import asyncio
import logging
from functools import partial
from typing import ClassVar

from neo4j import AsyncDriver, Driver

import worker_init
from patterns.connection import DatabaseConnection, PoolSettings
from patterns.identity import Identity, user_agent
from patterns.kept_drivers import Key, async_drivers, sync_drivers
from patterns.target import ROOT, Target

log = logging.getLogger(__name__)


class WorkerDatabaseConnection(DatabaseConnection):
    """One driver for each process, which connects to the shared driver; that one outlives the tasks.

    It needs no check before reuse: its peer is on the same machine, and checks the server for it. If there is no shared
    driver, it connects by itself, as ``improved`` does. The worker only has one for the alias ``root``; any other alias
    also connects by itself.
    """

    name = "worker"
    settings: ClassVar[PoolSettings] = {}

    def get_driver(self, alias: str = ROOT) -> Driver:
        """Return the process's driver for the alias. Raises SettingError if the environment names no server."""
        key = Key(self.name, alias, self.target(alias), None)
        return sync_drivers().find_or_create(key, partial(self._new_driver, alias))[0]

    async def get_async_driver(self, alias: str = ROOT) -> AsyncDriver:
        """Return the running loop's driver for the alias. Raises SettingError like :meth:`get_driver`."""
        key = Key(self.name, alias, self.target(alias), asyncio.get_running_loop())
        return async_drivers().find_or_create(key, partial(self._new_async_driver, alias))[0]

    def target(self, alias: str = ROOT) -> Target:
        """Return the server of the alias's driver: the worker's address if there is one. Raises SettingError."""
        # NEO4J_WORKER_URI and the other variables fall back to NEO4J_URI and so on separately, as an alias's variables
        # do.
        return super().target("worker" if alias == ROOT else alias)

    def _new_driver(self, alias: str) -> Driver:
        if alias != ROOT:
            return super()._new_driver(alias)
        driver = worker_init.driver(user_agent=self._agent(), **self.settings)
        self._created("sync")
        return driver

    def _new_async_driver(self, alias: str) -> AsyncDriver:
        if alias != ROOT:
            return super()._new_async_driver(alias)
        driver = worker_init.async_driver(user_agent=self._agent(), **self.settings)
        self._created("async")
        return driver

    def _agent(self) -> str:
        # The server only sees this user agent if there is no shared driver; otherwise it sees the shared driver's.
        return user_agent(Identity.of_this_process(self.name, ROOT))

    def _created(self, kind: str) -> None:
        self._count()
        log.info("🍌 Worker: created %s driver for root at %s", kind, self.target().uri)
