"""The faults: whom they strike, how, and what explains a try that failed."""

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from chaos.ground import Ground
from patterns.facts import Executor
from testing.alive import is_alive
from testing.waiting import wait_until

Kind = Literal["kill -9", "stopped", "restart", "cut", "delayed", "black hole", "calm"]
SERVICES = ("airflow-worker", "driver host", "airflow-scheduler", "airflow-dag-processor", "airflow-apiserver", "redis",
            "postgres", "neo4j")
WITHIN = ("task", "pool process")
SHOWN = set(SERVICES) - {"driver host", "neo4j"}      # services of the stack, each with a row in `rig status`
ONLY_CELERY = {"airflow-worker", "redis"}
DELAY = 0.2     # seconds, in each direction


@dataclass(frozen=True)
class Fault:
    """Something that is done to a target. ``explains`` is the number of tries that it may cost, None for any number."""

    kind: Kind
    target: str = ""
    explains: int | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.target}".strip()

    def fits(self, executor: Executor) -> bool:
        """Say whether there is such a target on this executor."""
        return executor == "CeleryExecutor" or self.target not in ONLY_CELERY

    @property
    def shows(self) -> str | None:
        """The service that ``rig status`` must call ill meanwhile; None where it is none of the stack's."""
        return self.target if self.kind in {"kill -9", "stopped"} and self.target in SHOWN else None


def all_faults() -> list[Fault]:
    """Return every fault, each once."""
    kinds: tuple[Kind, ...] = ("kill -9", "stopped")
    processes = [Fault(kind, target, 1 if kind == "kill -9" else 0) for kind in kinds for target in WITHIN]
    services = [Fault(kind, target) for target in SERVICES for kind in kinds]
    restarts = [Fault("restart", target) for target in SERVICES if target != "driver host"]
    return [Fault("calm", explains=0), *processes, *services, *restarts,
            Fault("cut", "connections to Neo4j"), Fault("delayed", "connections to Neo4j", 0),
            Fault("black hole", "connections to Neo4j")]


def strike(ground: Ground, fault: Fault, seconds: float, chance: random.Random, while_it_lasts: Callable[[], None],
           ) -> None:
    """Do it, call ``while_it_lasts`` once, and undo what does not end by itself: what was killed is started again."""
    if fault.kind == "calm":
        while_it_lasts()
    elif fault.kind == "restart":
        _restart(ground, fault.target)
        while_it_lasts()
    elif fault.target == "connections to Neo4j":
        _strike_network(ground, fault.kind, seconds, while_it_lasts)
    else:
        _strike_process(ground, fault, seconds, chance, while_it_lasts)


def _strike_network(ground: Ground, kind: Kind, seconds: float, while_it_lasts: Callable[[], None]) -> None:
    proxy = ground.proxy
    assert proxy
    if kind == "cut":
        proxy.cut()
        while_it_lasts()
        return
    proxy.delay, proxy.silent = (DELAY, False) if kind == "delayed" else (0.0, True)
    try:
        _lasting(seconds, while_it_lasts)
    finally:
        proxy.delay, proxy.silent = 0.0, False


def _strike_process(ground: Ground, fault: Fault, seconds: float, chance: random.Random,
                    while_it_lasts: Callable[[], None]) -> None:
    pid = _pid(ground, fault.target, chance)
    if fault.kind == "stopped":
        os.kill(pid, signal.SIGSTOP)
        try:
            _lasting(seconds, while_it_lasts)
        finally:
            os.kill(pid, signal.SIGCONT)
        return
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), "it is dead")
    while_it_lasts()
    if fault.target in SERVICES and not (fault.target == "driver host" and ground.state.executor == "CeleryExecutor"):
        _restart(ground, fault.target)      # the driver host of a worker is started again by the worker


def _lasting(seconds: float, while_it_lasts: Callable[[], None]) -> None:
    until = time.monotonic() + seconds
    while_it_lasts()
    time.sleep(max(0.0, until - time.monotonic()))     # the fault's own length


def _restart(ground: Ground, target: str) -> None:
    if target == "neo4j":
        ground.neo4j.restart()
    else:
        ground.stack.restart(["worker-driver" if target == "driver host" else target])


def _pid(ground: Ground, target: str, chance: random.Random) -> int:
    if target == "task":
        asked = ground.tasks_in_a_transaction if ground.state.relay == "process" else ground.task_processes
        return int(chance.choice(wait_until(asked, "a task runs")).pid)
    if target == "pool process":
        return int(chance.choice(wait_until(ground.pool_processes, "there is a pool process")).pid)
    if target == "driver host":
        host = wait_until(ground.host, "a driver host serves")
        return int(host["pid"]) if host else 0
    return ground.pid(target)


def for_the_short_form() -> Sequence[tuple[Executor, Fault]]:
    """Return what fits into ten minutes: one of each kind, most of them on CeleryExecutor."""
    return [("CeleryExecutor", Fault("kill -9", "task", 1)), ("CeleryExecutor", Fault("kill -9", "driver host")),
            ("CeleryExecutor", Fault("restart", "redis")), ("CeleryExecutor", Fault("cut", "connections to Neo4j")),
            ("CeleryExecutor", Fault("kill -9", "neo4j")), ("CeleryExecutor", Fault("stopped", "airflow-worker")),
            ("LocalExecutor", Fault("kill -9", "task", 1)), ("LocalExecutor", Fault("stopped", "airflow-scheduler"))]
