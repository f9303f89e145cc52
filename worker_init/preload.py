"""Modules that the worker's main process imports before its pool forks, so that no task has to.

Celery forks its pool from the worker's main process, and Airflow forks each task's process from a pool
process. What the main process has imported by then, every task has from its first moment on. What it has
not, each task imports again and forgets at its end. The Celery provider preloads a list of its own, which
was made for Airflow 2.
"""

import gc
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

NONE = "none"
# What the tasks of Airflow 3.3 imported by themselves, each time. Found by `python -m benchmarks.task_start`,
# which lists what a task process has that its worker's main process had not. Names that another version
# does not have are left out.
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
"""Imported unless ``WORKER_INIT_PRELOAD`` is ``none``, where their packages are installed."""

_before: frozenset[str] | None = None


def preload(own: Sequence[str]) -> Iterator[str]:
    """Import :data:`MODULES` and the user's ``own``; yield a line for the log for each that went wrong.

    ``("none",)`` imports nothing. Nothing is raised: a task imports by itself what is missing here, and then
    fails or not. Objects that are here by now are moved out of the garbage collector's sight: it would touch,
    and so copy, each page of memory that a forked process shares with this one.
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
            yield (f"WORKER_INIT_PRELOAD: importing {name} starts a thread, which will not be there in the pool "
                   "processes: take it off the list")


def remember() -> None:
    """Note what this process has, a pool process that has just been forked, for :func:`imported_since`."""
    global _before  # noqa: PLW0603 - one for each process, as sys.modules is
    _before = frozenset(sys.modules)


def imported_since() -> list[str]:
    """Return the modules that this process has and that its pool process had not at its start.

    In a task: what its process, or its pool process for the first task, had to import by itself. Empty where there is
    no pool process, or one without the hooks.
    """
    return [] if _before is None else [name for name in list(sys.modules) if name not in _before]


def _has_package(name: str) -> bool:
    return importlib.util.find_spec(name.partition(".")[0]) is not None


def _threads() -> int:
    """Return how many threads this process has, those of libraries included."""
    try:
        return sum(1 for _ in Path("/proc/self/task").iterdir())
    except OSError:     # not Linux
        return 0
