"""The faults: what they hit and how, what shows that they hit, and how many failed tries they explain."""

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import psutil

from chaos import disk
from chaos.ground import Ground
from patterns.facts import Executor
from rig.plural import plural
from rig.stack.airflow import WORKER
from testing.alive import is_alive
from testing.waiting import comes_true, wait_until

Kind = Literal["kill -9", "stopped", "restart", "cut", "delayed", "black hole", "full disk", "calm"]
SERVICES = (WORKER, "driver host", "airflow-scheduler", "airflow-dag-processor", "airflow-apiserver", "redis",
            "postgres", "neo4j")
WITHIN = ("task", "pool process")
SHOWN = set(SERVICES) - {"driver host", "neo4j"}      # services of the stack, each with a row in `rig status`
ONLY_CELERY = {WORKER, "redis"}
HAS_A_HOST = "worker"   # the pattern with a driver host
DELAY = 0.2     # seconds, in each direction


class MissedError(Exception):
    """The fault hit nothing, or a process that was idle. So the trial says nothing about the invariants."""


@dataclass(frozen=True)
class Fault:
    """A kind of fault and its target.

    ``explains`` is the number of tries that it may cost; None for any number. Tasks ``may_fail`` if the fault can
    outlast all of their tries.
    """

    kind: Kind
    target: str = ""
    explains: int | None = None
    may_fail: bool = False

    def __str__(self) -> str:
        return f"{self.kind} {self.target}".strip()

    def fits(self, executor: Executor, pattern: str) -> bool:
        """Whether this executor and this pattern have such a target."""
        return (executor == "CeleryExecutor" or self.target not in ONLY_CELERY) and \
            (pattern == HAS_A_HOST or self.target != "driver host")

    @property
    def shows(self) -> str | None:
        """The service that ``rig status`` must report as unwell meanwhile; None if it is not one of the stack's."""
        return self.target if self.kind in {"kill -9", "stopped"} and self.target in SHOWN else None

    @property
    def refusal(self) -> str | None:
        """Why the fault cannot be caused on this machine; None if it can."""
        return disk.refusal() if self.kind == "full disk" else None


FULL_DISK = Fault("full disk", "logs and results", may_fail=True)


def all_faults() -> list[Fault]:
    """Return every fault, each once."""
    kinds: tuple[Kind, ...] = ("kill -9", "stopped")
    processes = [Fault(kind, target, 1 if kind == "kill -9" else 0) for kind in kinds for target in WITHIN]
    services = [Fault(kind, target) for target in SERVICES for kind in kinds]
    restarts = [Fault("restart", target) for target in SERVICES if target != "driver host"]
    return [Fault("calm", explains=0), *processes, *services, *restarts,
            Fault("cut", "connections to Neo4j"), Fault("delayed", "connections to Neo4j", 0),
            Fault("black hole", "connections to Neo4j"), FULL_DISK]


def strike(ground: Ground, fault: Fault, seconds: float, chance: random.Random, while_it_lasts: Callable[[], None],
           ) -> str:
    """Cause the fault, call ``while_it_lasts`` once, and undo what does not end by itself: restart what was killed.

    Returns what it hit, as observed. Raises MissedError if it hit nothing.
    """
    if fault.kind == "calm":
        while_it_lasts()
        return "nothing should be hit"
    busy = len(ground.tasks_in_a_transaction())
    if not busy:
        raise MissedError("no task was within a transaction")
    if fault.kind == "full disk":
        what = _strike_disk(ground, seconds, while_it_lasts)
    elif fault.target == "connections to Neo4j":
        what = _strike_network(ground, fault.kind, seconds, while_it_lasts)
    elif fault.kind == "restart":
        what = _strike_by_restart(ground, fault.target, while_it_lasts)
    else:
        what = _strike_process(ground, fault, seconds, _pid(ground, fault.target, chance), while_it_lasts)
    return f"{what}, with {plural(busy, 'task')} in a transaction"


def _strike_by_restart(ground: Ground, target: str, while_it_lasts: Callable[[], None]) -> str:
    before = ground.pid(target)
    was_there = is_alive(before)
    _restart(ground, target)
    while_it_lasts()
    if not was_there or is_alive(before):
        raise MissedError(f"process {before} was {'not there' if not was_there else 'still there afterwards'}")
    return f"process {before} became {ground.pid(target)}"


def _strike_network(ground: Ground, kind: Kind, seconds: float, while_it_lasts: Callable[[], None]) -> str:
    proxy = ground.proxy
    assert proxy
    if kind == "cut":
        cut = proxy.cut()
        while_it_lasts()
        return _unless_none(cut, f"{plural(cut, 'connection')} {'was' if cut == 1 else 'were'} cut")
    before = proxy.touched
    proxy.delay, proxy.silent = (DELAY, False) if kind == "delayed" else (0.0, True)
    try:
        _lasting(seconds, while_it_lasts)
    finally:
        proxy.delay, proxy.silent = 0.0, False
    touched = proxy.touched - before
    return _unless_none(touched, f"{touched} pieces of data were held back")


def _unless_none(count: int, what: str) -> str:
    if not count:
        raise MissedError(what)
    return what


def _strike_disk(ground: Ground, seconds: float, while_it_lasts: Callable[[], None]) -> str:
    small = ground.disk
    assert small
    small.fill()
    try:
        _lasting(seconds, while_it_lasts)
        was_full = small.is_full()
    finally:
        small.make_room()
    dead = ground.stack.dead()
    if not was_full:
        raise MissedError("there was room on the disk again before the end")
    return f"no byte could be written for {seconds:g} s, and {', '.join(dead) or 'no service'} ended"


def _strike_process(ground: Ground, fault: Fault, seconds: float, pid: int, while_it_lasts: Callable[[], None]) -> str:
    if not is_alive(pid):
        raise MissedError(f"process {pid} had ended")
    if fault.kind == "stopped":
        return _stop(pid, seconds, while_it_lasts)
    _send(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), "it is dead")
    while_it_lasts()
    if fault.target in SERVICES and not (fault.target == "driver host" and ground.state.executor == "CeleryExecutor"):
        _restart(ground, fault.target)      # a worker restarts its own driver host
    return f"process {pid} was alive, and is dead"


def _stop(pid: int, seconds: float, while_it_lasts: Callable[[], None]) -> str:
    _send(pid, signal.SIGSTOP)
    try:
        stood = comes_true(lambda: _is_stopped(pid))
        _lasting(seconds, while_it_lasts)
        stood = stood and _is_stopped(pid)
    finally:
        with suppress(ProcessLookupError):      # another one has killed it meanwhile
            os.kill(pid, signal.SIGCONT)
    if not stood:
        raise MissedError(f"process {pid} did not stand still for {seconds:g} s")
    return f"process {pid} stood still for {seconds:g} s"


def _send(pid: int, sign: signal.Signals) -> None:
    try:
        os.kill(pid, sign)
    except ProcessLookupError:
        raise MissedError(f"process {pid} had ended") from None


def _is_stopped(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    except psutil.NoSuchProcess:
        return False


def _lasting(seconds: float, while_it_lasts: Callable[[], None]) -> None:
    until = time.monotonic() + seconds
    while_it_lasts()
    time.sleep(max(0.0, until - time.monotonic()))     # the fault's own duration


def _restart(ground: Ground, target: str) -> None:
    if target == "neo4j":
        ground.neo4j.restart()
    else:
        ground.stack.restart(["worker-driver" if target == "driver host" else target])


def _pid(ground: Ground, target: str, chance: random.Random) -> int:
    """Return the process to hit; if there are several of the kind, one that is busy."""
    if target == "task":
        return _one_of(sorted(ground.tasks_in_a_transaction()), chance)
    if target == "pool process":
        return _one_of([pool.pid for pool in ground.busy_pool_processes()], chance)
    if target == "driver host":
        host = wait_until(ground.host, "a driver host serves")
        return int(host["pid"]) if host else 0
    return ground.pid(target)


def _one_of(pids: Sequence[int], chance: random.Random) -> int:
    if not pids:
        raise MissedError("none of its kind was at work")
    return chance.choice(pids)


def for_the_short_form() -> Sequence[tuple[Executor, Fault]]:
    """Return the faults that fit into ten minutes: one of each kind, most of them on CeleryExecutor."""
    return [("CeleryExecutor", Fault("kill -9", "task", 1)), ("CeleryExecutor", Fault("kill -9", "driver host")),
            ("CeleryExecutor", Fault("restart", "redis")), ("CeleryExecutor", Fault("cut", "connections to Neo4j")),
            ("CeleryExecutor", Fault("kill -9", "neo4j")), ("CeleryExecutor", Fault("stopped", WORKER)),
            ("CeleryExecutor", FULL_DISK),
            ("LocalExecutor", Fault("kill -9", "task", 1)), ("LocalExecutor", Fault("stopped", "airflow-scheduler"))]
