"""The claim in the seed project's README, and whether this run's figures support it."""

from collections.abc import Mapping, Sequence

from patterns.facts import EXECUTORS, Executor
from rig.metrics.intervals import Number
from rig.metrics.model import CellSummary, ClaimLevel, Condition, ExecutorClaim, SeedClaim
from rig.records import RunRecord

CLAIM = "about 35 idle connections with problematic, 8 to 9 with improved: at least 75 % fewer"
LEAST_REDUCTION = 0.75

_PATTERNS = ("problematic", "improved")
_SEED_CONDITIONS: Mapping[str, Number] = {"tasks": 100, "calls per task": 1, "hold of a task, s": 2, "slots": 32}
_SEED_VERSIONS: Mapping[str, str] = {"Neo4j driver": "5.28.0", "Airflow": "2.8.1", "server": "Neo4j Aura"}


def seed_claim(run: RunRecord, cells: Sequence[CellSummary], drivers: Sequence[str]) -> SeedClaim:
    """Return, for each executor, whether ``improved`` has as many fewer idle connections as the seed claims.

    The seed reads levels off a chart, so the peak decides; the mean is shown beside it. There is no verdict unless
    every condition is the seed's.
    """
    conditions = [*_conditions(run, cells), *_versions(run, drivers)]
    different = [f"{one.name} {one.run} instead of {one.seed}" for one in conditions if not one.same]
    return SeedClaim(
        claim=CLAIM, least_reduction=LEAST_REDUCTION, conditions=conditions,
        executors=[_executor(name, cells, different) for name in EXECUTORS if any(c.executor == name for c in cells)],
        same_conditions=not different)


def _executor(executor: Executor, cells: Sequence[CellSummary], different: Sequence[str]) -> ExecutorClaim:
    # The first cell of a pattern stands for it: later ones have features that the seed does not have.
    of = {cell.pattern: cell for cell in reversed(_compared(cells)) if cell.executor == executor}
    peak = _level(of, "connections_idle_peak")
    reason = f"not the seed's conditions: {', '.join(different)}" if different else None
    if peak.reduction is None:
        reason = _why_not(of)
    return ExecutorClaim(
        executor=executor, peak=peak, mean=_level(of, "connections_idle"), reason=reason,
        reproduced=None if peak.reduction is None or different else peak.reduction >= LEAST_REDUCTION)


def _level(of: Mapping[str, CellSummary], metric: str) -> ClaimLevel:
    before, after = (of[name].metrics[metric].median if name in of else None
                     for name in _PATTERNS)
    reduction = None if before is None or after is None or before == 0 else round(1 - after / before, 4)
    return ClaimLevel(problematic=before, improved=after, reduction=reduction)


def _compared(cells: Sequence[CellSummary]) -> list[CellSummary]:
    return [cell for cell in cells if cell.pattern in _PATTERNS and cell.relay == "none"
            and not cell.warm and not cell.control and not cell.preload]


def _why_not(of: Mapping[str, CellSummary]) -> str:
    for name in _PATTERNS:
        if name not in of:
            return f"{name} is not part of this run"
        if (metric := of[name].metrics["connections_idle_peak"]).median is None:
            return f"{name} was not measured: {metric.reason}"
    return "problematic had no idle connection"


def _conditions(run: RunRecord, cells: Sequence[CellSummary]) -> list[Condition]:
    compared = _compared(cells)
    found: Mapping[str, set[Number]] = {"tasks": {cell.tasks for cell in compared},
                                     "calls per task": {cell.calls_per_task for cell in compared},
                                     "hold of a task, s": {cell.hold_seconds for cell in compared},
                                     "slots": {run.slots}}
    return [Condition(name=name, seed=str(seed), same=found[name] == {seed},
                      run=", ".join(f"{value:g}" for value in sorted(found[name])) or "none")
            for name, seed in _SEED_CONDITIONS.items()]


def _versions(run: RunRecord, drivers: Sequence[str]) -> list[Condition]:
    """Return this run's versions beside the seed's. With other versions, the figures answer another question."""
    versions = run.environment.get("versions", {})
    server = versions.get("neo4j server")
    found = {"Neo4j driver": ", ".join(drivers), "Airflow": versions.get("airflow"),
             "server": server and (_SEED_VERSIONS["server"] if "aura" in server else f"Neo4j {server}")}
    return [Condition(name=name, seed=seed, run=found[name] or "unknown", same=found[name] == seed)
            for name, seed in _SEED_VERSIONS.items()]
