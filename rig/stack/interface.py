"""A stack: what a comparison and the command line need of it, whether it is made of processes or of containers.

There are three: processes of this machine (:mod:`rig.stack.native`), containers (:mod:`rig.stack.compose`), and a
deployment that somebody else operates (:mod:`rig.stack.existing`). Their docstrings say only what is their own.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol

from pydantic import BaseModel

from patterns.facts import Executor
from rig.airflow_api import AirflowApi
from rig.records import Relay
from rig.settings import Settings
from rig.stack.processes import Started
from rig.stack.state import StackState

Step = Literal["downloading", "starting", "ready", "stopping", "stopped", "clearing"]
OnStep = Callable[[str, Step, str], None]       # service, step, detail


class ServiceStatus(BaseModel):
    """A service as it is now. ``problem`` is None where it serves."""

    name: str
    pid: int
    url: str | None
    healthy: bool
    problem: str | None


class Stack(Protocol):
    """The stack of one data folder. But for the questions, its methods are called with the folder's lock held."""

    settings: Settings

    # --- questions -----------------------------------------------------------------------------

    def state(self) -> StackState:
        """Return the state of the running stack. Raises BadInput where none runs."""

    def is_there(self) -> bool:
        """Say whether a stack was started here and not taken down, whether it still runs or not."""

    def dead(self) -> list[str]:
        """Return the names of the services that have ended by themselves."""

    def status(self) -> list[ServiceStatus]:
        """Ask every service whether it serves.

        While a comparison is at work Neo4j is judged by its process alone: a question would take a
        connection id, and be counted.
        """

    def log_of(self, name: str) -> Path:
        """Return a service's log file. Raises BadInput where there is no such service."""

    def api(self, state: StackState) -> AirflowApi:
        """Return Airflow's API, logged in as the stack's user."""

    def versions(self) -> dict[str, str | None]:
        """Return the versions of what the stack runs, None for what is not installed."""

    def require_alive(self) -> None:
        """Raise ServiceDied, with what its log says of the reason, for the first service that has ended by itself."""

    def require_running(self) -> None:
        """Raise ServiceDied as above, and for a service that somebody has stopped: nothing would be answered.

        For the beginning of a command: one that is stopped later shows as what it holds up.
        """

    def idle_worker(self) -> str | None:
        """Return what is wrong with a Celery worker that answers, has room, and takes nothing; else None.

        None too where nobody can tell, and where there is no worker. It takes some seconds.
        """

    # --- up, switch, down ----------------------------------------------------------------------

    def up(self, executor: Executor, *, slots: int, relay: Relay = "none",
           keeper: Started | None = None) -> StackState:
        """Bring the whole stack up. With ``keeper`` it belongs to that process and is stale without it.

        Raises BadInput where something is there already or does not allow a start, ServiceDied or
        Hung where a service does not come up, RelayMissing where tasks would not go through the relay; whatever was
        started is stopped again then.
        """

    def switch(self, executor: Executor, relay: Relay = "none", *, exhibit: bool = False) -> StackState:
        """Restart the scheduler on an executor, with or without worker, Flower and driver host. Must be idle.

        Raises RelayMissing, and leaves it running, where tasks would not go through the relay.
        """

    def restart(self, names: Sequence[str]) -> None:
        """Stop and start these services, as after a hang."""

    def down(self) -> None:
        """Stop everything and remove what the stack kept; its log files stay until the next start.

        Works on whatever is left of a stack, a state file that cannot be read included.
        """
