"""The raw files of a comparison of loads: what was asked for, and which load tests were run to their end."""

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from rig import records
from rig.errors import BadInput
from rig.load.records import COMPARISON_FILE
from rig.records import Executor, Record, Relay

TESTS_FILE = "load_tests.jsonl"

Phase = Literal["knee", "held"]


class LoadCell(Record):
    """What is compared: a pattern on an executor, with the relay that its workers have."""

    executor: Executor
    pattern: str
    relay: Relay

    @property
    def name(self) -> str:
        """The cell as a person reads it."""
        return f"{self.executor} · {self.pattern}"


class LoadPlan(Record):
    """How each cell is driven; ``step`` is the first rate and the difference between two, in DAG runs per second.

    Durations are in seconds. ``seed`` is that of the cells' order.
    """

    seed: int
    tasks: int
    calls: int
    hold: float
    step: float
    steps: int
    step_seconds: float
    held_seconds: float
    command: str


class LoadComparison(LoadPlan):
    """What was asked for, and how far it came."""

    schema_version: Literal[1] = 1
    run: str
    slots: int
    status: Literal["running", "complete", "interrupted", "failed"]
    reason: str | None = None
    started_at: float
    ended_at: float | None = None
    cells: list[LoadCell]


class LoadTestRecord(Record):
    """One load test of a comparison: of which cell (by its place), in which phase, and where its folder is.

    ``held`` is the rate that held in it, None where none did.
    """

    cell: int
    phase: Phase
    folder: str
    held: float | None


def read(folder: Path) -> LoadComparison:
    """Return a comparison's own record. Raises BadInput where the folder holds none."""
    try:
        return LoadComparison.model_validate_json((folder / COMPARISON_FILE).read_bytes())
    except (OSError, ValidationError) as error:
        raise BadInput(f"{folder} holds no comparison of loads", "`rig runs` lists the runs there are") from error


def read_tests(folder: Path) -> list[LoadTestRecord]:
    """Return the load tests of a comparison that were run to their end."""
    return list(records.read(folder / TESTS_FILE, LoadTestRecord))
