"""The summary of a run, as ``summary.json`` holds it. Times are seconds since the epoch."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from patterns.facts import Executor
from rig.metrics.intervals import Interval, Number
from rig.records import EXHIBIT, Relay


class Part(BaseModel):
    """An immutable part of the summary."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MetricSummary(Part):
    """A metric of a cell over its repeats.

    ``raw`` has one value for each planned repeat, null for one that failed or was not run; ``reason``
    says why. ``lower_bound`` is set where the server's count was not to be had: read "at least".
    """

    unit: str
    better: Literal["lower", "higher"] | None
    kind: str
    raw: list[Number | None]
    median: Number | None
    ci95: Interval | None
    reason: str | None
    ci95_reason: str | None
    lower_bound: bool


class Side(Part):
    """A cell as one side of a contrast."""

    executor: Executor
    pattern: str
    relay: Relay
    driver: Literal["sync", "async"]
    warm: bool = False

    @property
    def is_exhibit(self) -> bool:
        """Whether it shows what breaks: its failures are results, and none of the run's."""
        return self.pattern == EXHIBIT


class CellSummary(Side):
    """One cell. ``tasks`` is for one DAG run; ``tasks_succeeded`` and ``tasks_wrong`` are of all repeats."""

    tasks: int
    calls_per_task: int
    hold_seconds: float
    repeats: int
    repeats_measured: int
    tasks_succeeded: int
    tasks_wrong: int
    worker_processes: Number | None
    concurrency_reached: Number | None
    conditions: dict[str, MetricSummary]
    metrics: dict[str, MetricSummary]


class Contrast(Part):
    """One metric of two cells: ``ratio`` is the contender's median over the baseline's."""

    metric: str
    unit: str
    better: Literal["lower", "higher"] | None
    between: Literal["patterns", "executors"]
    baseline: Side
    contender: Side
    baseline_median: Number | None
    contender_median: Number | None
    difference: Number | None
    ratio: float | None
    ci95: Interval | None
    reason: str | None
    ci95_reason: str | None


class SamplerShare(Part):
    """What the probe did in one DAG run; intervals in seconds between one sample and the next."""

    samples: int
    interval_median: float | None
    interval_p95: float | None
    interval_longest: float | None
    connections: int | None
    queries: int | None
    cpu_seconds: float | None


class DagRunSummary(Side):
    """One DAG run of the plan and what became of it.

    ``figures`` are its own, also where it failed, ``missing`` has the reasons of those that are null, and
    ``doubts`` has what does not fit together in them.
    """

    index: int
    block: int
    dag_run_id: str | None
    state: Literal["success", "failed", "hung", "error", "interrupted", "not run"]
    reason: str | None
    tasks: int
    tasks_recorded: int
    tasks_succeeded: int
    tasks_wrong: int
    tasks_retried: int
    task_failures: dict[str, int]
    doubts: list[str]
    sampler: SamplerShare
    figures: dict[str, Number | None]
    missing: dict[str, str]


class ClaimLevel(Part):
    """Idle connections of the two patterns that the seed compares; ``reduction`` is a share of 1."""

    problematic: Number | None
    improved: Number | None
    reduction: float | None


class ExecutorClaim(Part):
    """Whether the seed's claim holds on one executor, by the peak of idle connections."""

    executor: Executor
    peak: ClaimLevel
    mean: ClaimLevel
    reproduced: bool | None
    reason: str | None


class Condition(Part):
    """One condition of the seed's demonstration beside this run's."""

    name: str
    seed: str
    run: str
    same: bool


class SeedClaim(Part):
    """The seed's claim, what this run says to it, and under which conditions."""

    claim: str
    least_reduction: float
    executors: list[ExecutorClaim]
    conditions: list[Condition]
    same_conditions: bool


class Summary(Part):
    """A run's figures, made from nothing but its raw files."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, serialize_by_alias=True)

    schema_version: Literal[1] = Field(default=1, alias="schema")
    run: str
    profile: str
    seed: int
    status: Literal["running", "complete", "interrupted", "failed"]
    reason: str | None
    started_at: float
    ended_at: float | None
    command: str
    slots: int
    environment: dict[str, Any]
    driver_versions: list[str]
    cells: list[CellSummary]
    contrasts: list[Contrast]
    dag_runs: list[DagRunSummary]
    seed_claim: SeedClaim

    @property
    def failures(self) -> list[DagRunSummary]:
        """Return the DAG runs that did not succeed, whose tasks failed or got wrong answers, or that are in doubt."""
        return [run for run in self.dag_runs if run.state != "success" or run.tasks_wrong or run.doubts
                or run.tasks_succeeded < run.tasks]
