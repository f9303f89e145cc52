"""What the tasks themselves report: the rows that ``patterns.workload.run_task`` returns."""

from collections.abc import Iterable, Mapping
from typing import Any

from rig.metrics.gauges import all_tasks
from rig.metrics.intervals import Number
from rig.metrics.missing import Missing
from rig.metrics.raw import Repeat

Row = Mapping[str, Any]


def all_rows(repeat: Repeat) -> list[Row]:
    """Return every task's row. Raises Missing if a task returned none."""
    tasks = all_tasks(repeat)
    rows: list[Row] = [task.row for task in tasks if task.row is not None]
    if len(rows) < len(tasks):
        raise Missing(f"{len(tasks) - len(rows)} of {len(tasks)} tasks returned no row")
    return rows


def numbers(repeat: Repeat, key: str) -> list[Number]:
    """Return one number of every row. Raises Missing if a row does not have it."""
    found = [row.get(key) for row in all_rows(repeat)]
    known = [value for value in found if value is not None]
    if len(known) < len(found):
        raise Missing(f"{len(found) - len(known)} of {len(found)} tasks report no {key}")
    return known


def later_calls(repeat: Repeat) -> list[Number]:
    """Return the seconds of every call after a task's first one. Raises Missing if there is none."""
    lists = [row.get("call_seconds") or [] for row in all_rows(repeat)]
    calls = [seconds for row in lists for seconds in row]
    if not calls:
        raise Missing(f"no later call: {repeat.cell.calls} per task")
    return calls


def process(row: Row) -> tuple[str, int]:
    """Return the task's process: host and process id."""
    return row["host"], row["pid"]


def worker_processes(repeat: Repeat) -> int:
    """Return how many processes the tasks were forked from."""
    return len({(row["host"], row["parent_pid"]) for row in all_rows(repeat)})


def is_wrong(row: Row | None) -> bool:
    """Return whether the task reports a nonce that did not come back. A task without a row failed instead."""
    return row is not None and bool(row["wrong"])


def driver_versions(repeats: Iterable[Repeat]) -> list[str]:
    """Return the versions of the Neo4j driver that the tasks say they ran with."""
    found = {task.row.get("driver_version") for repeat in repeats for task in repeat.tasks if task.row}
    return sorted(str(version) for version in found if version)
