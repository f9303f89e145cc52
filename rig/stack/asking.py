"""Asks all services of a stack whether they serve. The answer comes in time, and names the real cause."""

import threading
import time
from collections.abc import Mapping

import psutil

from rig.errors import RigError
from rig.stack.service import Check

WITHIN = 10.0           # seconds; a stopped service accepts a connection and then does not answer
# Seconds from the start of a command to the last moment at which a service may answer: `rig status` promises 15, and on
# a busy machine its own start takes several of them.
TOLD_AFTER = 13.0
LEAST = 3.0             # seconds
# The services that another service's check must ask first. If one of these does not serve, the other's state is
# unknown.
THROUGH: Mapping[str, str] = {
    "airflow-apiserver": "postgres", "airflow-dag-processor": "airflow-apiserver",
    "airflow-scheduler": "airflow-apiserver", "airflow-worker": "redis"}


def problems(checks: Mapping[str, Check], *, ended: Mapping[str, str] | None = None, within: float = WITHIN,
             ) -> dict[str, str | None]:
    """Return each service's problem, None if it serves, after at most ``within`` seconds.

    ``ended`` has the services that are not asked, with their problems. If a service can only be asked through one that
    does not serve, it is not reported as ill: its problem is that its state is not known.
    """
    ended = ended or {}
    found: dict[str, str | None] = {**dict.fromkeys(checks, f"no answer within {within:.2g} s"), **ended}
    # Daemons: the program may end while one of them still waits for a stopped service.
    threads = [threading.Thread(target=_ask, args=(name, check, found), daemon=True)
               for name, check in checks.items() if name not in ended]
    until = time.monotonic() + within
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    told = dict(found)      # answers from now on are too late
    unsure = {name for name, problem in told.items() if problem and name not in ended}
    return {name: (_not_known(name, told) if name in unsure else None) or problem for name, problem in told.items()}


def time_left(lived: float) -> float:
    """Return for how many seconds a command that only asks may do so, if it has lived for ``lived`` seconds.

    This is at least ``LEAST``: after a very slow start, a good answer is worth more than one in time.
    """
    return min(WITHIN, max(LEAST, TOLD_AFTER - lived))


def lived() -> float:
    """Return for how many seconds this process has lived, its own start included."""
    return time.time() - psutil.Process().create_time()


def _ask(name: str, check: Check, found: dict[str, str | None]) -> None:
    try:
        found[name] = check()
    except RigError as error:
        found[name] = str(error)


def _not_known(name: str, problems: Mapping[str, str | None]) -> str | None:
    """Return which service prevents this one from being asked: the first in the chain."""
    cause, at = None, THROUGH.get(name)
    while at is not None:
        cause = at if problems.get(at) else cause
        at = THROUGH.get(at)
    return f"not known: {cause} does not serve" if cause else None
