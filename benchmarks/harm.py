"""The cost of connections for the server, and for other clients that only want an answer from it.

While tasks of one pattern run, another client (the steady client) sends a small query at a steady rate. The result is
how much processor time Neo4j used, and how long that client waited for its answers, measured from the time at which
each query was due. A task is a separate process, forked without Airflow, that does what a DAG's task does: three calls,
then a hold. If it makes a driver for every call, 100 tasks open 300 connections::

    python -m benchmarks.harm --out harm.json

The turns run in blocks, each in random order: ``quiet`` without any task, ``problematic``, ``improved``, ``shared`` (a
shared driver in a driver host), and ``shared`` a second time, which shows how much a turn differs from itself. All
turns take the same time. Tasks and driver host have one core; Neo4j and the steady client have all the others.
So the processor time of the tasks themselves does not slow the queries down.

Figures are compared block by block: the geometric mean of the blocks' ratios, with the interval of a paired t-test on
their logarithms, corrected for the number of comparisons. This takes about four minutes.
"""

import argparse
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple, cast

import psutil
from pydantic import SecretStr

from benchmarks.common import conditions, neo4j_of, parser, read_seconds, say, write
from patterns import identity
from patterns.workload import Task, run_task
from rig.errors import BadInput, RigError
from rig.metrics import intervals
from rig.percentile import percentile
from rig.probe import Probe, Server
from testing.servers import Neo4jServer, Serving, serving
from testing.waiting import wait_until
from worker_init.arguments import real, whole

QUIET, PROBLEMATIC, IMPROVED, SHARED, AGAIN = "quiet", "problematic", "improved", "shared", "shared again"
TURNS = (QUIET, PROBLEMATIC, IMPROVED, SHARED, AGAIN)
PATTERN_OF = {PROBLEMATIC: "problematic", IMPROVED: "improved", SHARED: "worker", AGAIN: "worker"}
COMPARED = ((PROBLEMATIC, SHARED), (IMPROVED, SHARED), (PROBLEMATIC, IMPROVED), (SHARED, QUIET))
CONTROL = (AGAIN, SHARED)
FIGURES = {"neo4j_seconds": "processor seconds of Neo4j", "p50_ms": "query, median, ms", "p99_ms": "query, p99, ms"}
ASKED = "UNWIND range(1, 100) AS number RETURN sum(number)"
CALLS = 3
AFTER = 1.0         # seconds after the last task was started that still belong to a turn


class Turn(NamedTuple):
    """One turn: how many connections the server accepted, processor seconds, and times of the steady query."""

    kind: str
    block: int
    seconds: float
    opened: int
    neo4j_seconds: float
    tasks_seconds: float
    host_seconds: float
    asked: int
    p50_ms: float
    p99_ms: float


class Bench(NamedTuple):
    """What a turn needs: the server and its process, the driver host, and the steady client."""

    server: Neo4jServer
    pid: int
    host: Serving
    probe: Probe
    asker: Connection

    def environment(self, kind: str) -> dict[str, str]:
        """Return the variables that lead a task of this kind to the server."""
        plain = {"NEO4J_URI": self.server.uri, "NEO4J_USERNAME": self.server.username,
                 "NEO4J_PASSWORD": self.server.password, "NEO4J_DATABASE": "neo4j"}
        if PATTERN_OF[kind] != "worker":
            return plain
        return plain | {"NEO4J_WORKER_URI": self.host.uri, "NEO4J_WORKER_USERNAME": self.host.auth[0],
                        "NEO4J_WORKER_PASSWORD": self.host.auth[1]}


def run_turn(bench: Bench, kind: str, block: int, options: argparse.Namespace) -> Turn:
    """Start the tasks at even intervals, wait until they and the turn have ended, and return the measurements."""
    first, spent = bench.probe.mark(ask_start=False).id, _spent(bench)
    bench.asker.send("begin")
    began = time.monotonic()
    started = [] if kind == QUIET else list(_tasks(bench.environment(kind), kind, options, began))
    wrong = sum(os.waitpid(pid, 0)[1] != 0 for pid in started)
    time.sleep(max(0.0, began + options.seconds + options.hold + AFTER - time.monotonic()))    # as long as the others
    bench.asker.send("end")
    waited = _answer(bench.asker)
    neo4j, tasks, host = (after - before for before, after in zip(spent, _spent(bench), strict=True))
    seconds = time.monotonic() - began
    if wrong:
        raise RigError(f"{wrong} of {len(started)} tasks of {kind} failed", "their errors are above")
    opened = bench.probe.mark(ask_start=False).id - first - 1
    return Turn(kind, block, seconds, opened, neo4j, tasks, host, len(waited), percentile(waited, 50),
                percentile(waited, 99))


def _answer(asker: Connection) -> list[float]:
    """Return the measurements of the steady client. Raises RigError if it has ended."""
    try:
        waited: list[float] = asker.recv()
    except EOFError:
        raise RigError("the steady client has ended by itself", "its error is above") from None
    return waited


def _spent(bench: Bench) -> tuple[float, float, float]:
    """Return the processor seconds of Neo4j, of the tasks that have ended, and of the driver host."""
    times = os.times()
    return read_seconds(bench.pid), times.children_user + times.children_system, read_seconds(bench.host.process.pid)


def _tasks(environment: Mapping[str, str], kind: str, options: argparse.Namespace, began: float) -> Iterator[int]:
    for number in range(options.tasks):
        # The arrivals are the input.
        time.sleep(max(0.0, began + number * options.seconds / options.tasks - time.monotonic()))
        yield _fork(environment, Task(PATTERN_OF[kind], calls=CALLS, hold=options.hold, map_index=number))


def _fork(environment: Mapping[str, str], task: Task) -> int:
    """Run a task in a forked process, which ends as Airflow's does; return its process id."""
    if pid := os.fork():
        return pid
    code = 1
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        os.environ.update(environment)
        code = int(run_task(task)["wrong"] > 0)
    except Exception as error:
        say(f"{task.pattern}: {error}")
    finally:
        os._exit(code)


def ask(server: Neo4jServer, rate: float, orders: Connection) -> None:
    """Send queries at a rate over one connection until the order "stop"; at "end", send back a turn's times in ms."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with server.driver() as driver, driver.session(database="neo4j") as session:
        began, number, waited, order = time.monotonic(), 0, cast("list[float]", []), ""
        while order != "stop":
            due = began + number / rate
            if orders.poll(max(0.0, due - time.monotonic())):
                order = orders.recv()
                if order == "end":
                    orders.send(waited)
                began, number, waited = time.monotonic(), 0, []
                continue
            session.run(ASKED).consume()
            waited.append((time.monotonic() - due) * 1000)
            number += 1


@contextmanager
def asking(server: Neo4jServer, rate: float) -> Iterator[tuple[int, Connection]]:
    """Start the steady client's process; yield its id, and the pipe for its orders."""
    forking = multiprocessing.get_context("fork")
    mine, theirs = forking.Pipe()
    process = forking.Process(target=ask, args=(server, rate, theirs), daemon=True)
    process.start()
    theirs.close()      # otherwise this process would not notice that the other one has ended
    try:
        yield cast("int", process.pid), mine
    finally:
        with suppress(BrokenPipeError):
            mine.send("stop")
        process.join(10)
        process.kill()
        process.join()


def listens_at(port: int) -> int:
    """Return the process that listens at a port of this machine. Raises BadInput if none is visible."""
    for process in psutil.process_iter():
        try:
            if any(one.status == psutil.CONN_LISTEN and one.laddr.port == port
                   for one in process.net_connections("tcp")):
                return process.pid
        except psutil.Error:
            continue
    raise BadInput(f"no process that you may look at listens at port {port} of this machine: nobody can tell how much "
                   "processor time it takes", "leave --uri out, and a Neo4j is started")


@contextmanager
def divided(neo4j: int, asker: int, host: int) -> Iterator[str | None]:
    """Give tasks and driver host one core, Neo4j and the steady client all others; restore this at the end.

    Yields a description of the division, or None if it is not possible.
    """
    cores = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
    if len(cores) < 2:
        yield None
        return
    *others, last = cores
    _keep_to(others, neo4j, asker)
    _keep_to([last], host, os.getpid())
    try:
        yield f"tasks and driver host on core {last}, Neo4j and the query on {', '.join(map(str, others))}"
    finally:
        _keep_to(cores, neo4j, asker, host, os.getpid())


def _keep_to(cores: Sequence[int], *pids: int) -> None:
    """Restrict all threads of the processes to these cores; later threads inherit this."""
    for pid in filter(psutil.pid_exists, pids):
        for thread in psutil.Process(pid).threads():
            with suppress(ProcessLookupError):      # it has ended meanwhile
                os.sched_setaffinity(thread.id, cores)


@contextmanager
def bench_for(options: argparse.Namespace) -> Iterator[tuple[Bench, str | None]]:
    """Start everything that a turn needs, and say how the cores are divided. Raises BadInput."""
    with ExitStack() as stack:
        server = stack.enter_context(neo4j_of(options))
        pid = listens_at(server.port)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        host = stack.enter_context(serving(folder, server.uri, server.auth, scope="shared"))
        asker, pipe = stack.enter_context(asking(server, options.rate))
        probe = stack.enter_context(closing(Probe(
            Server(server.uri, server.username, SecretStr(server.password), alone=True), interval=1)))
        cores = stack.enter_context(divided(pid, asker, host.process.pid))
        yield Bench(server, pid, host, probe, pipe), cores


def measure(bench: Bench, options: argparse.Namespace) -> list[Turn]:
    """Run a block that is not counted, to warm everything up, and then the blocks."""
    turns = []
    order = random.Random(options.seed)     # noqa: S311 - an order, not a secret
    for block in range(options.blocks + 1):
        for kind in order.sample(TURNS, len(TURNS)):
            _let_close(bench)
            turns.append(run_turn(bench, kind, block, options))
        say(f"block {block} of {options.blocks}" if block else "warmed up")
    return [turn for turn in turns if turn.block]


def _let_close(bench: Bench) -> None:
    """Wait until the server has closed the connections of the previous turn; the driver host keeps its own."""
    wait_until(lambda: not any(identity.parse(row.user_agent) for row in bench.probe.sample(0).rows),
               "the server has closed the tasks' connections")


def compared(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """Return each contrast in each figure: the ratio, its interval, and the conclusion that this allows."""
    level = intervals.corrected(len(COMPARED) * len(FIGURES))
    return [_contrast(turns, pair, figure, level) for pair in (*COMPARED, CONTROL) for figure in FIGURES]


def _contrast(turns: Sequence[Turn], pair: tuple[str, str], figure: str, level: float) -> dict[str, Any]:
    found = intervals.ratios(list(zip(*(_values(turns, kind, figure) for kind in pair), strict=True))) or []
    ends = intervals.of_ratio(found, level)
    return {"of": pair[0], "over": pair[1], "figure": figure, "level": round(level, 5), "blocks": found,
            "ratio": intervals.geometric_mean(found) if found else None, "interval": ends,
            "verdict": str(intervals.verdict_of_ratio(ends)) if ends else intervals.too_few(len(found), "blocks")}


def _values(turns: Sequence[Turn], kind: str, figure: str) -> list[float]:
    return [getattr(turn, figure) for turn in sorted(turns, key=lambda turn: turn.block) if turn.kind == kind]


def cost_of_an_opening(turns: Sequence[Turn]) -> dict[str, Any]:
    """Return the processor time that Neo4j spends on each connection that is opened, logged on and dropped, in ms.

    For each block, this is the extra time of ``problematic`` over ``shared``, which sends the same queries, divided by
    the number of extra connections.
    """
    pairs = zip(*(sorted((turn for turn in turns if turn.kind == kind), key=lambda turn: turn.block)
                  for kind in (PROBLEMATIC, SHARED)), strict=True)
    each = [(1000 * (many.neo4j_seconds - few.neo4j_seconds) / (many.opened - few.opened), 0.0) for many, few in pairs]
    return {"milliseconds": fmean(cost for cost, _ in each), "interval": intervals.of_difference(each, intervals.LEVEL)}


def table(turns: Sequence[Turn]) -> str:
    """Return a text table with the medians of each kind of turn."""
    heads = ("opened", "neo4j_seconds", "tasks_seconds", "host_seconds", "p50_ms", "p99_ms")
    lines = [f"{'medians of the blocks':24}" + "".join(f"{head.replace('_', ' '):>15}" for head in heads)]
    for kind in TURNS:
        values = [median(_values(turns, kind, head)) for head in heads]
        lines.append(f"{kind:24}" + "".join(f"{value:15,.3g}" for value in values))
    return "\n".join(lines)


def sentences(contrasts: Sequence[dict[str, Any]], cost: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each contrast, and one for the cost of an opening."""
    for one in contrasts:
        ratio = "no ratio" if one["ratio"] is None else f"{one['ratio']:.2f}"
        ends = f" ({one['interval'][0]:.2f} to {one['interval'][1]:.2f})" if one["interval"] else ""
        yield f"{FIGURES[one['figure']]:28} {one['of']} over {one['over']}: {ratio}{ends}: {one['verdict']}"
    ends = " ({:.2f} to {:.2f})".format(*cost["interval"]) if cost["interval"] else ""
    yield f"an opening costs Neo4j {cost['milliseconds']:.2f} ms of processor time{ends}"


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    """Read the options. A wrong one ends the program with one line and exit code 2."""
    made = parser(__doc__)
    made.add_argument("--blocks", type=whole(1), default=8, help="blocks that are counted; at least 6 for an interval "
                      "(default: %(default)s)")
    made.add_argument("--tasks", type=whole(1), default=100, help="tasks of a turn (default: %(default)s)")
    made.add_argument("--seconds", type=real(0.1), default=3.0,
                      help="over which a turn's tasks start (default: %(default)s)")
    made.add_argument("--hold", type=real(0), default=0.5,
                      help="seconds for which a task holds its driver after its calls (default: %(default)s)")
    made.add_argument("--rate", type=real(1), default=100.0, help="steady queries per second (default: %(default)s)")
    made.add_argument("--seed", type=int, default=1, help="seed of the order of the turns (default: %(default)s)")
    return made.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table and the contrasts, write the file."""
    options = options_of(arguments)
    began = time.time()
    try:
        with bench_for(options) as (bench, cores):
            turns = measure(bench, options)
    except RigError as error:
        say(str(error))
        return error.exit_code
    contrasts, cost = compared(turns), cost_of_an_opening(turns)
    print(table(turns), *sentences(contrasts, cost), sep="\n")
    write(options.out, {"conditions": conditions(began) | {"cores_divided": cores}, "seed": options.seed,
                        "turns": [turn._asdict() for turn in turns], "contrasts": contrasts, "opening": cost})
    return 0


if __name__ == "__main__":
    sys.exit(main())
