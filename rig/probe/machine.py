"""What a DAG run uses of the machine: processor seconds by service, and how busy the machine was otherwise.

When a parent waits for a child that has ended, the kernel adds the child's processor time to the parent's. So two looks
at the long-lived processes show what all processes between them used, however short they lived. If nobody waits for a
child, its time is part of the machine's time, but of no service's.
"""

import os
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import psutil

from rig.records import MachineShare

PRESSURE = Path("/proc/pressure/cpu")
TASKS, DRIVER_HOST, PROBE = "tasks", "worker-driver", "probe"
# The children of their children are task processes. A worker on one of several hosts is airflow-worker-1 and so on.
FORKS_TASKS = ("airflow-worker", "airflow-scheduler")
HOST_MODULE = "worker_init.host_process"
NOT_LINUX = "the processor time of children that have ended is known on Linux alone"
NOT_OURS = "the services are no processes of this machine that the rig has started"
RESTARTED = "a service was started again in the meantime"


class Look(NamedTuple):
    """The machine at one moment: processor time since it, or a service, was started, in seconds."""

    t: float
    services: Mapping[str, int]
    spent: Mapping[str, float] | None
    busy: float
    all: float
    stolen: float | None
    waited: float | None
    load: float


class _Process(NamedTuple):
    parent: int
    own: float
    children: float         # of children that have ended and were waited for
    is_host: bool


def look(services: Mapping[str, int]) -> Look:
    """Look once. ``services`` has the process of each service."""
    times = psutil.cpu_times()
    # A guest's time is also included in user.
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return Look(
        t=time.time(), services=services, spent=_spent(services) if services and sys.platform == "linux" else None,
        busy=total - times.idle - getattr(times, "iowait", 0.0), all=total,
        stolen=getattr(times, "steal", None), waited=_waited(), load=os.getloadavg()[0])


def between(before: Look, after: Look) -> MachineShare:
    """Return what was used between two looks. A value that is not known is None, with its reason."""
    seconds = after.t - before.t
    missing: dict[str, str] = {}
    spent = _difference(before, after, missing)
    if before.waited is None or after.waited is None:
        missing["pressure"] = f"this kernel has no {PRESSURE}"
    if before.stolen is None or after.stolen is None:
        missing["steal"] = "this system does not tell it"
    if spent is None:
        missing["unattributed"] = missing["cpu_seconds"]
    return MachineShare(
        seconds=seconds, cpu_seconds=spent, missing=missing,
        unattributed=None if spent is None else after.busy - before.busy - sum(spent.values()),
        pressure=_share(before.waited, after.waited, seconds), load=(before.load + after.load) / 2,
        steal=_share(before.stolen, after.stolen, after.all - before.all))


def _difference(before: Look, after: Look, missing: dict[str, str]) -> dict[str, float] | None:
    if before.spent is None or after.spent is None:
        missing["cpu_seconds"] = NOT_OURS if sys.platform == "linux" else NOT_LINUX
        return None
    if before.services != after.services:
        missing["cpu_seconds"] = RESTARTED
        return None
    return {name: round(max(0.0, after.spent[name] - before.spent.get(name, 0.0)), 2) for name in after.spent}


def _share(before: float | None, after: float | None, of: float) -> float | None:
    # At most 1, because the two clocks are not read at the same moment.
    return None if before is None or after is None or of <= 0 else min(1.0, (after - before) / of)


def _spent(services: Mapping[str, int]) -> dict[str, float]:
    """Return the seconds of each service, of the task processes, of the driver host, and of this process."""
    own = psutil.Process().cpu_times()
    found: defaultdict[str, float] = defaultdict(float, dict.fromkeys(services, 0.0))
    found[PROBE] = own.user + own.system
    processes, service_of = _processes(), {pid: name for name, pid in services.items()}
    for pid, process in processes.items():
        line = _line(pid, processes, service_of)
        if line is None:
            continue
        service, below = line
        forks = service.startswith(FORKS_TASKS)
        bucket = DRIVER_HOST if _of_host(pid, processes) else TASKS if forks and below > 1 else service
        found[bucket] += process.own
        # The processes that pool processes have waited for were task processes.
        found[TASKS if bucket == service and forks and below == 1 else bucket] += process.children
    return dict(found)


def _processes() -> dict[int, _Process]:
    found = {}
    for process in psutil.process_iter(["ppid", "cpu_times", "cmdline"]):
        ppid, times, line = (process.info[name] for name in ("ppid", "cpu_times", "cmdline"))
        if times is not None and ppid is not None:
            found[process.pid] = _Process(ppid, times.user + times.system, times.children_user + times.children_system,
                                          HOST_MODULE in (line or []))
    return found


def _line(pid: int, processes: Mapping[int, _Process], service_of: Mapping[int, str]) -> tuple[str, int] | None:
    """Return the service that a process descends from, and the number of generations between them."""
    below = 0
    while pid in processes:
        if pid in service_of:
            return service_of[pid], below
        pid, below = processes[pid].parent, below + 1
    return None


def _of_host(pid: int, processes: Mapping[int, _Process]) -> bool:
    while pid in processes:
        if processes[pid].is_host:
            return True
        pid = processes[pid].parent
    return False


def _waited() -> float | None:
    """Return how long something has waited for a processor, in seconds; None if the kernel does not say."""
    try:
        some = PRESSURE.read_text(encoding="ascii").splitlines()[0]
    except (OSError, IndexError):
        return None
    return float(some.rsplit("total=", 1)[1]) / 1e6
