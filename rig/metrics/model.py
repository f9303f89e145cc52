"""The summary of a run, in the form of ``summary.json``. Times are seconds since the epoch."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from patterns.facts import Executor
from rig.metrics.intervals import Interval, Number, Verdict
from rig.metrics.registry import Between
from rig.records import EXHIBIT, CountedBy, Relay

Family = Literal["primary", "secondary", "preload", "control"]


class Part(BaseModel):
    """An immutable part of the summary."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MetricSummary(Part):
    """A metric of a cell over its repeats.

    ``raw`` has one value for each planned repeat, null if it failed or was not run; ``reason`` says why. ``range`` is
    the lowest and the highest value; from six values on, ``ci95`` is an interval of the median. ``lower_bound`` is set
    if the server's count is not available: read "at least".
    """

    unit: str
    better: Literal["lower", "higher"] | None
    kind: str
    raw: list[Number | None]
    median: Number | None
    range: Interval | None
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
    control: bool = False
    preload: bool = False

    @property
    def is_exhibit(self) -> bool:
        """Whether the cell shows what breaks: its failures are results, and do not fail the run."""
        return self.pattern == EXHIBIT


class CellSummary(Side):
    """One cell. ``tasks`` is for one DAG run; ``tasks_succeeded`` and ``tasks_wrong`` are for all repeats.

    ``blocks`` has the block of each repeat, in the order of the metrics' ``raw``.
    """

    purpose: str
    blocks: list[int]
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

    @property
    def is_counted(self) -> bool:
        """Whether it is known how many connections it opened."""
        return self.metrics["connections_opened"].median is not None


class Contrast(Part):
    """One metric of two cells, compared block by block.

    ``ratio`` is the contender divided by the baseline: the geometric mean of the ratios of the ``blocks`` in which both
    were measured, or the ratio of the medians if a value is 0. ``range`` has the lowest and the highest of the blocks'
    ratios. From six blocks on, ``ci95`` is the interval of ``ratio``, at the ``level`` at which 95 % hold for the whole
    ``family`` of ``family_size`` contrasts. ``verdict`` is what this interval says about the contender, and ``at_most``
    the largest difference that it does not rule out, as a share of 1. ``noise_floor`` is how much a cell differed from
    itself in a block, as a share of 1.
    """

    metric: str
    unit: str
    better: Literal["lower", "higher"] | None
    between: Between
    family: Family
    family_size: int
    blocks: int
    baseline: Side
    contender: Side
    baseline_median: Number | None
    contender_median: Number | None
    difference: Number | None
    ratio: float | None
    range: Interval | None
    ci95: Interval | None
    level: float
    verdict: Verdict | None
    at_most: float | None
    noise_floor: float | None
    reason: str | None
    ci95_reason: str | None
    verdict_reason: str | None


class SamplerShare(Part):
    """What the probe did in one DAG run. Intervals are the seconds between consecutive samples."""

    samples: int
    interval_median: float | None
    interval_p95: float | None
    interval_longest: float | None
    connections: int | None
    queries: int | None
    cpu_seconds: float | None


class DagRunSummary(Side):
    """One DAG run of the plan, and its outcome.

    ``figures`` are this DAG run's own, even if it failed. ``missing`` has the reasons for those that are null, and
    ``doubts`` has contradictions between them. ``others`` is how many connections of others were seen at the server;
    None if nobody looked. ``counted_by`` is how connections opened were counted; None if they were not, or if an
    earlier rig did not record it.
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
    others: int | None = None
    counted_by: CountedBy | None = None
    sampler: SamplerShare
    figures: dict[str, Number | None]
    missing: dict[str, str]

    @property
    def was_run(self) -> bool:
        """Whether the DAG run was started. If not, the run was stopped before, or is still in progress."""
        return self.state != "not run"


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
    """One condition of the seed's demonstration, beside this run's."""

    name: str
    seed: str
    run: str
    same: bool


class SeedClaim(Part):
    """The seed's claim, this run's answer to it, and the conditions of both."""

    claim: str
    least_reduction: float
    executors: list[ExecutorClaim]
    conditions: list[Condition]
    same_conditions: bool


class Summary(Part):
    """A run's figures, made only from its raw files. ``unsaid`` is what its plan leaves open."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, serialize_by_alias=True)

    schema_version: Literal[2] = Field(default=2, alias="schema")
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
    unsaid: list[str]
    seed_claim: SeedClaim

    def tells_of(self, cell: CellSummary) -> bool:
        """Return whether what is told of the run in sentences and pictures may be of a cell.

        It is of the cells that are not preloaded. Only if every cell is preloaded, it is of all of them.
        """
        return cell.preload == all(each.preload for each in self.cells)

    @property
    def failures(self) -> list[DagRunSummary]:
        """Return the DAG runs that did not succeed, whose tasks failed or got wrong answers, or that are in doubt."""
        return [run for run in self.dag_runs if run.state != "success" or run.tasks_wrong or run.doubts
                or run.tasks_succeeded < run.tasks]
