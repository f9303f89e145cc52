"""Modules that the worker's main process imports before its pool forks, so that tasks need not import them.

Celery forks its pool from the worker's main process, and Airflow forks each task's process from a pool process. A
module that the main process has imported is there for every task from the start. Any other module is imported again by
each task that needs it, and lost at the task's end. The Celery provider preloads a list of its own, which was made for
Airflow 2.
"""

import gc
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from worker_init.errors import BadSetting
from worker_init.settings import Settings

NONE = "none"
# The modules that tasks of Airflow 3.3 imported by themselves, each time. Found by `python -m benchmarks.task_start`,
# which lists the modules that a task process has and its worker's main process had not. Names that another version does
# not have are skipped.
MODULES = (
    "airflow.dag_processing.bundles.local",
    "airflow.dag_processing.dagbag",
    "airflow.models.dagbag",
    "airflow.models.renderedtifields",
    "airflow.models.serialized_dag",
    "airflow.models.trigger",
    "airflow.providers.neo4j.hooks.neo4j",
    "airflow.providers.neo4j.operators.neo4j",
    "airflow.providers.standard.decorators.python",
    "airflow.sdk.definitions.asset.metadata",
    "airflow.sdk.definitions.connection",
    "airflow.sdk.definitions.dag",
    "airflow.sdk.definitions.decorators",
    "airflow.sdk.definitions.mappedoperator",
    "airflow.sdk.execution_time.cache",
    "airflow.sdk.execution_time.coordinator",
    "airflow.sdk.execution_time.request_handlers",
    "airflow.sdk.execution_time.schema.migrator",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "airflow.version",
    "neo4j",
)
"""Imported unless ``WORKER_INIT_PRELOAD`` is ``none``, if their packages are installed."""

_before: frozenset[str] | None = None


def preload_as_set(environment: Mapping[str, str]) -> Iterator[str]:
    """Preload as ``WORKER_INIT_PRELOAD`` and ``WORKER_INIT_DISABLED`` say; yield a line for each that went wrong."""
    try:
        settings = Settings.from_environment(environment)
    except BadSetting as error:
        yield f"nothing is preloaded: {error}"
        return
    if not settings.disabled:
        yield from preload(settings.preload)


def preload(own: Sequence[str]) -> Iterator[str]:
    """Import :data:`MODULES` and the user's ``own``; yield a line for the log for each failed import.

    ``("none",)`` imports nothing. No exception is raised: a task imports what is missing here by itself, and then fails
    or does not. The objects that exist afterwards are hidden from the garbage collector. Otherwise it would touch, and
    so copy, each page of memory that a forked process shares with this one.
    """
    if tuple(own) != (NONE,):
        yield from _imported(own)
        gc.collect()
        gc.freeze()


def _imported(own: Sequence[str]) -> Iterator[str]:
    for name in MODULES:
        if _has_package(name):
            with suppress(ModuleNotFoundError):     # another version, which has it elsewhere or not at all
                importlib.import_module(name)
    for name in own:
        threads = _threads()
        try:
            importlib.import_module(name)
        except Exception as error:
            yield f"WORKER_INIT_PRELOAD: {name} cannot be imported ({type(error).__name__}: {error}); tasks import it"
        if _threads() > threads:
            yield (f"WORKER_INIT_PRELOAD: importing {name} starts a thread, which the pool processes will not "
                   "have: take it off the list")


def remember() -> None:
    """Note the modules of this process, a pool process that has just been forked, for :func:`imported_since`."""
    global _before  # noqa: PLW0603 - one for each process, as sys.modules is
    _before = frozenset(sys.modules)


def imported_since() -> list[str]:
    """Return the modules that this process has and that its pool process did not have at its start.

    In a task, these are the modules that its process had to import; for the first task, also those that its pool
    process imported. Empty if there is no pool process, or if it does not use the hooks.
    """
    return [] if _before is None else [name for name in list(sys.modules) if name not in _before]


def _has_package(name: str) -> bool:
    return importlib.util.find_spec(name.partition(".")[0]) is not None


def _threads() -> int:
    """Return how many threads this process has, including those of libraries."""
    try:
        return sum(1 for _ in Path("/proc/self/task").iterdir())
    except OSError:     # not Linux
        return 0
