"""The work of a task of the chaos DAG: one row under a key of its try, written and read back.

Every second task writes with a single query, the others in a transaction. Every fourth task leaves a transaction open
when it ends, like a task that forgets to commit. The next task on its connection must not notice this.
"""

import os
import time
import uuid

import neo4j

from patterns import registry

STORE = "CREATE (:ChaosRow {run: $run, task: $task, try: $try_number, nonce: $nonce})"
READ = "MATCH (row:ChaosRow {run: $run, task: $task, try: $try_number}) RETURN row.nonce AS nonce, $nonce AS echo"
UNCOMMITTED = "CREATE (:ChaosUncommitted {run: $run, task: $task})"
# Of any task: only the end of each transaction hides them from the others.
SEEN = "MATCH (row:ChaosUncommitted {run: $run}) RETURN count(row) AS seen"
MIXED_UP = "CREATE (:ChaosMixedUp {run: $run, task: $task, expected: $nonce})"
TIMES = 3
WRITES_ALONE, LEAVES = 2, 4     # every second task, every fourth task
PID = "chaos_pid"               # in the metadata of a transaction: which process is in it, for those who ask the server

# Left open by a task on purpose: the end of the process must close it, not the garbage collector.
_left: list[object] = []


class MixedUpError(RuntimeError):
    """The task was given a row or an answer that belongs to another task."""


def store_and_read(pattern: str, run: str, task: int, try_number: int, hold: float) -> str:
    """Store a row and read it back a few times, first in a transaction that stays open for ``hold`` seconds.

    Returns the row's nonce. Raises MixedUpError if an answer belongs to another task, and the driver's own errors.
    """
    connection = registry.load(pattern)(os.environ)
    key = {"run": run, "task": task, "try_number": try_number, "nonce": uuid.uuid4().hex}
    driver = connection.get_driver()
    with driver.session() as session:
        if task % WRITES_ALONE:
            session.run(STORE, key).consume()
        else:
            session.execute_write(lambda tx: tx.run(STORE, key).consume())
        with session.begin_transaction(metadata={PID: os.getpid()}) as transaction:
            transaction.run(UNCOMMITTED, key).consume()
            answers = [transaction.run(READ, key).values()]
            time.sleep(hold)    # time for a fault to hit within a transaction
            transaction.rollback()
        answers += [session.run(READ, key).values() for _ in range(TIMES)]
        seen = session.run(SEEN, key).single(strict=True)["seen"]
        if seen or any([key["nonce"], key["nonce"]] not in answer for answer in answers):
            session.run(MIXED_UP, key).consume()
            raise MixedUpError(f"task {task} of {run} has {answers}, and not its own {key['nonce']}; it sees {seen} "
                               "rows that nobody has committed")
    if task % LEAVES == 0:
        _leave_open(driver, key)
    return str(key["nonce"])


def _leave_open(driver: neo4j.Driver, key: dict[str, object]) -> None:
    session = driver.session()
    transaction = session.begin_transaction()
    transaction.run(UNCOMMITTED, key).consume()
    _left.extend((session, transaction))
