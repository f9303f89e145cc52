"""Folders of load tests and of comparisons of loads, as the rig leaves them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rig import records
from rig.load import schedule
from rig.load.records import (
    CellTestRecord,
    Deployment,
    LoadCell,
    LoadComparison,
    LoadRun,
    LoadTestRecord,
    Phase,
    Thresholds,
)
from rig.records import COMPARISON_FILE, LOAD_FILE, LOAD_RUNS_FILE, SERIES_FILE, TESTS_FILE
from tests.rig.load.lines import load, run, sample

KNEE, HELD = "0-knee", "0-held"
LONG: dict[Phase, float] = {"held": 0.4, "below": 0.36}


def done(cell: int, phase: Phase, held: float | None = 0.2, throughput: float | None = None) -> CellTestRecord:
    return CellTestRecord(cell=cell, phase=phase, folder=f"{cell}-{phase}", held=held, throughput=throughput)


def record(**changes: Any) -> LoadComparison:
    known: dict[str, Any] = {
        "run": "r", "seed": 1, "slots": 16, "tasks": 10, "calls": 3, "hold": 0.2, "step": 0.1, "steps": 4,
        "step_seconds": 45.0, "held_seconds": 180.0, "command": "rig compare-load", "status": "complete",
        "started_at": 0.0, "cells": [LoadCell(executor="LocalExecutor", pattern="improved", relay="none")]}
    return LoadComparison(**known | changes)


def comparison(made: Path) -> Path:
    """Write a comparison of one cell whose second step did not hold."""
    made.mkdir(parents=True)
    (made / COMPARISON_FILE).write_text(record(run=made.name).model_dump_json())
    records.append(made / TESTS_FILE, [done(0, "knee", 0.1), done(0, "held", 0.1)])
    write_test(made / KNEE, shape="find-the-knee")
    write_test(made / HELD)
    return made


def repeated(made: Path, capacities: Sequence[float]) -> Path:
    """Write a comparison of one cell that was searched so often, each time with another capacity (DAG runs per second).

    Its closed loops reached a tenth more.
    """
    made.mkdir(parents=True)
    (made / COMPARISON_FILE).write_text(record(
        run=made.name, steps=8, repeats=len(capacities), saturated_seconds=90.0).model_dump_json())
    for number, capacity in enumerate(capacities):
        write_test(made / f"knee-{number}", runs=served(capacity), shape="find-the-knee", seconds=360.0)
        write_test(made / f"saturated-{number}", users=16, seconds=90.0)
        records.append(made / TESTS_FILE, [
            CellTestRecord(cell=0, phase="knee", folder=f"knee-{number}", held=None),
            CellTestRecord(cell=0, phase="saturated", folder=f"saturated-{number}", held=None,
                           throughput=round(1.1 * capacity, 4))])
    for phase, rate in LONG.items():
        write_test(made / phase, rate=rate, runs=[run(float(due)) for due in range(0, 180, 4)])
        records.append(made / TESTS_FILE, [CellTestRecord(cell=0, phase=phase, folder=phase, held=rate)])
    return made


def served(capacity: float) -> list[LoadRun]:
    """Return the runs of eight steps, served one after the other at a capacity (per second), each for 5 s and more."""
    free, runs = 0.0, []
    for due in schedule.arrivals(schedule.stages(schedule.KNEE, 0.1, 360, 45)):
        free = max(free + 1 / capacity, due)
        runs.append(run(due, free + 5 - due))
    return runs


def write_test(test: Path, runs: Sequence[LoadRun] | None = None, **changes: Any) -> None:
    """Write a load test of the pattern ``improved``."""
    test.mkdir()
    asked = load(**{"rate": 0.1, "seconds": 180.0, "pattern": "improved", **changes})
    (test / LOAD_FILE).write_text(LoadTestRecord(
        run=test.name, status="complete", started_at=0.0, ended_at=200.0, load=asked, thresholds=Thresholds(),
        deployment=Deployment(airflow="http://a", executor="LocalExecutor")).model_dump_json())
    records.append(test / LOAD_RUNS_FILE, runs if runs is not None else [
        run(float(due), 4.0 if due < 45 else 80.0) for due in range(0, 95, 5)])
    records.append(test / SERIES_FILE, [sample(float(t), opened=t, open=3) for t in range(200)])
