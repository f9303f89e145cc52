"""The owner of a connection, written into its user agent and read back from the server's list of connections."""

import os
import re
import socket
from typing import NamedTuple, Self

from patterns import __version__

PRODUCT = "neo4j-airflow-connections"

_FORMAT = (f"{PRODUCT}/{{version}} (pattern={{pattern}}; alias={{alias}}; "
           "worker={host}:{worker_pid}; task={task_pid})")
_PARSER = re.compile(
    rf"{PRODUCT}/(?P<version>\S+) \(pattern=(?P<pattern>[^;()]+); alias=(?P<alias>[^;()]+); "
    r"worker=(?P<host>[^;()]+):(?P<worker_pid>\d+); task=(?P<task_pid>\d+)\)")


class Identity(NamedTuple):
    """The owner of a driver: pattern and alias, the worker process, and the task process that was forked from it.

    All drivers that one task makes for one alias have the same identity.
    """

    version: str
    pattern: str
    alias: str
    host: str
    worker_pid: int
    task_pid: int

    @classmethod
    def of_this_process(cls, pattern: str, alias: str) -> Self:
        """Return the identity of a driver made here. The parent of a task process is its worker process."""
        return cls(__version__, pattern, alias, socket.gethostname(), os.getppid(), os.getpid())

    @property
    def worker(self) -> str:
        """The worker process, as ``host:pid``."""
        return f"{self.host}:{self.worker_pid}"


def user_agent(identity: Identity) -> str:
    """Return the user agent that contains the identity; :func:`parse` reads it back."""
    return _FORMAT.format(**identity._asdict())


def parse(agent: str | None) -> Identity | None:
    """Return the identity in a user agent; None if it is not one of ours.

    The server's list also has the agents of other clients, and None for a connection that has not sent HELLO yet.
    """
    match = _PARSER.fullmatch(agent or "")
    if match is None:
        return None
    version, pattern, alias, host, worker_pid, task_pid = match.groups()
    return Identity(version, pattern, alias, host, int(worker_pid), int(task_pid))
