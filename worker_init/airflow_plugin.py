"""An Airflow plugin for LocalExecutor: before the scheduler forks tasks, it imports the modules that they need.

LocalExecutor has no Celery worker whose hooks could do this. Put one file into Airflow's plugins folder::

    from worker_init.airflow_plugin import PreloadPlugin  # noqa: F401

The scheduler tells its listeners when it starts: after it has imported Airflow, and before it starts the executor.
Every other process of Airflow loads the plugin too, but the plugin does nothing there.
"""

import logging
import os
import sys
from typing import Any

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

from worker_init.preload import preload_as_set

log = logging.getLogger(__name__)


class _AtTheStart:
    """Listens for the start of Airflow's processes."""

    @hookimpl
    def on_starting(self, component: Any) -> None:  # noqa: ARG002 - it does not know its job yet
        """Airflow: import what tasks need if this process is the scheduler."""
        if sys.argv[1:2] == ["scheduler"]:
            for note in preload_as_set(os.environ):
                log.warning("%s", note)


class PreloadPlugin(AirflowPlugin):
    """Makes the scheduler preload modules, as ``WORKER_INIT_PRELOAD`` says."""

    name = "neo4j_worker_init_preload"
    listeners = [_AtTheStart()]     # noqa: RUF012 - the type that Airflow gives it
