"""An exhibit of what breaks: a driver that a Celery worker opens before its pool, used by tasks forked from it.

Nobody should do this. Pool processes and tasks are forked, so all of them write to the same socket and read from it,
and each may get another's answer: wrong rows, lost writes, tasks that hang. A driver at the top of a module that the
worker imports is enough to cause this.

A driver that is opened in ``worker_process_init`` is shared by the tasks of one pool process, which run one after the
other. That works until a task ends in the middle of an answer and the next one reads the rest of it.
"""

import logging
import os
from collections.abc import Mapping
from typing import ClassVar

from neo4j import AsyncDriver, Driver, GraphDatabase

from patterns.connection import DatabaseConnection, PoolSettings
from patterns.identity import Identity, user_agent
from patterns.target import ROOT, Target

log = logging.getLogger(__name__)

_OPENED: list[Driver] = []


class NothingInheritedError(RuntimeError):
    """The worker that this task was forked from has not opened a driver."""


def open_in_worker(environ: Mapping[str, str] | None = None) -> None:
    """Open a driver in this process, with one connection in its pool, for all processes that are forked from it."""
    target = Target.from_environment(os.environ if environ is None else environ)
    agent = user_agent(Identity.of_this_process(InheritedDatabaseConnection.name, ROOT))
    driver = GraphDatabase.driver(target.uri, auth=target.auth, user_agent=agent)
    driver.verify_connectivity()
    _OPENED.append(driver)
    log.warning("🍌 Inherited: opened the driver that tasks will inherit, to show what breaks")


class InheritedDatabaseConnection(DatabaseConnection):
    """The driver of the process that this one was forked from, used as if it belonged to this process."""

    name = "inherited"
    settings: ClassVar[PoolSettings] = {}

    def get_driver(self, alias: str = ROOT) -> Driver:
        """Return the inherited driver. Raises NothingInheritedError if there is none."""
        if not _OPENED:
            raise NothingInheritedError(
                f"the worker of process {os.getppid()} has opened no driver: expected a Celery worker that imports "
                f"patterns.inherited_hooks (alias {alias!r}) — `rig compare --patterns inherited` starts one")
        return _OPENED[-1]

    async def get_async_driver(self, alias: str = ROOT) -> AsyncDriver:
        """Raise NothingInheritedError: an async driver belongs to an event loop, and none is inherited."""
        raise NothingInheritedError(f"no event loop is inherited, and so no async driver (alias {alias!r}) — use "
                                    "driver sync")
