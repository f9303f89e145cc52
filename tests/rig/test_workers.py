"""What ``rig workers`` makes of the workers' own words."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rig import workers
from rig.errors import BadInput, RigError
from rig.flower import Inspected
from tests.rig.plain_settings import PlainSettings
from tests.rig.test_drivers import stack


def driver(slot: int, **changes: Any) -> dict[str, Any]:
    return {"slot": slot, "processes": [100 + slot], "state": "up", "upstream": "bolt://db:7687", "leases": 7,
            "connections": {"open": 1, "opened": 2, "in_use": 0}, "waits": {"total": 3, "longest_seconds": 0.25},
            "clients": {"total": 5}, "errors": 0, "last_error": None, **changes}


def shown(found: Inspected) -> str:
    console = Console(width=80)
    with console.capture() as capture:
        for table in workers.tables(found):
            console.print(table)
    return capture.get()


def test_each_process_has_a_row_and_the_worker_its_sums_within_80_columns() -> None:
    section = {"state": "serving", "scope": "process", "drivers": [driver(0), driver(1, leases=5, processes=[])]}
    lines = shown({"celery@a": section}).splitlines()
    assert "celery@a: serving, scope process, to bolt://db:7687" in lines[0]
    assert next(line for line in lines if line.strip().startswith("100")).split() == [
        "100", "up", "1", "2", "0", "7", "3", "5", "0", "0.25"]
    assert next(line for line in lines if line.strip().startswith("all")).split() == [
        "all", "2", "4", "0", "12", "6", "10", "0", "0.25"]
    assert max(map(len, lines)) <= 80


def test_a_worker_without_the_hooks_says_so() -> None:
    assert "celery@b: not loaded" in shown({"celery@b": {"state": "not loaded"}})


def test_what_went_wrong_is_told_with_its_driver() -> None:
    found = {"celery@a": {"state": "serving", "scope": "process", "drivers": [driver(0), driver(
        1, last_error="bolt://db:7687 refused the connection")]}}
    assert workers.problems(found) == ["celery@a, driver 1: bolt://db:7687 refused the connection"]


def test_local_executor_has_none(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="LocalExecutor, which has no Celery workers — `rig switch celery`"):
        workers.inspect(PlainSettings(data_dir=tmp_path), stack(tmp_path, executor="LocalExecutor"))


def test_flower_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with pytest.raises(RigError, match=r"Flower at http://127.0.0.1:1 gives no information about the workers"):
        workers.inspect(PlainSettings(data_dir=tmp_path), stack(tmp_path, ports={"flower": 1}))
