"""The one process of a test that sees everything: it watches the deployment, decides when the test is over, and writes.

Without ``--processes`` that is the only process there is.
"""

import csv
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
from locust.env import Environment
from locust.html import get_html_report
from locust.runners import MasterRunner
from locust.stats import PERCENTILES_TO_REPORT, StatsCSV

from loadtest.process import CONNECTIONS
from loadtest.target import Target
from loadtest.watch import EVERY, Share, Tally, Watcher
from rig import records, runs
from rig.clock import ClockWatch
from rig.load import schedule, summary
from rig.load.figures import LEFT_SECONDS, counted, opened_by_run
from rig.load.records import Deployment, Load, LoadRun, LoadSample, LoadTestRecord, Thresholds
from rig.load.schedule import stages_of
from rig.records import LOAD_FILE, LOAD_RUNS_FILE, SERIES_FILE
from rig.whole_file import write_whole

KEPT = 7200             # samples for the page: two hours
UNHEARD = 10.0          # seconds of silence after which a process counts as ended


class LoadTest:
    """One test, from its start to its folder."""

    def __init__(self, environment: Environment, load: Load, thresholds: Thresholds, target: Target, results: Path, *,
                 started_at: float, processes: int) -> None:
        self.folder = runs.new_folder(results, "load")
        self.load, self.started_at = load, started_at
        self.runs: list[LoadRun] = []
        self.triggered = 0
        self.series: list[LoadSample] = []
        self.over_since: float | None = None
        self.is_complete = False
        self._environment = environment
        self._missing_before = self._missing()
        self._lost: set[str] = set()
        self._share = Share()
        self._clock = ClockWatch()
        self._reports: dict[str, tuple[float, dict[str, Any]]] = {}
        self._record = LoadTestRecord(
            run=self.folder.name, status="running", started_at=started_at, load=load, thresholds=thresholds,
            processes=processes, deployment=Deployment(
                airflow=target.airflow, executor=target.executor, relay=target.relay,
                own_neo4j=target.neo4j.alone if target.neo4j else None))
        self._write()

    @property
    def failed(self) -> int:
        """How many DAG runs have failed so far."""
        return sum(run.failed for run in self.runs)

    @property
    def polls_per_run(self) -> float | None:
        """How many requests followed the DAG runs, for each one that has ended."""
        return self._record.polls / len(self.runs) if self.runs else None

    @property
    def share(self) -> float:
        """The share of the machine that this process and its children use, 0 to 1."""
        return self._share.now()

    def absorb(self, who: str, report: dict[str, Any]) -> None:
        """Add the report of a process."""
        self._reports[who] = time.time(), report
        new = [LoadRun.model_validate(run) for run in report["runs"]]
        self.runs += new
        self.triggered += report["triggered"]
        self._record = self._record.model_copy(update={
            "polls": self._record.polls + report["polls"],
            "poll_seconds": self._record.poll_seconds + report["poll_seconds"]})
        records.append(self.folder / LOAD_RUNS_FILE, new)
        succeeded = [run for run in new if run.state == "success"]
        series = counted(self.series) if succeeded else []      # beside others it is a copy
        for run in succeeded:
            if (opened := opened_by_run(run, series)) is not None:
                self._environment.events.request.fire(
                    request_type="Neo4j", name=CONNECTIONS, response_time=opened, response_length=0, response=None,
                    context={}, exception=None)

    def add(self, sample: LoadSample) -> None:
        """Add a sample."""
        self._heed_missing()
        self._clock.step()      # also where it is set back before the test has ended
        self.series.append(sample)
        records.append(self.folder / SERIES_FILE, [sample])

    def _heed_missing(self) -> None:
        """Note processes that have gone silent; Locust itself continues without them."""
        self._lost |= self._missing() - self._missing_before

    def all_landed(self) -> bool:
        """Return whether no process has anything in flight or to come, by reports later than the last arrival."""
        if not self._reports or time.time() < self.started_at + 1:
            return False
        silent = time.time() - UNHEARD
        return all(report["over"] and not report["in_flight"] for at, report in self._reports.values() if at > silent)

    def queue_grows(self) -> bool:
        """Return whether a step of find-the-knee has ended without holding."""
        if self.load.shape != schedule.KNEE:
            return False
        steps = summary.steps_of(self._record, self.runs, time.time())
        return bool(steps) and not steps[-1].holds

    def close(self) -> dict[str, Any]:
        """Write what remains to be written; return the summary."""
        self._heed_missing()
        self._record = self._record.model_copy(update={
            "status": "complete" if self.is_complete else "interrupted", "ended_at": time.time(),
            "share": self._share.now(), "lost_processes": len(self._lost), "clock_step": self._clock.step()})
        self._write()
        _write_locusts_own(self._environment, self.folder)
        found = summary.summarise(self.folder)
        summary.write(self.folder, found)
        return found

    def _missing(self) -> set[str]:
        runner = self._environment.runner
        return {client.id for client in runner.clients.missing} if isinstance(runner, MasterRunner) else set()

    def _write(self) -> None:
        write_whole(self.folder / LOAD_FILE, self._record.model_dump_json(indent=2) + "\n")


class Master:
    """Watches for as long as the process lives, and runs one test after the other."""

    def __init__(self, environment: Environment, watcher: Watcher) -> None:
        self.test: LoadTest | None = None
        self.live: deque[LoadSample] = deque(maxlen=KEPT)
        self.ended: deque[LoadRun] = deque(maxlen=KEPT)
        self.summary: dict[str, Any] | None = None
        self.watcher = watcher
        self._tally = Tally()
        self.on_no_more: Callable[[], None] = lambda: None      # stops further arrivals of DAG runs, in every process
        self.report: Callable[[], dict[str, Any]] | None = None         # of the process's own users, if it has any
        self._environment = environment
        self._parent = os.getppid()

    @property
    def deployment(self) -> str:
        """The deployment that is watched, for the head of the page."""
        return self.watcher.target.executor or self.watcher.target.airflow

    @property
    def has_lost_some(self) -> bool:
        """Whether processes of the last test ended in the middle of it."""
        return bool(self.summary and self.summary["lost_processes"])

    def begin(self, target: Target, load: Load, thresholds: Thresholds, results: Path, *, started_at: float,
              processes: int) -> None:
        """Begin a test."""
        self.summary, self._tally = None, Tally()
        self.watcher.begin(target, load.pattern)
        self.test = LoadTest(self._environment, load, thresholds, target, results, started_at=started_at,
                             processes=processes)

    def end(self) -> None:
        """End the present test, finished or not."""
        if self.test is None:
            return
        if self.report is not None:
            self.absorb("local", self.report())
        test, self.test, self.report = self.test, None, None
        self.summary = test.close()

    def absorb(self, who: str, report: dict[str, Any]) -> None:
        """Add the report of a process."""
        if self.test is not None:
            known = len(self.test.runs)
            self.test.absorb(who, report)
            self.ended.extend(self.test.runs[known:])

    def live_on(self) -> None:
        """Look once a second, forever."""
        while True:
            self.watcher.look()
            self._tick()

    def _tick(self) -> None:
        if self.report is not None:
            self.absorb("local", self.report())
        sample = self._sample()
        self.live.append(sample)
        if self.test is not None:
            self.test.add(sample)
            self._steer(self.test)
        if os.getppid() != self._parent:        # our parent is gone, and nobody else would end this process
            gevent.spawn(self._environment.runner.quit)         # type: ignore[union-attr]

    def _steer(self, test: LoadTest) -> None:
        if test.queue_grows():
            self.on_no_more()
        if not test.all_landed():
            test.over_since = None
            return
        test.over_since = test.over_since or time.time()
        if not test.is_complete and time.time() - test.over_since > LEFT_SECONDS + EVERY:
            test.is_complete = True
            gevent.spawn(self._finish)      # not here: the runner ends the greenlets that it knows

    def _finish(self) -> None:
        runner = self._environment.runner
        options = self._environment.parsed_options
        if runner is not None and options is not None:
            (runner.quit if options.headless else runner.stop)()

    def _sample(self) -> LoadSample:
        seen, test = self.watcher.seen, self.test
        look, states = seen.look, seen.states
        return LoadSample(
            t=look.t if look else time.time(), trouble=seen.trouble, workers=seen.workers, resources=seen.resources,
            **(self._tally.of(look) if look else {}),
            runs_queued=None if states is None else states.get("queued", 0),
            runs_running=None if states is None else states.get("running", 0), **_of_test(test))


def _of_test(test: LoadTest | None) -> dict[str, Any]:
    if test is None:
        return {"elapsed": 0.0, "rate": 0.0, "triggered": 0, "ended": 0, "failed": 0}
    elapsed = time.time() - test.started_at
    rate = schedule.rate_at(stages_of(test.load), elapsed) if test.load.users is None else 0.0
    return {"elapsed": elapsed, "rate": rate, "triggered": test.triggered, "ended": len(test.runs),
            "failed": test.failed}


def _write_locusts_own(environment: Environment, folder: Path) -> None:
    """Write what Locust's own buttons download."""
    writer = StatsCSV(environment, PERCENTILES_TO_REPORT)
    for name, write in {"requests": writer.requests_csv, "failures": writer.failures_csv,
                        "exceptions": writer.exceptions_csv}.items():
        with (folder / f"locust_{name}.csv").open("w", encoding="utf-8", newline="") as file:
            write(csv.writer(file))
    (folder / "locust.html").write_text(get_html_report(environment, show_download_link=False), encoding="utf-8")
