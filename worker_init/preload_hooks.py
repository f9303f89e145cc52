"""Celery's hooks for a worker that preloads modules and has no driver host.

Load this module by the worker's ``imports``, in place of :mod:`worker_init.hooks`, which preloads by itself. In
Airflow: ``AIRFLOW__CELERY__EXTRA_CELERY_CONFIG='{"imports": ["worker_init.preload_hooks"]}'``.

Importing it connects the handlers and does nothing else.
"""

import logging
import os
from typing import Any

from celery.signals import worker_init, worker_process_init, worker_ready

from worker_init.preload import preload_as_set, remember

log = logging.getLogger(__name__)
_notes: list[str] = []      # the worker sets up its logging after it has preloaded


@worker_init.connect
def import_before_the_fork(**_: Any) -> None:
    """Import what tasks need, in the main process, before its pool exists."""
    _notes.extend(preload_as_set(os.environ))


@worker_ready.connect
def announce(**_: Any) -> None:
    """Log what went wrong."""
    while _notes:
        log.warning("%s", _notes.pop(0))


@worker_process_init.connect
def remember_what_is_there(**_: Any) -> None:
    """Note what a pool process has at its start."""
    remember()
