"""Shared Neo4j drivers for the forked tasks of a Celery worker, one for each pool process or for all.

Workers load :mod:`worker_init.hooks`; tasks use :func:`driver` or :func:`async_driver`, or any Neo4j
client with the address in ``NEO4J_WORKER_URI``.
"""

from worker_init.errors import WorkerInitError
from worker_init.tasks import async_driver, database, driver

__all__ = ["WorkerInitError", "async_driver", "database", "driver"]
