"""What the driver host needs: its memory with every driver in use, what it adds to a pool process, its idle time.

Memory is the proportional set size (PSS) from ``smaps_rollup``: pages that processes share are divided
among them. A pool process is measured after it has run forked tasks, with the package and without it.
"""

import sys
import time
from pathlib import Path
from statistics import mean
from typing import Any

import psutil

from benchmarks.common import conditions, neo4j_and_redis, parser, read_pss, read_seconds, say, write
from testing.servers import Neo4jServer
from testing.waiting import LIMIT, wait_until
from testing.workers import Worker, celery_worker
from worker_init.arguments import real, whole


def pool_processes(worker: Worker) -> list[psutil.Process]:
    """Return the worker's pool processes: its children, except the driver host."""
    children = psutil.Process(worker.process.pid).children()
    return [child for child in children if "worker_init.host_process" not in " ".join(child.cmdline())]


def pool_megabytes(worker: Worker, processes: int) -> float:
    """Return the mean PSS of the pool processes, once they have had work."""
    worker.run(worker.tasks.mixed, list(range(processes * 10)))
    return mean(read_pss(process.pid) for process in pool_processes(worker))


def hold_all(worker: Worker, processes: int) -> float:
    """Keep a task of each process in a transaction; return the host's PSS meanwhile."""
    release = worker.folder / "release"
    results = [worker.tasks.in_transaction.delay(str(release)) for _ in range(processes)]
    wait_until(lambda: worker.in_use() == processes, "each driver is in use")
    megabytes = read_pss(worker.stats()["pid"])
    release.touch()
    for result in results:
        result.get(timeout=LIMIT)
    return megabytes


def idle_seconds(pid: int, seconds: float) -> float:
    """Return the processor time that a process uses while it has nothing to do. Raises RuntimeError if it ends."""
    before = read_seconds(pid)
    try:
        psutil.Process(pid).wait(timeout=seconds)
    except psutil.TimeoutExpired:
        return read_seconds(pid) - before
    raise RuntimeError(f"process {pid} has ended within {seconds:g} s")


def measured(server: Neo4jServer, redis: str, folder: Path, processes: int, idle: float) -> dict[str, Any]:
    """Measure a worker with the package, and one without it."""
    with celery_worker(server, redis, folder, folder, "-c", str(processes), WORKER_INIT_DISABLED="1") as worker:
        without = pool_megabytes(worker, processes)
    say("measured without the package")
    with celery_worker(server, redis, folder, folder, "-c", str(processes)) as worker:
        host = worker.stats()["pid"]
        at_start = read_pss(host)
        with_it = pool_megabytes(worker, processes)
        in_use = hold_all(worker, processes)
        say(f"measuring the host's idle time for {idle:g} s …")
        idle_time = idle_seconds(host, idle)
    return {"processes": processes, "host_pss_mb": round(in_use, 1), "host_pss_at_start_mb": round(at_start, 1),
            "pool_process_pss_mb": round(with_it, 2), "pool_process_pss_without_mb": round(without, 2),
            "added_to_a_pool_process_mb": round(with_it - without, 2), "idle_seconds": idle,
            "host_processor_seconds_when_idle": round(idle_time, 3)}


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write the file."""
    options_of = parser(__doc__)
    options_of.add_argument("--processes", type=whole(1), default=16,
                            help="pool processes, each with its own driver (default: %(default)s)")
    options_of.add_argument("--idle", type=real(0), default=60.0, help="seconds (default: %(default)s)")
    options = options_of.parse_args(arguments)
    began = time.time()
    with neo4j_and_redis(options) as (server, redis, folder):
        result = measured(server, redis, folder, options.processes, options.idle)
    for name, value in result.items():
        print(f"{name:34} {value}")
    write(options.out, {"conditions": conditions(began)} | result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
