"""Which pool process of a Celery worker gets the next task, and how long each process is idle between tasks.

This decides how many connections are opened below saturation with one driver for each pool process: if a process seldom
gets a task, the idle timeout closes its connection. A worker of 16 processes runs tasks of a fixed length that arrive
at random. ``--loads`` gives the share of its processes that is busy on average::

    python -m benchmarks.assignment

For each load it prints how many processes ran a task, and how many tasks found that their process had been idle for
longer than each of several timeouts. Beside that it prints what :mod:`rig.capacity` computes for processes that get
tasks in a fixed order, and for processes that are picked at random. Timeouts are multiples of a task's length.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from billiard import current_process
from celery import Celery

from benchmarks.common import conditions, say, write
from benchmarks.sigterm import end_on_sigterm
from rig.capacity import queueing
from testing.programs import running_program
from testing.servers import redis_server
from testing.waiting import wait_until
from worker_init.arguments import real, whole

TIMEOUTS = (2.0, 5.0, 10.0, 30.0)
BROKER, FILE = "ASSIGNMENT_BROKER", "ASSIGNMENT_FILE"

app = Celery("assignment", broker=os.environ.get(BROKER))
# The settings of Airflow's provider; the scheduling is Celery's default, `-O fair`.
app.conf.update(worker_prefetch_multiplier=1, task_acks_late=True, task_ignore_result=True,
                broker_connection_retry_on_startup=True)


class Ran(NamedTuple):
    """A task that ran: the index of its process, and when, in seconds since the epoch."""

    process: int
    start: float
    end: float


@app.task(name="assignment.hold")
def hold(seconds: float) -> None:
    """Keep the process busy, and record which process it was."""
    start = time.time()
    time.sleep(seconds)     # the work itself
    with Path(os.environ[FILE]).open("a", encoding="ascii") as file:    # one write: lines stay whole
        file.write(f"{current_process().index} {start} {time.time()}\n")


@contextmanager
def worker(processes: int, broker: str, folder: Path) -> Iterator[Path]:
    """Run a worker; yield the file in which its tasks write."""
    ran = folder / "ran"
    ran.touch()
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.assignment", "worker", "-c", str(processes),
               "--without-gossip", "--without-mingle", "-l", "WARNING"]
    with (folder / "worker.log").open("w") as log, running_program(
            command, env={**os.environ, BROKER: broker, FILE: str(ran)}, stdout=log, stderr=log):
        wait_until(lambda: app.control.ping(timeout=1, limit=1), "the worker answers")
        yield ran


def run(ran: Path, tasks: int, length: float, rate: float, order: random.Random) -> list[Ran]:
    """Send ``tasks`` tasks at ``rate`` per second; return the tasks that ran, once all have."""
    ran.write_text("", encoding="ascii")
    due = time.monotonic()
    for _ in range(tasks):
        due += order.expovariate(rate)
        time.sleep(max(0.0, due - time.monotonic()))    # arrivals at random: the times are the input
        hold.delay(length)
    wait_until(lambda: len(ran.read_text(encoding="ascii").splitlines()) == tasks, "all tasks have run")
    lines = (line.split() for line in ran.read_text(encoding="ascii").splitlines())
    return sorted((Ran(int(process), float(start), float(end)) for process, start, end in lines),
                  key=lambda one: one.start)


def gaps(ran: list[Ran]) -> list[float]:
    """Return how long each task's process had been idle before it; a process's first task has no gap."""
    ended: dict[int, float] = {}
    found = []
    for one in ran:
        if one.process in ended:
            found.append(one.start - ended[one.process])
        ended[one.process] = one.end
    return found


def result(load: float, ran: list[Ran], processes: int, length: float) -> dict[str, Any]:
    """Return the measurement for one load, and the prediction of both laws."""
    per_process: defaultdict[int, int] = defaultdict(int)
    for one in ran:
        per_process[one.process] += 1
    waited = gaps(ran)
    busy = sum(one.end - one.start for one in ran) / len(ran)      # including the time to report
    rate = (len(ran) - 1) / (ran[-1].start - ran[0].start)
    seen = {f"{timeout:g}": sum(gap > timeout * length for gap in waited) for timeout in TIMEOUTS}
    return {"load": load, "load_reached": round(rate * busy / processes, 3), "tasks": len(ran),
            "processes_used": len(per_process),
            "busiest_share": round(max(per_process.values()) / len(ran), 3),
            "tasks_by_process": {str(index): per_process[index] for index in sorted(per_process)},
            "idle_longer": seen,
            "in_order": {f"{timeout:g}": round(queueing.in_order(
                rate, busy, processes, timeout * length).opened / rate * len(ran), 1) for timeout in TIMEOUTS},
            "at_random": {f"{timeout:g}": round(queueing.at_random(
                rate, busy, processes, timeout * length).opened / rate * len(ran), 1) for timeout in TIMEOUTS}}


def main() -> None:
    """Run the benchmark."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--processes", type=whole(1), default=16,
                         help="processes of the worker's pool (default: %(default)s)")
    options.add_argument("--tasks", type=whole(1), default=400, help="tasks for each load (default: %(default)s)")
    options.add_argument("--length", type=real(0), default=0.5, help="seconds that a task takes (default: %(default)s)")
    options.add_argument("--loads", default="0.05,0.2,0.5,0.8",
                         help="shares of the processes that are busy (default: %(default)s)")
    options.add_argument("--seed", type=int, default=14, help="seed of the arrival times (default: %(default)s)")
    options.add_argument("--out", type=Path, help="file for the result, as JSON")
    given = options.parse_args()
    end_on_sigterm()
    began, order, results = time.time(), random.Random(given.seed), []  # noqa: S311 - arrivals, not secrets
    with tempfile.TemporaryDirectory() as name, redis_server(Path(name)) as broker:
        app.conf.broker_url = broker
        with worker(given.processes, broker, Path(name)) as ran:
            for load in map(float, given.loads.split(",")):
                say(f"load {load:g} …")
                done = run(ran, given.tasks, given.length, load * given.processes / given.length, order)
                results.append(result(load, done, given.processes, given.length))
                show(results[-1])
    write(given.out, {"conditions": conditions(began), "options": {**vars(given), "out": None}, "loads": results})


def show(found: dict[str, Any]) -> None:
    """Print one load."""
    print(f"load {found['load_reached']:.2f}: {found['processes_used']} processes ran {found['tasks']} tasks, the "
          f"busiest {100 * found['busiest_share']:.0f} % of them", flush=True)
    for timeout in found["idle_longer"]:
        print(f"  idle for more than {timeout:>2} tasks: {found['idle_longer'][timeout]:4d} seen, "
              f"{found['in_order'][timeout]:6.1f} in a fixed order, {found['at_random'][timeout]:6.1f} at random",
              flush=True)


if __name__ == "__main__":
    main()
