"""What the Celery hooks do: one supervisor in the worker's main process, one slot in each pool process.

The hooks themselves (:mod:`worker_init.hooks`) hold no logic. Nothing here imports ``neo4j``: under load, that import
alone takes longer than Celery gives a pool process to start.
"""

import logging
import os
import sys
from collections.abc import Mapping, MutableMapping
from types import ModuleType
from typing import Any

from worker_init import backend_setting, open_files
from worker_init.commands import Command
from worker_init.errors import BadSetting, WorkerInitError
from worker_init.fleet import Fleet
from worker_init.preload import preload
from worker_init.settings import Settings, notes_on
from worker_init.supervisor import Supervisor
from worker_init.targets import upstreams_of, variable_of
from worker_init.tasks import close_process_driver, keep_process_driver

log = logging.getLogger(__name__)


class Replaced:
    """An environment in which some variables are replaced for a while."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        self._environment = environment
        self._before: dict[str, str | None] = {}

    def replace(self, variables: Mapping[str, str]) -> None:
        """Set these variables. Those that were replaced before get their own values back first."""
        for name, value in self._before.items():
            if value is None:
                self._environment.pop(name, None)
            else:
                self._environment[name] = value
        self._before = {name: self._environment.get(name) for name in variables}
        self._environment.update(variables)


class Worker:
    """This process's part in the worker. It may be opened and closed any number of times."""

    def __init__(self) -> None:
        self._supervisor: Supervisor | Fleet | None = None
        self._index: int | None = None
        self._own = Replaced({})
        self._unshared: dict[int, str] = {}
        self._connections: ModuleType | None = None
        self._notes: list[tuple[int, str]] = []

    def open(self, slots: int, environment: MutableMapping[str, str], name: str = "") -> None:
        """Start the driver host of the worker ``name``, in its main process, before the worker has a pool."""
        if self._supervisor:
            return
        try:
            settings = Settings.from_environment(environment)
            if settings.disabled:
                return
            self._look_at_open_files(slots)
            # Before preloading, which includes parts of Airflow.
            self._connections = self._airflow_connections() if settings.connection_ids.wanted else None
            self._notes += [(logging.WARNING, note) for note in preload(settings.preload)]
            upstreams = upstreams_of(environment, self._ids_of_environment(settings, environment))
        except BadSetting as error:
            self.stay_off(str(error))
            return
        self._notes += [(logging.INFO, note) for note in (*notes_on(environment), *upstreams.notes)]
        if not upstreams.targets and not self._connections:
            self.stay_off("neither NEO4J_URI nor a connection of "
                          f"{', '.join(settings.connection_ids.of_environment) or 'no id'} is in the environment",
                          logging.WARNING)
            return
        try:
            supervisor: Supervisor | Fleet = (Supervisor if settings.hosts == 1 else Fleet)(
                settings, upstreams, environment, name)
        except (BadSetting, OSError) as error:
            self.stay_off(str(error))
            return
        if supervisor.start(slots):
            self._supervisor = supervisor
            self._note_what_is_shared(supervisor)
        else:
            self.stay_off(supervisor.reason)
            supervisor.kill()

    def _note_what_is_shared(self, supervisor: Supervisor | Fleet) -> None:
        for why in dict.fromkeys(supervisor.unshared.values()):
            self.stay_off(why, logging.WARNING)
        if self._connections or supervisor.is_needed:
            self._notes.append((logging.INFO, f"tasks connect through {supervisor!r}"))

    def _look_at_open_files(self, slots: int) -> None:
        if problem := open_files.problem(slots):
            self._notes.append((logging.WARNING, f"{problem}: raise the limit (`ulimit -n {open_files.needed(slots)}`, "
                                                 "LimitNOFILE of systemd), or use fewer pool processes"))

    def _airflow_connections(self) -> ModuleType | None:
        """Return the secrets backend's module; None if this is not an Airflow worker, or if it cannot be used."""
        if "airflow.providers.celery" not in sys.modules:
            return None
        try:
            from worker_init import airflow_connections  # noqa: PLC0415 - only Airflow workers have it
        except ImportError as error:
            why = backend_setting.too_old() or f"this Airflow is not known ({error})"
            self._notes.append((logging.WARNING,
                                f"connections from outside the worker's environment stay as they are: {why}"))
            return None
        return airflow_connections

    def _ids_of_environment(self, settings: Settings, environment: MutableMapping[str, str]) -> tuple[str, ...]:
        """Return the connections to look for here. If tasks can look elsewhere, a missing one gets no log line."""
        ids = settings.connection_ids.of_environment
        return tuple(one for one in ids if variable_of(one) in environment) if self._connections else ids

    def stay_off(self, why: str, level: int = logging.ERROR) -> None:
        """Let the tasks connect by themselves, and log why."""
        self._notes.append((level, f"tasks connect by themselves: {why}"))

    def announce(self) -> None:
        """Log what could not be logged before the worker had set up its logging."""
        notes, self._notes = self._notes, []
        for level, note in notes:
            log.log(level, "%s", note)

    def close(self) -> None:
        """End the driver host once the last task has ended."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor:
            supervisor.stop()

    def kill(self) -> None:
        """End the driver host at once."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor:
            supervisor.kill()

    def grow(self, slots: int) -> None:
        """Make sure that there is a slot for each process of the pool, which is about to get another one."""
        if self._supervisor:
            self._supervisor.ensure(slots)

    def enter(self, index: int, environment: MutableMapping[str, str]) -> None:
        """Export the address of this pool process's driver. Never waits."""
        if not self._supervisor or self._index is not None:
            return
        self._index = index
        supervisor = self._supervisor.of(index)
        self._own = Replaced(environment)
        self._export(supervisor, index)
        if self._connections and not supervisor.is_refusing:
            self._connections.switch_on(environment, supervisor.folder, supervisor.slot_of(index))
        self._supervisor.enter(index)
        keep_process_driver(os.getpid())

    def before_task(self) -> None:
        """Update the environment: since the last task, an upstream may have become too old, or new enough."""
        if self._supervisor and self._index is not None:
            supervisor = self._supervisor.of(self._index)
            if supervisor.unshared != self._unshared:
                self._export(supervisor, self._index)
                keep_process_driver(os.getpid())

    def _export(self, supervisor: Supervisor, index: int) -> None:
        self._unshared = supervisor.unshared
        self._own.replace(supervisor.environment(index))

    def leave(self) -> None:
        """Close what this pool process opened."""
        index, self._index = self._index, None
        if self._supervisor and index is not None:
            close_process_driver()
            self._supervisor.leave(index)

    def obey(self, command: Command) -> dict[str, Any]:
        """Send a command to the driver host; return its status. Raises WorkerInitError if there is no host."""
        if not self._supervisor:
            raise WorkerInitError("this worker has no driver host")
        return self._supervisor.obey(command)

    def status(self) -> dict[str, Any] | None:
        """Return the status that inspection shows; None if the package is off."""
        return self._supervisor.status() if self._supervisor else None


this_process = Worker()
