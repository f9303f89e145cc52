"""What the experiment tells the person who watches it."""

from typing import Protocol

from rig.records import DagRunRecord, PlannedRun, Sample
from rig.stack.interface import Step


class Notes(Protocol):
    """Where lines for the person go."""

    def note(self, text: str) -> None:
        """Say something worth keeping on the screen."""


class Progress(Notes, Protocol):
    """A view of a comparison in progress; each method returns at once."""

    def step(self, service: str, step: Step, detail: str) -> None:
        """Take note that a service of the stack has come to a step."""

    def planned(self, runs: list[PlannedRun]) -> None:
        """Take note of the DAG runs that are going to be run, in this order."""

    def started(self, run: PlannedRun) -> None:
        """Take note that a DAG run is about to be started."""

    def sample(self, sample: Sample) -> None:
        """Take in what the server has open now."""

    def tasks(self, running: int, ended: int) -> None:
        """Take in how many tasks of the DAG run in progress run, and how many have ended."""

    def ended(self, run: PlannedRun, record: DagRunRecord) -> None:
        """Take note that a DAG run has ended, in whatever way."""
