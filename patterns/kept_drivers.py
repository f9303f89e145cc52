"""A process's drivers, kept from call to call, for the patterns that reuse drivers."""

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Generic, NamedTuple, TypeVar

from neo4j import AsyncDriver, Driver

from patterns.per_process import PerProcess
from patterns.target import Target

log = logging.getLogger(__name__)

AnyDriver = TypeVar("AnyDriver", Driver, AsyncDriver)


class Key(NamedTuple):
    """What identifies a driver. ``loop`` is the event loop to which an async driver belongs."""

    pattern: str
    alias: str
    target: Target
    loop: asyncio.AbstractEventLoop | None


class Cache(Generic[AnyDriver]):
    """Drivers by key. It decides under its lock, and leaves all talking to the server to its callers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._drivers: dict[Key, AnyDriver] = {}

    def find_or_create(self, key: Key, create: Callable[[], AnyDriver]) -> tuple[AnyDriver, bool]:
        """Return the key's driver, and whether it is new."""
        with self._lock:
            is_new = key not in self._drivers
            if is_new:
                self._drivers[key] = create()
            return self._drivers[key], is_new

    def replace(self, key: Key, broken: AnyDriver, create: Callable[[], AnyDriver]) -> AnyDriver:
        """Return the key's new driver. If several threads found the same driver broken, the first one replaces it."""
        with self._lock:
            if self._drivers.get(key) is broken:
                self._drivers[key] = create()
            return self._drivers[key]

    def pop(self, condition: Callable[[Key], bool]) -> list[tuple[Key, AnyDriver]]:
        """Remove and return the drivers whose key meets the condition."""
        with self._lock:
            return [(key, self._drivers.pop(key)) for key in list(self._drivers) if condition(key)]


def sync_drivers() -> Cache[Driver]:
    """Return this process's drivers; they are closed when it ends."""
    return _SYNC.get()


def async_drivers() -> Cache[AsyncDriver]:
    """Return this process's async drivers, without those of loops that have ended. They are closed when it ends."""
    cache = _ASYNC.get()
    _forget_closed_loops(cache)
    return cache


def close_all() -> None:
    """Close the process's drivers, as happens at its exit. Do not call it from a running event loop."""
    _close_async_drivers(_ASYNC.get())
    _close_sync_drivers(_SYNC.get())


def _forget_closed_loops(cache: Cache[AsyncDriver]) -> None:
    for key, _ in cache.pop(lambda key: key.loop is not None and key.loop.is_closed()):
        log.warning("🍌 %s: the event loop of the async driver for %s has ended without closing it: "
                    "its connections are dropped without a GOODBYE", key.pattern.capitalize(), key.alias)


def _close_sync_drivers(cache: Cache[Driver]) -> None:
    with ExitStack() as stack:  # closes the others too if one fails
        for _, driver in cache.pop(lambda _: True):
            stack.callback(driver.close)


def _close_async_drivers(cache: Cache[AsyncDriver]) -> None:
    _forget_closed_loops(cache)
    with ExitStack() as stack:
        for key, driver in cache.pop(lambda _: True):
            if key.loop is not None:
                stack.callback(_close_in_loop, key.loop, driver)


def _close_in_loop(loop: asyncio.AbstractEventLoop, driver: AsyncDriver) -> None:
    loop.run_until_complete(driver.close())


_SYNC = PerProcess(Cache[Driver], _close_sync_drivers)
_ASYNC = PerProcess(Cache[AsyncDriver], _close_async_drivers)
