"""Celery's hooks: list this module in the worker's ``imports``. Nothing else is needed.

In Airflow: ``AIRFLOW__CELERY__EXTRA_CELERY_CONFIG='{"imports": ["worker_init.hooks"]}'``.

Importing this module connects the handlers and does nothing else: Flower imports the same modules, and so does every
program that loads the app. The hooks, in the order in which they fire:

==========================  ==========================================================================
``worker_init``             main process, before the pool: start the driver host
``worker_before_create_…``  main process, before each fork: a slot for the process to come
``worker_process_init``     pool process, at most 4 s: export the address of its driver
``task_prerun``             pool process: export it again where that has changed
``worker_process_shutdown`` pool process, not guaranteed: close what it opened
``worker_shutdown``         main process, warm shutdown, after the last task: end the driver host
``terminate()``             main process, cold shutdown (the bootstep in :mod:`worker_init.inspection`)
==========================  ==========================================================================
"""

import os
from typing import Any

from billiard.process import current_process
from celery.signals import (
    task_prerun,
    worker_before_create_process,
    worker_init,
    worker_process_init,
    worker_process_shutdown,
    worker_shutdown,
)

from worker_init import remote_control  # noqa: F401 - it registers the commands
from worker_init.inspection import DriverHostStep
from worker_init.lifecycle import this_process
from worker_init.preload import remember

# Their green threads need a driver that supports them, and they have no pool process.
_GREEN = ("gevent", "eventlet")


@worker_init.connect
def open_worker(sender: Any, **_: Any) -> None:
    """Start the driver host and add it to what ``inspect stats`` shows."""
    pool = _name_of(sender.pool_cls)
    sender.app.steps["worker"].add(DriverHostStep)
    if any(green in pool for green in _GREEN):
        this_process.stay_off(f"the pool {pool} is not supported")
        return
    this_process.open(sender.concurrency, os.environ, sender.hostname)

    # The signal's own sender is a pool inside the worker's pool, and has no public attribute for its size.
    @worker_before_create_process.connect(weak=False)
    def grow(**_: Any) -> None:
        """Add a slot for each process that the pool may have now."""
        this_process.grow(sender.pool.num_processes if sender.pool.active else sender.pool.limit)

    if "thread" in pool:
        # Threads are never announced: this process is the only one.
        this_process.enter(0, os.environ)


@worker_shutdown.connect
def close_worker(**_: Any) -> None:
    """End the driver host."""
    this_process.leave()
    this_process.close()


@worker_process_init.connect
def open_process(**_: Any) -> None:
    """Export the driver's address. The pool gives each process an index, and gives its successor the same one."""
    remember()
    this_process.enter(getattr(current_process(), "index", 0), os.environ)


@task_prerun.connect
def look_again(**_: Any) -> None:
    """Export the driver's address again if a server turned out to be too old, or no longer is."""
    this_process.before_task()


@worker_process_shutdown.connect
def close_process(**_: Any) -> None:
    """Close what the process opened. Celery also sends this in the main process, for a process that has ended."""
    if getattr(current_process(), "index", None) is not None:
        this_process.leave()


def _name_of(pool: Any) -> str:
    """Return the pool's name. The pool is a class by now, or still the name that was asked for."""
    return pool if isinstance(pool, str) else f"{pool.__module__}.{pool.__name__}"
