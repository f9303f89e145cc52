"""DAG runs from the time they are due to their end, and the requests that this takes.

One greenlet of a process follows all of its runs. A poll asks, in one request for any number of runs, which of them
have ended since the last poll. The interval grows while nothing ends. It does not affect the measurements: the times of
a run are Airflow's own, and only their differences are used, so that the two clocks may differ.
"""

import itertools
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import gevent
from gevent.event import AsyncResult

from loadtest.options import conf_of
from loadtest.target import Target
from patterns.facts import QUERY_TASK, STRESS_DAG
from rig.airflow_api import AirflowApi, ApiError
from rig.load.records import NOT_STARTED, Load, LoadRun
from rig.percentile import percentile_or_none, tail

SHORTEST, LONGEST, GROWTH = 0.5, 4.0, 1.5       # of the interval between polls: seconds, seconds, factor


class Listener(Protocol):
    """Receives the results of the DAG runs."""

    def triggered(self, seconds: float, error: str | None) -> None:
        """Note that Airflow has answered a call that starts a run, ``seconds`` after it was due."""

    def ended(self, run: LoadRun) -> None:
        """Note that a run is over, whatever its result."""


@dataclass
class Flight:
    """A run that has been started and has not ended."""

    run_id: str
    due: float
    late: float
    trigger: float
    over: "AsyncResult[LoadRun]" = field(default_factory=AsyncResult)

    def record(self, state: Any, reason: str | None = None, **more: Any) -> LoadRun:
        """Return the record of the run."""
        return LoadRun(run_id=self.run_id, due=self.due, late=self.late, trigger=self.trigger, state=state,
                       reason=reason, **more)


class Follower:
    """Follows the DAG runs of one process."""

    def __init__(self, target: Target, load: Load, process: int, listener: Listener) -> None:
        # Two clients, so that the polls can be counted separately.
        self._api, self._polling = target.api(), target.api()
        self._load, self._listener = load, listener
        self._prefix = f"{load.tag}-{process}-"
        self._numbers = itertools.count()
        self._flights: dict[str, Flight] = {}
        self._since: str | None = None
        self._poller: gevent.Greenlet | None = None
        self.polls = 0
        self.poll_seconds = 0.0
        self.calls_in_progress = 0

    @property
    def in_flight(self) -> int:
        """How many runs have not ended, including those whose start Airflow has not answered yet."""
        return len(self._flights) + self.calls_in_progress

    def start(self) -> None:
        """Begin to follow."""
        self._poller = gevent.spawn(self._poll_on)

    def stop(self, reason: str) -> None:
        """Give up what is in flight: record it as interrupted, and end it in Airflow if possible."""
        if self._poller:
            self._poller.kill()
        for flight in list(self._flights.values()):
            self._end(flight.record("interrupted", reason))
            self._abandon(flight)
        self._api.close()
        self._polling.close()

    def fly(self, due: float) -> LoadRun:
        """Start a run that is due (epoch, s) and return its record once it is over."""
        self.calls_in_progress += 1
        late, run_id = max(0.0, time.time() - due), f"{self._prefix}{next(self._numbers)}"
        try:
            self._api.trigger(STRESS_DAG, conf_of(self._load), run_id)
        except ApiError as error:
            return self._not_started(run_id, due, late, error)
        finally:
            self.calls_in_progress -= 1
        seconds = time.time() - due
        self._listener.triggered(seconds, None)
        flight = self._flights[run_id] = Flight(run_id, due, late, seconds)
        over: LoadRun = flight.over.get()
        return over

    def _not_started(self, run_id: str, due: float, late: float, error: ApiError) -> LoadRun:
        self._listener.triggered(time.time() - due, error.what)
        record = LoadRun(run_id=run_id, due=due, late=late, state=NOT_STARTED, reason=f"not started: {error.what}")
        self._listener.ended(record)
        return record

    def _poll_on(self) -> None:
        wait = SHORTEST
        while True:
            gevent.sleep(wait)
            wait = SHORTEST if self._flights and self._poll() else min(LONGEST, wait * GROWTH)
            self._end_those_over_their_limit()

    def _poll(self) -> bool:
        """Ask once for all runs that ended; return whether any did. If the API does not answer, it asks later."""
        begun = time.perf_counter()
        before = self._polling.requests
        try:
            ended = [run for run in self._polling.ended_runs(STRESS_DAG, self._prefix, self._since)
                     if run["dag_run_id"] in self._flights]
            tasks = self._tasks([run["dag_run_id"] for run in ended])
        except ApiError:
            return False
        finally:
            self.polls += self._polling.requests - before
            self.poll_seconds += time.perf_counter() - begun
        for run in ended:
            self._since = max(self._since or "", run["end_date"])
            self._end(settled(self._flights[run["dag_run_id"]], run, tasks.get(run["dag_run_id"], [])))
        return bool(ended)

    def _tasks(self, run_ids: list[str]) -> dict[str, list[dict[str, Any]]]:
        tasks = self._polling.instances_of(STRESS_DAG, run_ids, QUERY_TASK) if run_ids else []
        by_run = itertools.groupby(sorted(tasks, key=_run_id), key=_run_id)
        return {run_id: list(group) for run_id, group in by_run}

    def _end_those_over_their_limit(self) -> None:
        limit = self._load.run_limit
        for flight in [one for one in self._flights.values() if time.time() - one.due > limit]:
            self._end(flight.record("unfinished", f"not finished within its limit of {limit:g} s"))
            self._abandon(flight)

    def _end(self, run: LoadRun) -> None:
        flight = self._flights.pop(run.run_id)
        self._listener.ended(run)
        flight.over.set(run)

    def _abandon(self, flight: Flight) -> None:
        try:
            self._api.fail_run(STRESS_DAG, flight.run_id)
        except ApiError:        # gone, or ended meanwhile: nothing else can be done about it
            return


def settled(flight: Flight, run: dict[str, Any], tasks: Iterable[dict[str, Any]]) -> LoadRun:
    """Return the line of a run that Airflow says has ended, with the instances of its workload's tasks.

    Airflow records a run before it answers the call that starts it. So the time between the two, a few milliseconds, is
    counted twice, and never left out.
    """
    mapped = [task for task in tasks if task["map_index"] >= 0]
    queued_at = AirflowApi.seconds(run["queued_at"])

    def since_due(moment: float | None) -> float | None:
        return None if moment is None or queued_at is None else flight.trigger + moment - queued_at
    starts = [start for task in mapped if (start := AirflowApi.seconds(task["start_date"])) is not None]
    took = [float(task["duration"]) for task in mapped if task["state"] == "success" and task["duration"] is not None]
    succeeded = sum(task["state"] == "success" for task in mapped)
    ok = run["state"] == "success"
    return flight.record(
        "success" if ok else "failed",
        None if ok else _why_failed(len(mapped), succeeded),
        queued=since_due(min(starts, default=None)), run=since_due(AirflowApi.seconds(run["end_date"])),
        task_median=percentile_or_none(took, 50), task_tail=tail(took, 95), tasks_succeeded=succeeded)


def _why_failed(tasks: int, succeeded: int) -> str:
    if not tasks:
        return "the DAG run failed before its tasks were made"
    return f"the DAG run failed: {tasks - succeeded} of {tasks} tasks did not succeed"


def _run_id(task: dict[str, Any]) -> str:
    return str(task["dag_run_id"])
