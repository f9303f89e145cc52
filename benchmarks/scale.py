"""Whether the rig and the shared driver cost more for each task if a DAG run has more tasks: 100, 1,000, 10,000.

Celery workers on several hosts, each with a shared driver for each pool process and with preloading, run the DAG of the
pattern `worker` (3 calls, no hold). Every DAG run is the first one of its scheduler and workers. Up to 200 tasks, it is
repeated after the larger ones too, which shows whether the stack gets slower with age::

    python -m benchmarks.scale --tasks 100,1000,10000 --hosts 3

The hosts are network namespaces on this machine (:mod:`benchmarks.spread`), which need Linux and root. They share its
processors. So the makespan says nothing about separate machines, but the counts and the cost of a task do. RIG_SLOTS is
the number of slots of all hosts together.

The tables have the medians of the repeats. The cost of a task is in processor milliseconds, from the start of the DAG
run to its end. "Afterwards" is what the rig does then: it reads every task's row from Airflow, writes the raw files,
and makes the summary and the report. The last columns divide the cost of a task by that in the smallest DAG run. If the
result is 1 or less, the cost of the whole DAG run grows linearly or more slowly.
"""

import argparse
import functools
import os
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, cast

from benchmarks.common import conditions, errors_in_one_line, read_pss
from benchmarks.on_airflow import console, keep, on_a_stack, run_dag
from benchmarks.spread import SpreadStack, divided, require_namespaces
from patterns.facts import DAG_OF_PATTERN, MONITOR_DAG, MOST_TASKS
from rig import environment, records, report
from rig import settings as settings_module
from rig.airflow_api import AirflowApi
from rig.errors import INTERRUPTED, RigError
from rig.experiment.dag_run import CellRunner
from rig.metrics import load
from rig.metrics.figures import figures
from rig.metrics.outcome import succeeded, wrong
from rig.metrics.raw import Repeat
from rig.plural import plural
from rig.probe import Probe, Server, machine
from rig.progress_view import ProgressView
from rig.records import Cell, DagRunRecord, MachineShare, PlannedRun, RunRecord
from rig.settings import Settings
from rig.stack import neo4j
from rig.stack.airflow import WORKER
from rig.stack.interface import OnStep
from rig.stack.native import NativeStack
from worker_init.arguments import whole
from worker_init.control import find_folders, read_status

NAME = "scale"
TASKS, HOSTS, CALLS = "100,1000,10000", 3, 3
REPEATED = 200          # DAG runs of at most so many tasks are cheap enough to be repeated
SECONDS_OF_A_TASK = 3.0     # of a DAG run, at the very most: then it counts as hanging
MOST_REPEATS = 100
SAID_EVERY = 15.0       # seconds between two lines of progress
LOOKED_EVERY = 2.0      # seconds between two looks at the memory
STATUS_SECONDS = 5.0
GROWN = 1.25            # the ratio from which a cost counts as grown: repeats of 100 tasks differ by less
RIG, HOPS, DRIVERS = machine.PROBE, "hops", machine.DRIVER_HOST

NAMES = {
    RIG: "rig, with its probe", DRIVERS: "driver hosts, with their relays", "tasks": "task processes",
    WORKER: "Celery workers", "airflow-scheduler": "scheduler", "airflow-apiserver": "API server",
    "airflow-dag-processor": "DAG processor", "neo4j": "Neo4j", "postgres": "Postgres", "redis": "Redis",
    "flower": "Flower", HOPS: "hops between the hosts"}
JUDGED = (RIG, DRIVERS, "neo4j", "reading", "report", "raw")
COSTS = {**NAMES, "reading": "afterwards: rig, reading the rows",
         "reading_api": "afterwards: API server, giving the rows", "report": "afterwards: rig, summary and report",
         "raw": "raw files, bytes"}


@dataclass(frozen=True)
class Run:
    """One DAG run. Seconds are wall-clock seconds, except those in ``spent``: processor seconds, by service.

    ``spent`` also has ``reading`` (of the rig), ``reading_api`` (of the API server) and ``report``, for what comes
    after the DAG run. ``peaks`` are in megabytes (PSS); ``per_host`` is how many tasks ran on each host.
    """

    tasks: int
    state: str
    succeeded: int
    wrong: int
    makespan: float | None
    opened: int | None
    opened_exact: bool
    left_open: int
    per_host: dict[str, int]
    spent: dict[str, float]
    peaks: dict[str, float]
    reading_seconds: float
    report_seconds: float
    raw_bytes: int
    page_bytes: int

    def cost(self, of: str) -> float:
        """Return what a task costs: processor milliseconds, or bytes of the raw files."""
        return self.raw_bytes / self.tasks if of == "raw" else 1000 * self.spent.get(of, 0.0) / self.tasks


Text = Callable[[Sequence[Run]], str]


class Memory(threading.Thread):
    """Notes the highest memory (PSS, megabytes) of some processes until it is stopped."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        super().__init__(name="memory", daemon=True)
        self.peaks = dict.fromkeys(pids, 0.0)
        self._pids = pids
        self._ended = threading.Event()

    def run(self) -> None:
        """Look until :meth:`stop`."""
        self._look()
        while not self._ended.wait(LOOKED_EVERY):
            self._look()

    def stop(self) -> None:
        """Look once more, and never again."""
        self._ended.set()
        self.join()
        self._look()

    def _look(self) -> None:
        for name, pid in self._pids.items():
            with suppress(OSError):     # it has ended
                self.peaks[name] = max(self.peaks[name], round(read_pss(pid), 1))


@dataclass(frozen=True)
class Bench:
    """What a DAG run needs."""

    stack: SpreadStack
    api: AirflowApi
    probe: Probe
    folder: Path
    view: ProgressView
    environment: dict[str, Any]

    def run(self, planned: PlannedRun) -> Run:
        """Run the DAG once on a scheduler and workers that have just started. Raises RigError if it did not end."""
        self.stack.restart_executor()
        folder = self.folder / f"{planned.index}-{planned.cell.tasks}"
        folder.mkdir(parents=True)
        asked = self._record(planned)
        records.write_run(folder, asked)
        self.view.started(planned)
        with self._memory() as memory:
            before = self._look()
            record = CellRunner(self.stack, self.api, self.probe, folder, self.view, observe=0.0).run(planned)
            ended, raw_bytes = self._look(), _bytes_of(folder)
            records.write_run(folder, asked.model_copy(update={"status": "complete", "ended_at": time.time()}))
            page = report.write(folder)
            reported = self._look()
        if record.machine is None:
            raise RigError(f"the DAG run of {planned.cell.tasks} tasks did not end: {record.state}: {record.reason}")
        repeat = load(folder).repeats[0]
        return Run(
            planned.cell.tasks, record.state, succeeded(repeat), wrong(repeat), _makespan(repeat), record.opened,
            record.opened_exact, len(repeat.samples[-1].open) if repeat.samples else 0,
            dict(sorted(Counter(task.hostname or "unknown" for task in repeat.tasks).items())),
            spent(record, machine.between(before, ended), machine.between(ended, reported)), memory.peaks,
            round(ended.t - record.started_at - record.machine.seconds, 2), round(reported.t - ended.t, 2), raw_bytes,
            page.stat().st_size)

    def _look(self) -> machine.Look:
        return machine.look({name: service.process.pid for name, service in self.stack.state().services.items()})

    @contextmanager
    def _memory(self) -> Iterator[Memory]:
        hosts = [read_status(folder, STATUS_SECONDS) for folder in find_folders(self.stack.state().drivers_dir)]
        memory = Memory({RIG: os.getpid(), **{f"driver host {number}": int(host["pid"])
                                              for number, host in enumerate(hosts, 1)}})
        memory.start()
        try:
            yield memory
        finally:
            memory.stop()

    def _record(self, planned: PlannedRun) -> RunRecord:
        return RunRecord(
            run=f"{NAME}-{planned.index}", profile=NAME, seed=0, slots=self.stack.state().slots, repeats=1,
            command=" ".join(sys.argv), status="running", started_at=time.time(), environment=self.environment,
            plan=[planned])


def spent(record: DagRunRecord, whole: MachineShare, reporting: MachineShare) -> dict[str, float]:
    """Return processor seconds by service, those of several workers and hops in one.

    ``whole`` is from before the DAG run until its rows are written, so the rest of it is the reading.
    """
    during = _by_service(record.machine.cpu_seconds if record.machine else None)
    until_read, report_seconds = _by_service(whole.cpu_seconds), _by_service(reporting.cpu_seconds)
    api = "airflow-apiserver"
    return during | {"reading": _rest(until_read, during, RIG), "reading_api": _rest(until_read, during, api),
                     "report": round(report_seconds.get(RIG, 0.0), 2)}


def _rest(whole: Mapping[str, float], part: Mapping[str, float], service: str) -> float:
    return round(whole.get(service, 0.0) - part.get(service, 0.0), 2)


def _by_service(seconds: Mapping[str, float] | None) -> dict[str, float]:
    """Return the seconds of each service. A service that belongs to one host is added to that of the others."""
    found: defaultdict[str, float] = defaultdict(float)
    for name, value in (seconds or {}).items():
        found[next((common for common in (WORKER, HOPS) if name.startswith(f"{common}-")), name)] += value
    return {name: round(value, 2) for name, value in found.items()}


def _bytes_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.jsonl"))


def _makespan(repeat: Repeat) -> float | None:
    return figures(repeat)["makespan_seconds"].value


def plan(tasks: Sequence[int], repeats: int) -> list[PlannedRun]:
    """Return the DAG runs: every number of tasks once, smallest first; then the small ones again."""
    numbers = [number for block in range(repeats) for number in sorted(tasks) if not block or number <= REPEATED]
    cell = Cell(executor="CeleryExecutor", pattern="worker", relay="process", tasks=1, calls=CALLS, hold=0.0,
                preload=True)
    return [PlannedRun(index=index, block=0, cell=cell.model_copy(update={"tasks": number}))
            for index, number in enumerate(numbers)]


def table(runs: Sequence[Run]) -> str:
    """Return two Markdown tables: what came out, and what a task costs in DAG runs of each size."""
    by_size = {size: [run for run in runs if run.tasks == size] for size in sorted({run.tasks for run in runs})}
    heads = [f"{size:,} tasks" for size in by_size]
    outcome = [[name, *(text(of) for of in by_size.values())] for name, text in _OUTCOMES.items()]
    found = {of: [median(run.cost(of) for run in of_size) for of_size in by_size.values()] for of in COSTS}
    costs = [[COSTS[of], *(f"{value:,.1f}" for value in values),
              *(_times(value, values[0]) for value in values[1:])] for of, values in found.items() if any(values)]
    ratios = [f"{head} over {heads[0]}" for head in heads[1:]]
    return "\n".join([*_markdown(["DAG runs of", *heads], outcome), "",
                      *_markdown(["processor ms for each task", *heads, *ratios], costs)])


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for row in [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows]:
        yield f"| {' | '.join(row)} |"


def _times(value: float, base: float) -> str:
    return f"{value / base:.2f}" if base else "-"


def _median_of(name: str, digits: int) -> Text:
    def text(runs: Sequence[Run]) -> str:
        known = [value for run in runs if (value := getattr(run, name)) is not None]
        return f"{median(known):,.{digits}f}" if known else "not known"
    return text


def _opened(run: Run) -> str:
    return "not known" if run.opened is None else f"{'' if run.opened_exact else 'at least '}{run.opened}"


def _peak(name: str) -> Text:
    return lambda runs: f"{max(mb for run in runs for key, mb in run.peaks.items() if key.startswith(name)):.0f}"


_OUTCOMES: Mapping[str, Text] = {
    "repeats": lambda runs: str(len(runs)),
    "tasks that succeeded": lambda runs: " / ".join(f"{run.succeeded:,}" for run in runs),
    "tasks with a wrong answer": lambda runs: f"{sum(run.wrong for run in runs):,}",
    "tasks on each host": lambda runs: " / ".join(f"{count:,}" for count in runs[0].per_host.values()),
    "makespan, s": _median_of("makespan", 1),
    "connections opened": lambda runs: " / ".join(map(_opened, runs)),
    "connections open at the end": lambda runs: " / ".join(str(run.left_open) for run in runs),
    "rig, peak memory, MB": _peak(RIG),
    "largest driver host, peak memory, MB": _peak("driver host"),
    "afterwards: reading the rows, s": _median_of("reading_seconds", 1),
    "afterwards: summary and report, s": _median_of("report_seconds", 2),
    "report, kB": lambda runs: f"{median(run.page_bytes for run in runs) / 1000:,.0f}",
}


def verdict(runs: Sequence[Run]) -> str:
    """Return a sentence: what of the rig and the shared driver costs more for each task in the largest DAG run."""
    sizes = sorted({run.tasks for run in runs})
    if len(sizes) < 2:
        return "one number of tasks: nothing can be said about growth"
    least, most = ([run for run in runs if run.tasks == size] for size in (sizes[0], sizes[-1]))
    found = {of: median(run.cost(of) for run in most) / base for of in JUDGED
             if (base := median(run.cost(of) for run in least))}
    grown = [f"{COSTS[of]} ({ratio:.2f} times)" for of, ratio in found.items() if ratio > GROWN]
    whole = f"from {sizes[0]:,} to {sizes[-1]:,} tasks"
    if not grown:
        return f"{whole}, nothing of the rig, the driver hosts and Neo4j costs over {GROWN - 1:.0%} more for each task"
    return f"{whole}, these cost more for each task: {', '.join(grown)}"


def measure(stack: NativeStack, config: Settings, options: argparse.Namespace) -> None:
    """Run every DAG run; after each, write what there is to a file. Then print the tables."""
    spread, state, began = cast("SpreadStack", stack), stack.state(), time.time()
    planned = plan(options.tasks, options.repeats)
    folder = config.data_dir / "benchmarks" / f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(began))}-{NAME}"
    runs: list[Run] = []
    server = Server(state.neo4j_uri, state.neo4j_username, state.secrets.neo4j, alone=state.own_neo4j)
    described = environment.describe(
        neo4j.require(state.neo4j_uri, state.neo4j_username, state.secrets.neo4j.get_secret_value(),
                      state.neo4j_database), stack.versions(), own_neo4j=state.own_neo4j, tapped=False)
    with stack.api(state) as api, closing(Probe(server, config.sample_interval)) as probe, \
            ProgressView(console, state.slots, said_every=SAID_EVERY) as view, api.paused(MONITOR_DAG, True):
        view.note("warming up: one DAG run that is not counted")
        warm_up(stack, api)
        view.planned(planned)
        bench = Bench(spread, api, probe, folder, view, described)
        for one in planned:
            runs.append(bench.run(one))
            keep(config, NAME, {"conditions": conditions(began), "hosts": options.hosts, "slots": state.slots,
                                "calls": CALLS, "runs": [asdict(run) for run in runs]})
    print(table(runs))
    print(f"\n{verdict(runs)}")


def warm_up(stack: NativeStack, api: AirflowApi) -> None:
    """Run the DAG once, with a task for each slot: a stack's first DAG run differs. Raises RigError if it fails."""
    dag_id = DAG_OF_PATTERN["worker"]
    with api.paused(dag_id, False):
        run_dag(stack, api, dag_id, {"tasks": stack.state().slots, "calls": 1, "hold": 0})


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    """Read the options. Raises BadInput if there are more hosts than slots, or if none can be made here."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=_numbers, default=TASKS, metavar="N,N,…",
                        help=f"numbers of tasks, each 1 to {MOST_TASKS:,} (default: %(default)s)")
    parser.add_argument("--hosts", type=whole(1), default=HOSTS, metavar="N",
                        help="workers, each on its own host (default: %(default)s)")
    parser.add_argument("--repeats", type=whole(1, MOST_REPEATS), default=3, metavar="N",
                        help=f"DAG runs of each number of tasks up to {REPEATED} (default: %(default)s)")
    options = parser.parse_args(arguments)
    options.slots = divided(settings_module.load().slots, options.hosts)
    require_namespaces()
    return options


def _numbers(text: str) -> list[int]:
    number = whole(1, MOST_TASKS)
    return sorted({number(one) for one in text.split(",")})


def main(arguments: list[str] | None = None) -> int:
    """Start a stack with its workers on the hosts, measure, and stop everything."""
    with errors_in_one_line():
        options = options_of(arguments)
    console.print(f"{plural(options.hosts, 'host')} with {' + '.join(map(str, options.slots))} slots", style="dim")
    try:
        return on_a_stack(NAME, lambda stack, config: measure(stack, config, options),
                          kind=functools.partial(_stack, options), relay="process")
    except KeyboardInterrupt:
        console.print(f"benchmarks/{NAME}: stopped by the user; everything that it started has ended", style="red")
        return INTERRUPTED


def _stack(options: argparse.Namespace, config: Settings, on_step: OnStep) -> SpreadStack:
    """Return the stack, with enough time for its largest DAG run."""
    seconds = max(config.run_timeout, SECONDS_OF_A_TASK * max(options.tasks))
    return SpreadStack(config.model_copy(update={"run_timeout": seconds}), on_step, slots=options.slots)


if __name__ == "__main__":
    sys.exit(main())
