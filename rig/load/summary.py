"""The summary of a load test, made only from its folder, by Locust's process and by ``rig report``."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rig import clock
from rig.errors import BadInput
from rig.load import growth, knee, schedule
from rig.load.figures import counted, outcome, saturated, steady_figures, window, without_times
from rig.load.records import Load, LoadRun, LoadSample, LoadTestRecord, read_runs, read_series, read_test
from rig.load.schedule import stages_of
from rig.load.verdict import broken
from rig.records import SUMMARY_FILE
from rig.whole_file import write_whole

EARLY_MINUTE = 3        # of a soak: by then, everything that starts late has started


def summarise(folder: Path) -> dict[str, Any]:
    """Return the figures of a test. Raises BadInput if its folder cannot be read.

    If ``clock_set`` is not None, the clock was set during the test, and all that depends on it is None.
    """
    test, runs, series = read_test(folder), read_runs(folder), counted(read_series(folder))
    figures = outcome(runs, series, shared=test.deployment.own_neo4j is False)
    step = clock.too_large(test.clock_step)
    clock_set = None if step is None else clock.was_set(step, "load test")
    if clock_set is not None:
        figures = without_times(figures)
    return {
        **test.model_dump(), "outcome": figures.model_dump(), "clock_set": clock_set,
        "broken": broken(figures, test.thresholds, test.lost_processes, test.processes, clock_set),
        **_judged(test, runs, series, is_timed=clock_set is None),
        "polls_per_run": test.polls / len(runs) if runs else None}


def _judged(test: LoadTestRecord, runs: list[LoadRun], series: Sequence[LoadSample], *, is_timed: bool,
            ) -> dict[str, Any]:
    """Return the verdicts of a test; each is None where the test is no such, or where the clock was set."""
    return {"knee": _knee(test, runs, series) if is_timed else None,
            "saturated": _saturated(test, runs) if is_timed else None,
            "kept_up": _kept_up(test, runs) if is_timed else None,
            "soak": _soak(test.load, runs, series) if is_timed else None}


def steps_of(test: LoadTestRecord, runs: list[LoadRun], until: float) -> list[knee.Step]:
    """Return the steps that can be judged at a moment (epoch, s), up to the first one that did not hold."""
    stages = stages_of(test.load)
    steps: list[knee.Step] = []
    for number in range(len(stages)):
        end = test.started_at + schedule.length(stages[:number + 1])
        if end + knee.SETTLED > until or (steps and not steps[-1].holds):
            break
        steps.append(knee.step(runs, stages, number, test.started_at, test.load.seed))
    return steps


def _knee(test: LoadTestRecord, runs: list[LoadRun], series: Sequence[LoadSample]) -> dict[str, Any] | None:
    if test.load.shape != schedule.KNEE:
        return None
    # Once every run has ended, nothing more can become known, even about a step that has just ended.
    steps = steps_of(test, runs, math.inf if test.status == "complete" else test.ended_at or 0.0)
    return {"last_rate_that_held": knee.last_that_held(steps),
            "found": bool(steps) and not steps[-1].holds,
            "steps": [{**step._asdict(), "holds": step.holds,
                       **window(runs, series, step.begun, step.ended).model_dump()} for step in steps]}


def _saturated(test: LoadTestRecord, runs: list[LoadRun]) -> dict[str, Any] | None:
    """Return what a closed loop reached; None where it was none, or was stopped."""
    if test.load.users is None or test.status != "complete":
        return None
    return saturated(runs, test.load.users, test.started_at + test.load.seconds).model_dump()


def _kept_up(test: LoadTestRecord, runs: list[LoadRun]) -> dict[str, Any] | None:
    """Judge a constant rate over its whole time like a step of ``find-the-knee``; None for any other test."""
    load = test.load
    if (load.users is not None or load.shape not in {schedule.STEADY, schedule.SOAK} or test.status != "complete"
            or load.seconds < load.step_seconds):
        return None
    whole = knee.step(runs, stages_of(load), 0, test.started_at, load.seed)
    return {"holds": whole.holds, "in_flight_after": whole.in_flight_after, "allowed": whole.allowed,
            "slope": whole.slope, "grows": whole.grows,
            "failures": whole.failures}


def _soak(load: Load, runs: list[LoadRun], series: Sequence[LoadSample]) -> dict[str, Any] | None:
    last = int(load.seconds // 60)
    if load.shape != schedule.SOAK or last <= EARLY_MINUTE:
        return None
    slopes = {name: found and {**found.model_dump(), "verdict": found.verdict}
              for name, found in growth.slopes(runs, series).items()}
    return {"early_minute": EARLY_MINUTE, "early": steady_figures(series, EARLY_MINUTE),
            "last_minute": last, "last": steady_figures(series, last), "slopes": slopes}


def write(folder: Path, summary: dict[str, Any]) -> None:
    """Write a test's summary, completely or not at all."""
    write_whole(folder / SUMMARY_FILE, json.dumps(summary, indent=2) + "\n")


def read(folder: Path) -> dict[str, Any]:
    """Return the summary of a test, or of a comparison of loads. Raises BadInput if the folder has none."""
    try:
        found: dict[str, Any] = json.loads((folder / SUMMARY_FILE).read_bytes())
    except (OSError, ValueError) as error:
        raise BadInput(f"{folder} holds no summary of a load test", "`rig report` makes it again") from error
    return found
