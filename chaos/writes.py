"""What a task of the chaos DAG does: one row under a key of its try, written and read back."""

import os
import time
import uuid

from patterns import registry

STORE = "CREATE (:ChaosRow {run: $run, task: $task, try: $try_number, nonce: $nonce})"
READ = "MATCH (row:ChaosRow {run: $run, task: $task, try: $try_number}) RETURN row.nonce AS nonce, $nonce AS echo"
MIXED_UP = "CREATE (:ChaosMixedUp {run: $run, task: $task, expected: $nonce})"
TIMES = 3


class MixedUpError(RuntimeError):
    """The task was given a row or an answer that is another's."""


def store_and_read(pattern: str, run: str, task: int, try_number: int, hold: float) -> str:
    """Store a row, read it back a few times, the first time in a transaction that stays open for ``hold`` seconds.

    Returns the row's nonce. Raises MixedUpError where an answer is another's, and what the driver raises.
    """
    connection = registry.load(pattern)(os.environ)
    key = {"run": run, "task": task, "try_number": try_number, "nonce": uuid.uuid4().hex}
    with connection.get_driver().session() as session:
        session.execute_write(lambda tx: tx.run(STORE, key).consume())
        with session.begin_transaction() as transaction:
            answers = [transaction.run(READ, key).values()]
            time.sleep(hold)    # for a fault to strike within a transaction
            transaction.commit()
        answers += [session.run(READ, key).values() for _ in range(TIMES)]
        if any([key["nonce"], key["nonce"]] not in answer for answer in answers):
            session.run(MIXED_UP, key).consume()
            raise MixedUpError(f"task {task} of {run} has {answers}, and not its own {key['nonce']}")
    return str(key["nonce"])
