"""An Airflow plugin for LocalExecutor: the scheduler imports what tasks need before it forks their processes.

There is no worker then whose hooks could do that. Put one file into Airflow's folder of plugins::

    from worker_init.airflow_plugin import PreloadPlugin  # noqa: F401

The scheduler tells its listeners of its start, after the import of Airflow and before the executor's. Every other
process of Airflow loads the plugin too, and nothing happens there.
"""

import logging
import os
import sys
from typing import Any

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

from worker_init.errors import BadSetting
from worker_init.preload import preload
from worker_init.settings import Settings

log = logging.getLogger(__name__)


class _AtTheStart:
    """Listens for the start of Airflow's processes."""

    @hookimpl
    def on_starting(self, component: Any) -> None:  # noqa: ARG002 - it does not know yet what it is the job of
        """Airflow: import what tasks need, if this is the scheduler."""
        if sys.argv[1:2] != ["scheduler"]:
            return
        try:
            settings = Settings.from_environment(os.environ)
        except BadSetting as error:
            log.warning("nothing is preloaded: %s", error)
            return
        if not settings.disabled:
            for note in preload(settings.preload):
                log.warning("%s", note)


class PreloadPlugin(AirflowPlugin):
    """Has the scheduler preload modules, as ``WORKER_INIT_PRELOAD`` says."""

    name = "neo4j_worker_init_preload"
    listeners = [_AtTheStart()]     # noqa: RUF012 - the type that Airflow gives it
