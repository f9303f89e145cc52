"""A stack: what a comparison and the command line need from it, whether it consists of processes or of containers.

There are three: processes on this machine (:mod:`rig.stack.native`), containers (:mod:`rig.stack.compose`), and a
deployment that somebody else operates (:mod:`rig.stack.existing`). Their docstrings only say what differs.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol

from pydantic import BaseModel

from patterns.facts import Executor
from rig.airflow_api import AirflowApi
from rig.records import Relay
from rig.settings import Settings
from rig.stack import asking
from rig.stack.processes import Started
from rig.stack.state import StackState

Step = Literal["downloading", "starting", "ready", "stopping", "stopped", "clearing"]
OnStep = Callable[[str, Step, str], None]       # service, step, detail


class ServiceStatus(BaseModel):
    """The present state of a service. ``problem`` is None if it serves."""

    name: str
    pid: int
    url: str | None
    healthy: bool
    problem: str | None


class Stack(Protocol):
    """The stack of one data folder. All methods except the questions need the folder's lock."""

    settings: Settings

    # --- questions -----------------------------------------------------------------------------

    def state(self) -> StackState:
        """Return the state of the running stack. Raises BadInput if none is running."""

    def is_there(self) -> bool:
        """Return whether a stack was started here and not taken down, even if it has stopped running."""

    def dead(self) -> list[str]:
        """Return the names of the services that have ended by themselves."""

    def status(self, *, within: float = asking.WITHIN) -> list[ServiceStatus]:
        """Ask every service whether it serves, for at most ``within`` seconds.

        During a comparison, Neo4j is judged only by its process: a question would take a connection id, and be
        counted.
        """

    def log_of(self, name: str) -> Path:
        """Return a service's log file. Raises BadInput if there is no such service."""

    def api(self, state: StackState) -> AirflowApi:
        """Return a client for Airflow's API, logged in as the stack's user."""

    def versions(self) -> dict[str, str | None]:
        """Return the versions of what the stack runs; None for a package that is not installed."""

    def require_alive(self) -> None:
        """Raise ServiceDied, with the reason from its log, for the first service that has ended by itself."""

    def require_running(self) -> None:
        """Raise ServiceDied as above, and also for a service that somebody has stopped, because it would not answer.

        This is for the beginning of a command. If a service is stopped later, the command hangs where it needs the
        service.
        """

    def worker_problem(self, *, tasks_run: Callable[[], bool]) -> str | None:
        """Return what is wrong with a Celery worker that takes no tasks, else None.

        Either it answers and has room, or it does not answer although no task runs: ``tasks_run`` is asked then, and
        says whether a task of any DAG run does. Also returns None if this cannot be found out, or if there is no
        worker. It takes some seconds.
        """

    def require_preload(self, executor: Executor) -> None:
        """Raise BadInput if the stack cannot be made to preload modules on an executor."""

    # --- up, switch, down ----------------------------------------------------------------------

    def up(self, executor: Executor, *, slots: int, relay: Relay = "none",
           keeper: Started | None = None) -> StackState:
        """Start the whole stack. With ``keeper``, it belongs to that process and is stale without it.

        A native stack preloads modules if the user has said which (``WORKER_INIT_PRELOAD``).

        Raises BadInput if something is already there or prevents a start, or if the modules cannot be preloaded;
        ServiceDied or Hung if a service does not come up, RelayMissing if tasks would not go through the relay. In that
        case everything that was started is stopped again.
        """

    def switch(self, executor: Executor, relay: Relay = "none", *, exhibit: bool = False,
               preload: bool = False) -> StackState:
        """Restart the scheduler on an executor, with or without worker, Flower and driver host. The stack must be idle.

        With ``preload``, the worker or LocalExecutor's scheduler imports before its fork what tasks need.
        Raises BadInput, before anything is stopped, if they cannot be preloaded; RelayMissing if tasks would not go
        through the relay, and the stack is left running then.
        """

    def restart(self, names: Sequence[str]) -> None:
        """Stop and start these services, for example after a hang.

        Raises BadInput, before anything is stopped, if one of them preloads modules and can no longer do so.
        """

    def down(self) -> None:
        """Stop everything and remove what the stack has stored. Its log files remain until the next start.

        This works on whatever is left of a stack, even with a state file that cannot be read. Ctrl-C takes effect when
        it is done.
        """
