"""The better pattern: one driver per process and alias, verified before reuse, closed at exit."""

import asyncio
import logging
from functools import partial
from typing import ClassVar

from neo4j import AsyncDriver, Driver
from neo4j.exceptions import DriverError, Neo4jError

from patterns.connection import DatabaseConnection, PoolSettings
from patterns.kept_drivers import Key, async_drivers, sync_drivers
from patterns.target import ROOT

log = logging.getLogger(__name__)

# The errors of a driver that cannot reach its server, or that the server no longer accepts.
UNUSABLE = (DriverError, Neo4jError)


class ImprovedDatabaseConnection(DatabaseConnection):
    """Shares the process's drivers. Sync and async ones are separate; an async one is only used in its event loop.

    On Airflow 3 each task is a separate process, so this saves connections within a task, but none between tasks.
    """

    name = "improved"
    settings: ClassVar[PoolSettings] = {"max_connection_lifetime": 300, "max_connection_pool_size": 50,
                                        "connection_acquisition_timeout": 60, "connection_timeout": 30,
                                        "keep_alive": True}

    def get_driver(self, alias: str = ROOT) -> Driver:
        """Return the process's driver for the alias, or a new one if that driver cannot reach its server.

        Raises SettingError if the environment names no server. If the server does not answer, the error comes at the
        first use of the driver, not here.
        """
        cache, create = sync_drivers(), partial(self._create, alias)
        key = Key(self.name, alias, self.target(alias), None)
        driver, is_new = cache.find_or_create(key, create)
        if is_new:
            return driver
        try:
            driver.verify_connectivity()
        except UNUSABLE as error:
            _report_broken("sync", alias, error)
            replacement = cache.replace(key, driver, create)
            driver.close()
            return replacement
        _report_reuse("sync", alias)
        return driver

    async def get_async_driver(self, alias: str = ROOT) -> AsyncDriver:
        """Return the running loop's driver for the alias, or a new one if that driver cannot reach its server.

        Raises like :meth:`get_driver`.
        """
        cache, create = async_drivers(), partial(self._create_async, alias)
        key = Key(self.name, alias, self.target(alias), asyncio.get_running_loop())
        driver, is_new = cache.find_or_create(key, create)
        if is_new:
            return driver
        try:
            await driver.verify_connectivity()
        except UNUSABLE as error:
            _report_broken("async", alias, error)
            replacement = cache.replace(key, driver, create)
            await driver.close()
            return replacement
        _report_reuse("async", alias)
        return driver

    def _create(self, alias: str) -> Driver:
        driver = self._new_driver(alias)
        log.info("🍌 Improved: created new sync driver for %s", alias)
        return driver

    def _create_async(self, alias: str) -> AsyncDriver:
        driver = self._new_async_driver(alias)
        log.info("🍌 Improved: created new async driver for %s", alias)
        return driver


def _report_reuse(kind: str, alias: str) -> None:
    log.info("🍌 Improved: reusing existing %s driver for %s", kind, alias)


def _report_broken(kind: str, alias: str, error: Exception) -> None:
    log.warning("🍌 Improved: existing %s driver for %s cannot be used, replacing and closing it: %s",
                kind, alias, error)
