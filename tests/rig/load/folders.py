"""Folders of load tests and of comparisons of loads, as the rig leaves them."""

from pathlib import Path
from typing import Any

from rig import records
from rig.load.records import (
    CellTestRecord,
    Deployment,
    LoadCell,
    LoadComparison,
    LoadTestRecord,
    Phase,
    Thresholds,
)
from rig.records import COMPARISON_FILE, LOAD_FILE, LOAD_RUNS_FILE, SERIES_FILE, TESTS_FILE
from tests.rig.load.lines import load, run, sample

KNEE, HELD = "0-knee", "0-held"


def done(cell: int, phase: Phase, held: float | None = 0.2) -> CellTestRecord:
    return CellTestRecord(cell=cell, phase=phase, folder=f"{cell}-{phase}", held=held)


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
    for name, changes in {KNEE: {"shape": "find-the-knee", "rate": 0.1, "seconds": 180.0, "pattern": "improved"},
                          HELD: {"rate": 0.1, "seconds": 180.0, "pattern": "improved"}}.items():
        test = made / name
        test.mkdir()
        (test / LOAD_FILE).write_text(LoadTestRecord(
            run=name, status="complete", started_at=0.0, ended_at=200.0, load=load(**changes), thresholds=Thresholds(),
            deployment=Deployment(airflow="http://a", executor="LocalExecutor")).model_dump_json())
        records.append(test / LOAD_RUNS_FILE, [run(float(due), 4.0 if due < 45 else 80.0) for due in range(0, 95, 5)])
        records.append(test / SERIES_FILE, [sample(float(t), opened=t, open=3) for t in range(200)])
    return made
