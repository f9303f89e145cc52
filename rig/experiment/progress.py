"""What the experiment tells the user who watches it."""

from typing import Protocol

from rig.records import DagRunRecord, PlannedRun, Sample
from rig.stack.interface import Step


class Notes(Protocol):
    """Takes lines for the user."""

    def note(self, text: str) -> None:
        """Print something that should stay on the screen."""


class Progress(Notes, Protocol):
    """A view of a comparison in progress. Each method returns at once."""

    def step(self, service: str, step: Step, detail: str) -> None:
        """Note that a service of the stack has reached a step."""

    def planned(self, runs: list[PlannedRun]) -> None:
        """Note the DAG runs that will be run, in this order."""

    def started(self, run: PlannedRun) -> None:
        """Note that a DAG run is about to start."""

    def sample(self, sample: Sample) -> None:
        """Note what the server has open now."""

    def tasks(self, running: int, ended: int) -> None:
        """Note how many tasks of the present DAG run are running; ``ended`` is without the one that plans them."""

    def ended(self, run: PlannedRun, record: DagRunRecord) -> None:
        """Note that a DAG run has ended, whatever its result."""
