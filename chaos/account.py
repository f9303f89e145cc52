"""Compares Neo4j's data with Airflow's: each row with the try of the task that wrote it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Ended:
    """A task in Airflow: its state, the number of its last try, and what that try returned."""

    task: int
    state: str | None
    tries: int
    nonce: str | None


@dataclass(frozen=True)
class Row:
    """A row in Neo4j."""

    task: int
    try_number: int
    nonce: str


@dataclass(frozen=True)
class Stored:
    """What Neo4j has stored for a DAG run.

    ``mixed_up`` counts tasks that were given another task's data. ``uncommitted`` counts rows of transactions that were
    never committed.
    """

    rows: Sequence[Row]
    mixed_up: int = 0
    uncommitted: int = 0


MOST_NAMED = 3      # in one reason
ENDS, NOT_LOST, NOT_DOUBLED, OWN_ROW, ROLLED_BACK = (
    "tasks end as Airflow promises", "no write lost", "no write doubled", "no task reads another's row",
    "nothing stays of a transaction that was not committed")
INVARIANTS = (ENDS, NOT_LOST, NOT_DOUBLED, OWN_ROW, ROLLED_BACK)


def broken(tasks: Sequence[Ended], stored: Stored, *, retries: int | None = None, may_fail: bool = False,
           ) -> Iterator[tuple[str, str]]:
    """Yield each invariant that does not hold, with the reason.

    With retries, every task must succeed. If the fault leaves nothing to retry with, tasks ``may_fail``, but must have
    ended. ``retries`` is the largest allowed number of failed tries; None if the fault may affect any number of
    tasks. A try that was killed may have stored its row or not: nobody was told.
    """
    allowed = {"success", "failed"} if may_fail else {"success"}
    if failed := [f"{task.task} is {task.state}" for task in tasks if task.state not in allowed]:
        yield ENDS, f"task {_few(failed)}"
    again = sum(task.tries - 1 for task in tasks if task.tries)
    if not failed and retries is not None and again > retries:
        yield ENDS, f"{again} tries failed, and the fault explains {retries}"
    written = Counter((row.task, row.try_number) for row in stored.rows)
    successes = [task for task in tasks if task.state == "success"]
    if lost := [task.task for task in successes if not written[task.task, task.tries]]:
        yield NOT_LOST, f"no row of task {_few(lost)}"
    if doubled := [f"{task} (try {number}, {count} rows)" for (task, number), count in written.items() if count > 1]:
        yield NOT_DOUBLED, f"task {_few(doubled)}"
    nonces = {(row.task, row.try_number): row.nonce for row in stored.rows}
    strange = [task.task for task in successes if nonces.get((task.task, task.tries), task.nonce) != task.nonce]
    if stored.mixed_up or strange:
        yield OWN_ROW, f"{stored.mixed_up} tasks were given another's, of task {_few(strange)} another's is stored"
    if stored.uncommitted:
        yield ROLLED_BACK, f"{stored.uncommitted} rows of transactions that were not committed are stored"


def _few(found: Sequence[object]) -> str:
    more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    return f"{', '.join(map(str, found[:MOST_NAMED]))}{more}"
