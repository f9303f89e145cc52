"""Holding what Neo4j has against what Airflow says: each row against the try of the task that wrote it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Ended:
    """A task as Airflow has it: its state, the number of its last try, and what that try returned."""

    task: int
    state: str | None
    tries: int
    nonce: str | None


@dataclass(frozen=True)
class Row:
    """A row as Neo4j has it."""

    task: int
    try_number: int
    nonce: str


MOST_NAMED = 3      # in one reason
ENDS, NOT_LOST, NOT_DOUBLED, OWN_ROW = ("tasks end as Airflow promises", "no write lost", "no write doubled",
                                        "no task reads another's row")


def broken(tasks: Sequence[Ended], rows: Sequence[Row], mixed_up: int, *, retries: int | None = None,
           ) -> Iterator[tuple[str, str]]:
    """Yield what does not hold, with the reason.

    With retries, every task succeeds. ``retries`` is how many tries may have failed at most, None where a fault may
    take any number of tasks along. A try that was killed may have stored its row or not: nobody was told.
    """
    if failed := [f"{task.task} is {task.state}" for task in tasks if task.state != "success"]:
        yield ENDS, f"task {_few(failed)}"
    again = sum(task.tries - 1 for task in tasks if task.tries)
    if not failed and retries is not None and again > retries:
        yield ENDS, f"{again} tries failed, and the fault explains {retries}"
    stored = Counter((row.task, row.try_number) for row in rows)
    successes = [task for task in tasks if task.state == "success"]
    if lost := [task.task for task in successes if not stored[task.task, task.tries]]:
        yield NOT_LOST, f"no row of task {_few(lost)}"
    if doubled := [f"{task} (try {number}, {count} rows)" for (task, number), count in stored.items() if count > 1]:
        yield NOT_DOUBLED, f"task {_few(doubled)}"
    nonces = {(row.task, row.try_number): row.nonce for row in rows}
    strange = [task.task for task in successes if nonces.get((task.task, task.tries), task.nonce) != task.nonce]
    if mixed_up or strange:
        yield OWN_ROW, f"{mixed_up} tasks were given another's, of task {_few(strange)} another's is stored"


def _few(found: Sequence[object]) -> str:
    more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    return f"{', '.join(map(str, found[:MOST_NAMED]))}{more}"
