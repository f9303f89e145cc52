"""Forked tasks with traffic, while connections are constantly replaced: no answer may be wrong, late or lost.

Plain Celery tasks fork as Airflow's do. A third of them query a value, a third write a node in a managed transaction,
and a third read 500 rows. At the end the nodes are counted.
"""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from celery.exceptions import TimeoutError as ResultTimeout

from benchmarks.common import conditions, neo4j_and_redis, parser, say, write
from testing.servers import Neo4jServer
from testing.workers import Worker, celery_worker
from worker_init.arguments import whole

_BATCH = 500
_HUNG_SECONDS = 120


def outcomes(worker: Worker, tasks: int) -> Iterator[str]:
    """Run the tasks in batches, and yield the outcome of each."""
    ahead: list[Any] = []
    for first in range(0, tasks, _BATCH):
        ahead += [(number, worker.tasks.mixed.delay(number)) for number in range(first, min(first + _BATCH, tasks))]
        ready, ahead = (ahead[:-_BATCH], ahead[-_BATCH:]) if first + _BATCH < tasks else (ahead, [])
        yield from (outcome(number, result) for number, result in ready)
        say(f"{first + _BATCH - len(ahead)} of {tasks}")


def outcome(number: int, result: Any) -> str:
    """Return ``right``, ``hung``, ``wrong`` or the error."""
    try:
        said = result.get(timeout=_HUNG_SECONDS)
    except ResultTimeout:
        return "hung"
    if said == str(number):
        return "right"
    return "wrong" if said.lstrip("-").isdigit() else f"failed: {said}"


def nodes(server: Neo4jServer) -> tuple[int, int]:
    """Return how many nodes the tasks left, and how many of them are different; remove them."""
    with server.driver() as driver:
        count, distinct = driver.execute_query("MATCH (n:Forked) RETURN count(n), count(DISTINCT n.v)").records[0]
        driver.execute_query("MATCH (n:Forked) DELETE n")
    return count, distinct


def main(arguments: list[str] | None = None) -> int:
    """Run, print a line, write the file. The exit code is 1 if anything was not right."""
    options_of = parser(__doc__)
    options_of.add_argument("--tasks", type=whole(1), default=20_000, help="tasks in all (default: %(default)s)")
    options_of.add_argument("--processes", type=whole(1), default=16, help="pool processes (default: %(default)s)")
    options_of.add_argument("--lifetime", default="0.05", help="age in seconds at which a connection is replaced")
    options = options_of.parse_args(arguments)
    began = time.time()
    with neo4j_and_redis(options) as (server, redis, folder):
        nodes(server)
        with celery_worker(server, redis, folder, folder, "-c", str(options.processes),
                           WORKER_INIT_MAX_LIFETIME=options.lifetime) as worker:
            counts = Counter(outcomes(worker, options.tasks))
            stats = worker.stats()
        count, distinct = nodes(server)
    writes = len(range(1, options.tasks, 3))
    result: dict[str, Any] = {"conditions": conditions(began), "tasks": options.tasks, "processes": options.processes,
              "outcomes": counts, "writes": writes, "nodes": count, "distinct_nodes": distinct,
              "connections_opened": sum(driver["connections"]["opened"] for driver in stats["drivers"]),
              "host_restarts": stats["restarts"]}
    is_right = counts["right"] == options.tasks and count == distinct == writes
    print(f"{options.tasks} tasks: {dict(counts)}; {count} nodes of {writes}; {result['connections_opened']} "
          f"connections opened in {result['conditions']['seconds']} s: {'all right' if is_right else 'NOT RIGHT'}")
    write(options.out, result | {"all_right": is_right})
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
