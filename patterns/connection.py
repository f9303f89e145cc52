"""What every pattern has in common: the interface, the source of its settings, and how a driver is made."""

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, TypedDict

from neo4j import AsyncDriver, AsyncGraphDatabase, Driver, GraphDatabase

from patterns.identity import Identity, user_agent
from patterns.target import ROOT, Target


class PoolSettings(TypedDict, total=False):
    """The driver settings in which patterns differ, times in seconds. A missing one has the driver's default."""

    max_connection_lifetime: float
    max_transaction_retry_time: float
    max_connection_pool_size: int
    connection_acquisition_timeout: float
    connection_timeout: float
    keep_alive: bool


class DatabaseConnection(ABC):
    """A way to get a driver. ``drivers_created`` counts the drivers that this object made, sync and async.

    Each alias names a separate driver; :meth:`Target.from_environment` says which server it connects to. The
    environment is read once for each alias.
    """

    name: ClassVar[str]
    settings: ClassVar[PoolSettings]

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._environ = os.environ if environ is None else environ
        self._targets: dict[str, Target] = {}
        self._lock = threading.Lock()
        self.drivers_created = 0

    @abstractmethod
    def get_driver(self, alias: str = ROOT) -> Driver:
        """Return a driver for the alias. Raises SettingError if the environment names no server."""

    @abstractmethod
    async def get_async_driver(self, alias: str = ROOT) -> AsyncDriver:
        """Return an async driver for the alias, for the running loop. Raises SettingError like :meth:`get_driver`."""

    def target(self, alias: str = ROOT) -> Target:
        """Return the server that the alias's driver connects to. Raises SettingError like :meth:`get_driver`."""
        if alias not in self._targets:
            self._targets[alias] = Target.from_environment(self._environ, alias)
        return self._targets[alias]

    def _new_driver(self, alias: str) -> Driver:
        target = self.target(alias)
        driver = GraphDatabase.driver(target.uri, auth=target.auth, user_agent=self._user_agent(alias),
                                      **self.settings)
        self._count()
        return driver

    def _new_async_driver(self, alias: str) -> AsyncDriver:
        target = self.target(alias)
        driver = AsyncGraphDatabase.driver(target.uri, auth=target.auth, user_agent=self._user_agent(alias),
                                           **self.settings)
        self._count()
        return driver

    def _user_agent(self, alias: str) -> str:
        return user_agent(Identity.of_this_process(self.name, alias))

    def _count(self) -> None:
        with self._lock:
            self.drivers_created += 1
