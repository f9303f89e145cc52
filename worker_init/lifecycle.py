"""What the Celery hooks do: one supervisor in the worker's main process, one slot in each pool process.

The hooks themselves (:mod:`worker_init.hooks`) hold no logic. Nothing here imports ``neo4j``: under
load that import alone takes longer than Celery lets a pool process start.
"""

import logging
import os
from collections.abc import MutableMapping
from typing import Any

from worker_init.errors import BadSetting
from worker_init.preload import preload
from worker_init.settings import Settings, notes_on
from worker_init.supervisor import Supervisor
from worker_init.targets import upstreams_of
from worker_init.tasks import close_process_driver, keep_process_driver

log = logging.getLogger(__name__)


class Worker:
    """This process's part in the worker. Opening and closing may happen any number of times."""

    def __init__(self) -> None:
        self._supervisor: Supervisor | None = None
        self._index: int | None = None
        self._notes: list[tuple[int, str]] = []

    def open(self, slots: int, environment: MutableMapping[str, str]) -> None:
        """Start the driver host, in the worker's main process, before it has a pool."""
        if self._supervisor:
            return
        try:
            settings = Settings.from_environment(environment)
            if settings.disabled:
                return
            self._notes += [(logging.WARNING, note) for note in preload(settings.preload)]
            upstreams = upstreams_of(environment, settings.connection_ids)
        except BadSetting as error:
            self.stay_off(str(error))
            return
        self._notes += [(logging.INFO, note) for note in (*notes_on(environment), *upstreams.notes)]
        if not upstreams.targets:
            self.stay_off("neither NEO4J_URI nor a connection of "
                          f"{', '.join(settings.connection_ids) or 'no id'} is in the environment", logging.WARNING)
            return
        try:
            supervisor = Supervisor(settings, upstreams, environment)
        except (BadSetting, OSError) as error:
            self.stay_off(str(error))
            return
        if supervisor.start(slots):
            self._supervisor = supervisor
            self._notes.append((logging.INFO, f"tasks connect through {supervisor!r}"))
        else:
            self.stay_off(supervisor.reason)
            supervisor.kill()

    def stay_off(self, why: str, level: int = logging.ERROR) -> None:
        """Leave the tasks to themselves."""
        self._notes.append((level, f"tasks connect by themselves: {why}"))

    def announce(self) -> None:
        """Log what there was to say before the worker had set up its logging."""
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
        """Have a slot for each process of the pool, which is about to get another."""
        if self._supervisor:
            self._supervisor.ensure(slots)

    def enter(self, index: int, environment: MutableMapping[str, str]) -> None:
        """Export the address of this pool process's driver. Never waits for anybody."""
        if not self._supervisor or self._index is not None:
            return
        self._index = index
        environment.update(self._supervisor.environment(index))
        self._supervisor.enter(index)
        keep_process_driver(os.getpid())

    def leave(self) -> None:
        """Close what this pool process has opened."""
        index, self._index = self._index, None
        if self._supervisor and index is not None:
            close_process_driver()
            self._supervisor.leave(index)

    def status(self) -> dict[str, Any] | None:
        """Return what inspection shows; None where the package is off."""
        return self._supervisor.status() if self._supervisor else None


this_process = Worker()
