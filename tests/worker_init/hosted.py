"""Workers without Celery that have a driver host, and what a task would see of it."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import neo4j
import pytest

from testing.alive import is_alive
from testing.waiting import wait_until
from worker_init.lifecycle import Worker
from worker_init.supervisor import Supervisor

# Every fault of a worker's host is tested with a server, and with a cluster of three members.
each_upstream = pytest.mark.parametrize("upstream", ["bolt", "cluster"], indirect=True)


@contextmanager
def opened(environment: dict[str, str], slots: int = 1) -> Iterator[tuple[Worker, Supervisor]]:
    """Open a worker that has a host; nothing is left of it at the end."""
    worker = Worker()
    worker.open(slots, environment, "celery@here")
    supervisor = worker._supervisor
    assert isinstance(supervisor, Supervisor), worker._notes
    try:
        yield worker, supervisor
    finally:
        worker.close()
        assert not supervisor._watcher.is_alive()
        assert not [*Path(environment["WORKER_INIT_RUNTIME_DIR"]).iterdir()]
        wait_until(lambda: not is_alive(supervisor._pid), "the host is gone")


def is_served(found: dict[str, str]) -> bool:
    """Whether a task is, with what is in its environment."""
    auth = found["NEO4J_WORKER_USERNAME"], found["NEO4J_WORKER_PASSWORD"]
    with (neo4j.GraphDatabase.driver(found["NEO4J_WORKER_URI"], auth=auth) as driver,
          driver.session(database="neo4j") as session, session.begin_transaction()):
        return True


def connect(found: dict[str, str]) -> None:
    port = int(found["NEO4J_WORKER_URI"].rsplit(":", 1)[1])
    socket.create_connection(("127.0.0.1", port), timeout=10).close()


def status_of(worker: Worker) -> dict[str, Any]:
    status = worker.status()
    assert status
    return status


def serves(worker: Worker) -> bool:
    return bool(status_of(worker)["state"] == "serving")


def kill_host(supervisor: Supervisor) -> int:
    pid = supervisor._pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), "the host has ended")
    return pid
