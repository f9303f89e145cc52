"""The work of each process in a load test: DAG runs when they are due, their entries in Locust, and its reports."""

import time
from collections.abc import Iterator
from typing import Any

import gevent
from gevent.pool import Group
from locust.env import Environment

from loadtest.follow import Follower
from loadtest.target import Target
from rig.errors import RigError
from rig.load import schedule
from rig.load.records import NOT_STARTED, Load, LoadRun
from rig.load.schedule import stages_of
from rig.percentile import tail_name

NAP = 0.5               # seconds before a user that has nothing to do looks again
CONNECTIONS = "connections opened"


class RunFailed(RigError):
    """A DAG run that did not succeed. The text says why, and is the same for the same reason."""


class Process:
    """The DAG runs of one process of a test. It passes their results to Locust and to the master.

    Open arrivals have their own clock. With the closed model, the process's users take turns.
    """

    def __init__(self, environment: Environment, target: Target, load: Load, started_at: float, *,
                 process: int, processes: int) -> None:
        self._environment = environment
        self._load = load
        self._tail = tail_name(load.tasks, 95)
        self._started_at = started_at
        self._arrivals: Iterator[float] = schedule.share(stages_of(load), process, processes, load.seed)
        self._follower = Follower(target, load, process, self)
        self._in_the_air = Group()
        self._runs: list[LoadRun] = []
        self._triggered = 0
        self._no_more = False
        self._follower.start()
        # Not the users' work: Locust may give a process no users, and its arrivals are still due.
        self._clock = gevent.spawn(self._arrive) if load.users is None else None

    def turn(self) -> None:
        """Do one user's work for one turn: with the closed model, a DAG run to its end."""
        if self._load.users is None or self._over():
            gevent.sleep(NAP)
        elif self._follower.fly(time.time()).state == NOT_STARTED:
            gevent.sleep(NAP)       # an API that is gone refuses at once, hundreds of times a second

    def no_more(self) -> None:
        """Let no more DAG runs arrive; those in flight continue."""
        self._no_more = True

    def stop(self, reason: str) -> None:
        """Give up what is in flight."""
        self._no_more = True
        if self._clock is not None:
            self._clock.kill()
        self._in_the_air.kill(block=False)
        self._follower.stop(reason)

    def report(self) -> dict[str, Any]:
        """Return what has happened since the last report, and what is in flight now."""
        follower, runs = self._follower, self._runs
        self._runs = []
        triggered, self._triggered = self._triggered, 0
        polls, follower.polls = follower.polls, 0
        poll_seconds, follower.poll_seconds = follower.poll_seconds, 0.0
        return {"runs": [run.model_dump() for run in runs], "triggered": triggered, "polls": polls,
                "poll_seconds": poll_seconds, "in_flight": follower.in_flight + len(self._in_the_air),
                "over": self._over()}

    # --- what becomes of the runs: the follower says it ---------------------------------------------

    def triggered(self, seconds: float, error: str | None) -> None:
        """Make Locust count the call that starts a run."""
        self._triggered += 1
        self._fire("POST", "trigger", seconds, error)

    def ended(self, run: LoadRun) -> None:
        """Make Locust count a run that is over."""
        self._runs.append(run)
        if run.state == "interrupted":
            return
        if run.queued is not None:
            self._fire("DAG run", "queued", run.queued)
        self._fire("DAG run", "run", run.run if run.run is not None else time.time() - run.due,
                   run.reason if run.failed else None)
        for name, seconds in (("task p50", run.task_median), (f"task {self._tail}", run.task_tail)):
            if seconds is not None:
                self._fire("task", name, seconds)

    # --- parts --------------------------------------------------------------------------------------

    def _arrive(self) -> None:
        for moment in self._arrivals:
            gevent.sleep(max(0.0, self._started_at + moment - time.time()))
            if self._no_more:
                return
            self._in_the_air.spawn(self._follower.fly, self._started_at + moment)
        self._no_more = True

    def _over(self) -> bool:
        return self._no_more or time.time() > self._started_at + self._load.seconds

    def _fire(self, kind: str, name: str, seconds: float, error: str | None = None) -> None:
        self._environment.events.request.fire(
            request_type=kind, name=name, response_time=seconds * 1000, response_length=0, response=None, context={},
            exception=None if error is None else RunFailed(error))
