"""The better pattern: one driver per process and alias, verified before reuse, closed at exit."""

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import ClassVar, Generic, NamedTuple, TypeVar

from neo4j import AsyncDriver, Driver
from neo4j.exceptions import DriverError, Neo4jError

from patterns.connection import DatabaseConnection, PoolSettings
from patterns.per_process import PerProcess
from patterns.target import ROOT, Target

log = logging.getLogger(__name__)

# What a driver raises that cannot reach its server, or that the server no longer lets in.
UNUSABLE = (DriverError, Neo4jError)

AnyDriver = TypeVar("AnyDriver", Driver, AsyncDriver)


class _Key(NamedTuple):
    """What makes two requests ask for the same driver; ``loop`` is the one an async driver lives in."""

    alias: str
    target: Target
    loop: asyncio.AbstractEventLoop | None


class _Cache(Generic[AnyDriver]):
    """Drivers by key. Decides under its lock and leaves the talking to the server to its callers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._drivers: dict[_Key, AnyDriver] = {}

    def find_or_create(self, key: _Key, create: Callable[[], AnyDriver]) -> tuple[AnyDriver, bool]:
        """Return the key's driver, and whether it is new."""
        with self._lock:
            is_new = key not in self._drivers
            if is_new:
                self._drivers[key] = create()
            return self._drivers[key], is_new

    def replace(self, key: _Key, broken: AnyDriver, create: Callable[[], AnyDriver]) -> AnyDriver:
        """Return the key's new driver: of several threads that found one broken, the first makes it."""
        with self._lock:
            if self._drivers.get(key) is broken:
                self._drivers[key] = create()
            return self._drivers[key]

    def pop(self, condition: Callable[[_Key], bool]) -> list[tuple[_Key, AnyDriver]]:
        """Take out the drivers whose key meets the condition."""
        with self._lock:
            return [(key, self._drivers.pop(key)) for key in list(self._drivers) if condition(key)]


class ImprovedDatabaseConnection(DatabaseConnection):
    """Shares the process's drivers: sync and async apart, and an async one only within its event loop.

    On Airflow 3 each task is a process of its own, so this saves connections within a task and none
    between tasks.
    """

    name = "improved"
    settings: ClassVar[PoolSettings] = {"max_connection_lifetime": 300, "max_connection_pool_size": 50,
                                        "connection_acquisition_timeout": 60, "connection_timeout": 30,
                                        "keep_alive": True}

    def get_driver(self, alias: str = ROOT) -> Driver:
        """Return the process's driver for the alias, or a new one where that cannot reach its server.

        Raises SettingError where the environment names no server. A server that answers nothing raises
        at the first use of the driver, not here.
        """
        cache, key, create = _SYNC.get(), _Key(alias, self.target(alias), None), partial(self._create, alias)
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
        """Return the running loop's driver for the alias, or a new one where that cannot reach its server.

        Raises as :meth:`get_driver` does.
        """
        cache, create = _ASYNC.get(), partial(self._create_async, alias)
        _forget_closed_loops(cache)
        key = _Key(alias, self.target(alias), asyncio.get_running_loop())
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

    @staticmethod
    def close_all() -> None:
        """Close the process's drivers, as its exit does. Not to be called from a running event loop."""
        _close_async_drivers(_ASYNC.get())
        _close_sync_drivers(_SYNC.get())

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


def _forget_closed_loops(cache: _Cache[AsyncDriver]) -> None:
    for key, _ in cache.pop(lambda key: key.loop is not None and key.loop.is_closed()):
        log.warning("🍌 Improved: the event loop of the async driver for %s has ended without closing it: "
                    "its connections are dropped without a GOODBYE", key.alias)


def _close_sync_drivers(cache: _Cache[Driver]) -> None:
    with ExitStack() as stack:  # closes the others too where one fails
        for _, driver in cache.pop(lambda _: True):
            stack.callback(driver.close)


def _close_async_drivers(cache: _Cache[AsyncDriver]) -> None:
    _forget_closed_loops(cache)
    with ExitStack() as stack:
        for key, driver in cache.pop(lambda _: True):
            if key.loop is not None:
                stack.callback(_close_in_loop, key.loop, driver)


def _close_in_loop(loop: asyncio.AbstractEventLoop, driver: AsyncDriver) -> None:
    loop.run_until_complete(driver.close())


_SYNC = PerProcess(_Cache[Driver], _close_sync_drivers)
_ASYNC = PerProcess(_Cache[AsyncDriver], _close_async_drivers)
