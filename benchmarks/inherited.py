"""What breaks with a driver that was opened before the fork: wrong answers, lost writes, hangs.

Processes are forked as Airflow forks its tasks, and use the driver of the process that they were forked from. Each
writes a node, reads a nonce, and reports its result. Then the server is asked what is true::

    python -m benchmarks.inherited --tasks 200

There are three ways. ``at once``: 16 tasks at a time, as if the worker itself had opened the driver before its pool.
``in turn``: one after the other, as if each pool process had opened its own. ``in turn, some killed``: the same, but
every fifth task is killed in the middle of an answer, as by a timeout. Nobody should use a driver like that.
"""

import argparse
import json
import logging
import os
import select
import signal
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import neo4j

from benchmarks.common import conditions, neo4j_of, parser, say, write
from worker_init.arguments import real, whole

AT_ONCE = 16
KILLED_EVERY = 5
WRITE = "CREATE (:Inherited {nonce: $nonce})"
READ = "RETURN $nonce AS nonce"
LONG = "UNWIND range(1, 200000) AS row RETURN $nonce AS nonce, row"
STORED = "MATCH (found:Inherited) WHERE found.nonce IN $nonces RETURN collect(found.nonce) AS stored"


class Way(NamedTuple):
    """How the tasks share the driver."""

    name: str
    at_once: int
    killed_every: int | None = None


WAYS = (Way("at once", AT_ONCE), Way("in turn", 1), Way("in turn, some killed", 1, KILLED_EVERY))


class Task(NamedTuple):
    """A forked task: its process, the pipe for its report, what it writes, and when it counts as hung."""

    pid: int
    report: int
    nonce: str
    is_killed: bool
    until: float


def tasks_of(way: Way, driver: neo4j.Driver, options: argparse.Namespace) -> dict[str, Any]:
    """Run the tasks; return how many of them ended in which way, and the writes that they reported."""
    ended: Counter[str] = Counter()
    believed: list[str] = []
    for began in range(0, options.tasks, way.at_once):
        numbers = range(began, min(began + way.at_once, options.tasks))
        tasks = [_fork(driver, _is_killed(way, number), options.limit) for number in numbers]
        for task in tasks:
            outcome = _outcome(task)
            ended[outcome["state"]] += 1
            believed += [task.nonce] * outcome.get("written", False)
    return {"ended": dict(ended), "believed": believed}


def _is_killed(way: Way, number: int) -> bool:
    return bool(way.killed_every) and number % (way.killed_every or 1) == 0


def _fork(driver: neo4j.Driver, is_killed: bool, limit: float) -> Task:
    nonce, (mine, theirs) = uuid.uuid4().hex, os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(mine)
        _report(theirs, _task(driver, nonce, is_killed))
        os._exit(0)
    os.close(theirs)
    return Task(pid, mine, nonce, is_killed, time.monotonic() + limit)


def _task(driver: neo4j.Driver, nonce: str, is_killed: bool) -> dict[str, Any]:
    """Do a task's work. Any exception of the driver is what a user would see."""
    written = False
    try:
        with driver.session(database="neo4j") as session:
            if is_killed:
                next(iter(session.run(LONG, nonce=nonce)))
                os.kill(os.getpid(), signal.SIGKILL)
            session.run(WRITE, nonce=nonce).consume()
            written = True
            found = session.run(READ, nonce=nonce).single(strict=True)["nonce"]
    except Exception as error:
        return {"state": f"failed: {type(error).__name__}", "written": written}
    return {"state": "right" if found == nonce else "wrong answer", "written": written}


def _report(descriptor: int, outcome: dict[str, Any]) -> None:
    os.write(descriptor, json.dumps(outcome).encode())


def _outcome(task: Task) -> dict[str, Any]:
    """Wait for a task's report; kill the task if there is none in time."""
    there, _, _ = select.select([task.report], [], [], max(0.0, task.until - time.monotonic()))
    text = os.read(task.report, 10_000) if there else b""
    os.close(task.report)
    os.kill(task.pid, signal.SIGKILL)
    os.waitpid(task.pid, 0)
    if text:
        outcome: dict[str, Any] = json.loads(text)
        return outcome
    if not there:
        return {"state": "hung"}
    return {"state": "killed, as planned" if task.is_killed else "died"}


def measured(uri: str, auth: tuple[str, str], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the outcomes of the tasks of each way."""
    for way in WAYS:
        say(f"{way.name}: {options.tasks} tasks …")
        driver = neo4j.GraphDatabase.driver(uri, auth=auth, connection_acquisition_timeout=options.limit)
        driver.verify_connectivity()        # one connection is in the pool, which all of them inherit
        found = tasks_of(way, driver, options)
        believed = found.pop("believed")
        with neo4j.GraphDatabase.driver(uri, auth=auth) as asking:
            stored = asking.execute_query(STORED, nonces=believed, database_="neo4j").records[0]["stored"]
        yield {"way": way.name, "tasks": options.tasks, **found, "writes_reported": len(believed),
               "writes_lost": len(set(believed) - set(stored))}


def main() -> int:
    """Print a line for each way, and write them to a file."""
    options_of = parser(__doc__)
    options_of.add_argument("--tasks", type=whole(1), default=200, help="tasks for each way (default: %(default)s)")
    options_of.add_argument("--limit", type=real(1), default=20.0,
                            help="seconds after which a task counts as hung (default: %(default)s)")
    options = options_of.parse_args()
    # The driver's messages about its broken connections are counted here; nobody needs to read each of them.
    logging.getLogger("neo4j").addHandler(logging.NullHandler())
    began = time.time()
    with neo4j_of(options) as server:
        rows = list(measured(server.uri, (server.username, server.password), options))
    for row in rows:
        ended = ", ".join(f"{count} {state}" for state, count in row["ended"].items())
        print(f"{row['way']:22} {ended}; {row['writes_lost']} of {row['writes_reported']} reported writes lost")
    write(options.out, {"ways": rows, **conditions(began)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
