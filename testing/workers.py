"""Real Celery workers, whose app is :mod:`testing.celery_app`."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from celery import Celery

from testing.programs import running_program
from testing.servers import Neo4jServer
from testing.waiting import LIMIT, wait_until

_APP = "testing.celery_app"
CHECKOUT = Path(__file__).resolve().parents[1]


class Tasks:
    """The tasks of :mod:`testing.celery_app` by name, ready to be sent."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def __getattr__(self, name: str) -> Any:
        return self._app.signature(f"{_APP}.{name}")


class Worker:
    """A running worker, and the app that sends tasks to it."""

    def __init__(self, process: "subprocess.Popen[str]", app: Any, folder: Path) -> None:
        self.process = process
        self.tasks = Tasks(app)
        self.folder = folder
        self.app = app

    @property
    def log(self) -> str:
        """The log of the worker's main process, which alone writes this file."""
        return (self.folder / "worker.log").read_text()

    def said(self) -> str:
        """Return the output of the worker, its pool processes and its driver host."""
        return "".join(file.read_text() for file in sorted(self.folder.glob("*.log")))

    def stats(self) -> Any:
        """Return the section ``neo4j`` that the bootstep adds to ``inspect stats``."""
        found = wait_until(lambda: self.app.control.inspect(timeout=5, limit=1).stats(), "the worker answers")
        return next(iter(found.values()))["neo4j"]

    def drivers(self) -> Any:
        """Return the status of each driver."""
        return self.stats()["drivers"]

    def in_use(self) -> int:
        """Return how many upstream connections are lent."""
        return sum(driver["connections"]["in_use"] for driver in self.drivers())

    def run(self, task: Any, arguments: list[Any]) -> list[Any]:
        """Run one task for each argument; return their results in order."""
        results = [task.delay(argument) for argument in arguments]
        return [result.get(timeout=LIMIT) for result in results]

    def answers(self) -> bool:
        """Whether the worker answers a ping. Raises AssertionError if it has ended."""
        if (code := self.process.poll()) is not None:
            raise AssertionError(f"the worker ended ({code}): {self.said()}")
        return bool(self.app.control.ping(timeout=1, limit=1))


StartWorker = Callable[..., AbstractContextManager[Worker]]


@contextmanager
def celery_worker(server: Neo4jServer, redis: str, results: Path, folder: Path, *arguments: str,
                  **settings: str) -> Iterator[Worker]:
    """Run a worker until the block ends; its files are in ``folder``, its tasks' results in ``results``."""
    # A new app for this worker: an app that has been used keeps its first broker.
    app = Celery("tests", broker=redis, backend=results.as_uri(), set_as_current=False)
    environment = {**os.environ, "TEST_BROKER": redis, "TEST_RESULTS": results.as_uri(),
                   "NEO4J_URI": server.uri, "NEO4J_USERNAME": server.username,
                   "NEO4J_PASSWORD": server.password, "WORKER_INIT_RUNTIME_DIR": str(folder),
                   "PYTHONPATH": str(CHECKOUT), **settings}
    command = [sys.executable, "-m", "celery", "-A", _APP, "worker", "-l", "INFO",
               "--without-gossip", "--without-mingle", "--logfile", str(folder / "worker%I.log"), *arguments]
    try:
        with (folder / "others.log").open("a") as others, running_program(
                command, env=environment, stdout=others, stderr=others, text=True, start_new_session=True) as process:
            running = Worker(process, app, folder)
            wait_until(running.answers, "the worker is ready")
            yield running
    finally:
        app.control.purge()
        app.close()
