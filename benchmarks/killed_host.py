"""The driver host killed with ``kill -9``, again and again, while tasks write without a pause.

Each task is a forked process that writes one node after the other in managed transactions, with a new driver now and
then. If the answer to a commit was lost with the host, the client's driver raises IncompleteCommit and may not repeat
the commit; the task does, because its write can be repeated. Any other error is a failure. At the end, each node that
was acknowledged must exist exactly once.
"""

import os
import signal
import statistics
import sys
import time
from pathlib import Path
from typing import Any, cast

from benchmarks.common import conditions, neo4j_and_redis, parser, say, write
from testing.servers import Neo4jServer
from testing.waiting import LIMIT, wait_until
from testing.workers import celery_worker
from worker_init.arguments import real, whole
from worker_init.control import find_folders, read_status
from worker_init.errors import WorkerInitError


def serving_host(folder: Path) -> dict[str, Any] | None:
    """Return the status of the host that serves now; None if there is none."""
    try:
        status = read_status(find_folders(folder)[0], 5.0)
    except (WorkerInitError, IndexError):
        return None
    return status if status["drivers"] else None


def serves_for(folder: Path) -> float:
    """Return how many seconds ago the serving host was started; 0 if there is none."""
    status = serving_host(folder)
    return float(status["uptime_seconds"]) if status else 0.0


def all_lend(folder: Path) -> bool:
    """Whether every driver of the serving host has lent a connection."""
    status = serving_host(folder)
    return status is not None and all(driver["leases"] for driver in status["drivers"])


def kill_host(folder: Path) -> tuple[float, list[str]]:
    """Kill the serving host; return the time, and the addresses of its drivers."""
    status = cast("dict[str, Any]", wait_until(lambda: serving_host(folder), "a host serves"))
    pid, addresses = status["pid"], [driver["address"] for driver in status["drivers"]]
    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    wait_until(lambda: (serving_host(folder) or {"pid": pid})["pid"] != pid, "another host serves")
    return killed, addresses


def nodes(server: Neo4jServer) -> tuple[int, int]:
    """Return how many nodes the tasks left, and how many of them are different; remove them."""
    with server.driver() as driver:
        count, distinct = driver.execute_query("MATCH (n:Busy) RETURN count(n), count(DISTINCT n.key)").records[0]
        driver.execute_query("MATCH (n:Busy) DELETE n")
    return count, distinct


def first_answers(kills: list[float], tasks: list[dict[str, Any]]) -> list[float]:
    """Return how many seconds after each kill the first answer to a later question came."""
    answers = sorted((ended, began) for task in tasks for began, ended in task["answers"])
    return [min((ended - kill for ended, began in answers if began > kill), default=float("inf")) for kill in kills]


def main(arguments: list[str] | None = None) -> int:
    """Run, print a line, write the file. The exit code is 1 if a task saw another error, or a node is wrong."""
    options_of = parser(__doc__)
    options_of.add_argument("--times", type=whole(1), default=50, help="how often it is killed (default: %(default)s)")
    options_of.add_argument("--tasks", type=whole(1), default=16, help="tasks at once (default: %(default)s)")
    options_of.add_argument("--interval", type=real(0.1), default=6.0,
                            help="seconds between two kills; after less than 5 there is a pause before the next host")
    options = options_of.parse_args(arguments)
    began, kills, addresses = time.time(), [], set()
    with neo4j_and_redis(options) as (server, redis, folder):
        with server.driver() as driver:
            driver.execute_query("CREATE CONSTRAINT busy IF NOT EXISTS FOR (n:Busy) REQUIRE n.key IS UNIQUE")
        nodes(server)
        stop = folder / "stop"
        with celery_worker(server, redis, folder, folder, "-c", str(options.tasks)) as worker:
            results = [worker.tasks.busy.delay(str(number), str(stop)) for number in range(options.tasks)]
            wait_until(lambda: worker.in_use() > 0, "the tasks are busy")
            for number in range(options.times):
                wait_until(lambda: serves_for(folder) >= options.interval, "the host serves for long enough",
                           seconds=options.interval + LIMIT)
                killed, seen = kill_host(folder)
                kills.append(killed)
                addresses.add(tuple(seen))
                say(f"{number + 1} of {options.times}")
            wait_until(lambda: all_lend(folder), "every task was answered after the last kill")
            stop.touch()
            tasks = [result.get(timeout=180) for result in results]
            restarts = worker.stats()["restarts"]
        count, distinct = nodes(server)
    return report(options.out, began, tasks, {
        "times": options.times, "restarts": restarts, "address_lists": len(addresses), "nodes": count,
        "distinct_nodes": distinct, "seconds_to_the_next_answer": first_answers(kills, tasks)})


def report(out: Path | None, began: float, tasks: list[dict[str, Any]], seen: dict[str, Any]) -> int:
    """Print the result, and return whether a user may rely on it."""
    answers = sum(len(task["answers"]) for task in tasks)
    errors = [error for task in tasks for error in task["errors"]]
    waits = seen["seconds_to_the_next_answer"]
    is_right = (not errors and seen["nodes"] == seen["distinct_nodes"] == answers and seen["address_lists"] == 1
                and seen["restarts"] == seen["times"])
    unknown = sum(task["unknown"] for task in tasks)
    print(f"{seen['times']} kills, {len(tasks)} tasks: {answers} writes answered, {seen['nodes']} nodes, {unknown} "
          f"commits of unknown outcome, {len(errors)} errors {errors[:3]}; next answer after "
          f"{statistics.median(waits):.2f} s (median), {max(waits):.2f} s (longest): "
          f"{'all right' if is_right else 'NOT RIGHT'}")
    write(out, {"conditions": conditions(began), "tasks": len(tasks), "answers": answers, "unknown_commits": unknown,
                "errors": errors, "all_right": is_right} | seen)
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
