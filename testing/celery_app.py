"""A plain Celery app for tests and benchmarks. Its tasks run in the pool process, or in a fork as Airflow's do."""

import importlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery import Celery
from celery.worker.control import control_command
from neo4j.exceptions import IncompleteCommit  # imported here, so that each fork does not have to

import worker_init
from testing.waiting import wait_until
from worker_init.preload import imported_since

app = Celery("worker_init_tests", broker=os.environ.get("TEST_BROKER"), backend=os.environ.get("TEST_RESULTS"))
app.conf.update(imports=[os.environ.get("TEST_HOOKS", "worker_init.hooks")], worker_prefetch_multiplier=1,
                task_acks_late=True, broker_connection_retry_on_startup=True, worker_pool_restarts=True)


_looks_into_queues: set[Callable[[], None]] = set()


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
    return {"pid": os.getpid(), "value": _in_child(_ask, value), "uri": os.environ.get("NEO4J_WORKER_URI")}


@app.task
def mixed(number: int) -> str:
    """Query, write or read rows in such a child; the answer is the number."""
    return _in_child((_ask, _write, _sum)[number % 3], number)


@app.task
def busy(name: str, stop: str) -> Any:
    """Write nodes one after the other in such a child until a file exists; return the result of each attempt."""
    return json.loads(_in_child(_busy, name, stop))


def _in_child(work: Callable[..., Any], *arguments: Any) -> str:
    """Return the result of the work in a forked process, as text, or the error that ended it."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            said = str(work(*arguments))
        except BaseException as error:
            said = repr(error)
        with os.fdopen(write, "w") as answer:
            answer.write(said)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        said = answer.read()
    os.waitpid(child, 0)
    return said


def _write(number: int) -> Any:
    with worker_init.driver().session() as session:
        return session.execute_write(
            lambda tx: tx.run("CREATE (n:Forked {v: $v}) RETURN n.v", v=number).single(strict=True)[0])


def _sum(number: int) -> int:
    with worker_init.driver().session() as session:
        found = sum(record[0] for record in session.run("UNWIND range(1,500) AS x RETURN x + $v", v=number))
    return int((found - 125_250) // 500)


def _busy(name: str, stop: str) -> str:
    """Write until the file exists, with a new driver for each ten attempts. A commit of unknown outcome is repeated."""
    answers: list[tuple[float, float]] = []
    unknown, errors = 0, []
    while not Path(stop).exists():
        with worker_init.driver(connection_timeout=60) as driver:
            for _ in range(10):
                began = time.monotonic()
                try:
                    driver.execute_query("MERGE (:Busy {key: $key})", key=f"{name}-{len(answers)}")
                    answers.append((began, time.monotonic()))
                except IncompleteCommit:
                    unknown += 1
                except Exception as error:
                    errors.append(repr(error))
    return json.dumps({"answers": answers, "unknown": unknown, "errors": errors})


@app.task
def in_transaction(release: str) -> Any:
    """Stay in a transaction until a file exists."""
    with worker_init.driver().session() as session, session.begin_transaction() as tx:
        tx.run("RETURN 1").consume()
        wait_until(Path(release).exists, "the task is released", 120)
        answer = tx.run("RETURN 2 AS answer").single(strict=True)["answer"]
        tx.commit()
        return {"pid": os.getpid(), "answer": answer}


@app.task
def imported(name: str) -> bool:
    """Import a module in such a child; return whether the child had to import it itself."""
    return bool(_in_child(_imported, name) == "True")


def _imported(name: str) -> bool:
    importlib.import_module(name)
    return name in imported_since()


@app.task
def waits(release: str) -> bool:
    """Wait until a file exists, without asking for a driver."""
    wait_until(Path(release).exists, "the task is released", 120)
    return True


@control_command()
def stop_reading(state: Any) -> str:
    """Make the worker stop consuming its queues, as Kombu's reconnect did (its pull request 2492)."""
    on_tick = state.consumer.hub.on_tick
    _looks_into_queues.update(on_tick)
    on_tick.clear()
    return "it reads no queue now"


@control_command()
def read_again(state: Any) -> str:
    """Undo ``stop_reading``."""
    state.consumer.hub.on_tick.update(_looks_into_queues)
    return "it reads its queues again"


@app.task
def environment() -> dict[str, str]:
    """Return the environment that a task sees."""
    return dict(os.environ)
