"""A plain Celery app for the tests: its tasks run in the pool process, or fork as Airflow's do."""

import os
from pathlib import Path
from typing import Any

import neo4j  # noqa: F401 - so that not every fork has to import it
from celery import Celery

import worker_init
from tests.worker_init.waiting import wait_until

app = Celery("worker_init_tests", broker=os.environ.get("TEST_BROKER"), backend=os.environ.get("TEST_RESULTS"))
app.conf.update(imports=["worker_init.hooks"], worker_prefetch_multiplier=1, task_acks_late=True,
                broker_connection_retry_on_startup=True, worker_pool_restarts=True)


def _ask(value: Any) -> Any:
    return worker_init.driver().execute_query("RETURN $value AS value", value=value).records[0]["value"]


@app.task
def plain(value: Any) -> dict[str, Any]:
    """Run in the pool process."""
    first = worker_init.driver()
    return {"pid": os.getpid(), "value": _ask(value), "kept": worker_init.driver() is first,
            "uri": os.environ.get("NEO4J_WORKER_URI")}


@app.task
def forked(value: Any) -> dict[str, Any]:
    """Run in a child that ends without cleaning up."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, repr(_ask(value)).encode())
        except BaseException as error:
            os.write(write, repr(error).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        said = answer.read()
    os.waitpid(child, 0)
    return {"pid": os.getpid(), "value": said, "uri": os.environ.get("NEO4J_WORKER_URI")}


@app.task
def in_transaction(release: str) -> Any:
    """Stay in a transaction until a file is there."""
    with worker_init.driver().session() as session, session.begin_transaction() as tx:
        tx.run("RETURN 1").consume()
        wait_until(Path(release).exists, "the task is released", 120)
        answer = tx.run("RETURN 2 AS answer").single(strict=True)["answer"]
        tx.commit()
        return {"pid": os.getpid(), "answer": answer}


@app.task
def environment() -> dict[str, str]:
    """Return what a task can see."""
    return dict(os.environ)
