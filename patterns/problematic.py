"""The bad pattern: a new driver for every call, never closed."""

import logging
from typing import ClassVar

from neo4j import AsyncDriver, Driver

from patterns.connection import DatabaseConnection, PoolSettings
from patterns.target import ROOT

log = logging.getLogger(__name__)


class ProblematicDatabaseConnection(DatabaseConnection):
    """Makes a new driver, and so a pool and a connection, each time it is asked.

    ``kept`` holds every driver of the process. Without a reference, the garbage collector would drop most of their
    sockets (driver 6) or close the drivers (driver 5), and so hide what this pattern is meant to show.
    """

    name = "problematic"
    settings: ClassVar[PoolSettings] = {"max_connection_lifetime": 120, "max_transaction_retry_time": 10}
    kept: ClassVar[list[Driver | AsyncDriver]] = []

    def get_driver(self, alias: str = ROOT) -> Driver:
        """Return a new driver. Raises SettingError if the environment names no server."""
        _announce(alias)
        driver = self._new_driver(alias)
        self.kept.append(driver)
        _confirm(alias)
        return driver

    async def get_async_driver(self, alias: str = ROOT) -> AsyncDriver:
        """Return a new async driver. Raises SettingError like :meth:`get_driver`."""
        _announce(alias)
        driver = self._new_async_driver(alias)
        self.kept.append(driver)
        _confirm(alias)
        return driver


def _announce(alias: str) -> None:
    log.info("🍌 DEBUG: about to create NEW driver for alias '%s' (THIS IS THE PROBLEM!)🍌🍌🍌", alias)


def _confirm(alias: str) -> None:
    log.info("🍌 Problematic: created new driver for alias '%s'", alias)
