"""A stack whose Celery workers are on several hosts, all made on one Linux machine by network namespaces. Needs root.

A host has a network of its own, whose only interface is its loopback, and a host name of its own. Nothing listens
beyond a loopback. In each host, a hop (:mod:`benchmarks.hop`) listens at the ports of the stack's services, and
connects to them where they are. There is no other way out of a host.
"""

import os
import shutil
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil

from patterns.facts import Executor
from rig.airflow_api import AirflowApi
from rig.errors import BadInput, RigError
from rig.records import Relay
from rig.settings import PROJECT, Settings
from rig.stack import airflow, drivers, processes
from rig.stack import state as states
from rig.stack.airflow import WORKER
from rig.stack.interface import OnStep
from rig.stack.native import PATIENCE, NativeStack
from rig.stack.service import Service
from rig.stack.state import StackState

HOPS = "hops"
NEEDED_BY_A_WORKER = ("redis", "postgres", "airflow", "neo4j")      # names of the stack's ports
PROGRAMS = ("unshare", "nsenter", "ip")
# The shell becomes `sleep` when everything is set.
HOLD = "echo {name} > /proc/sys/kernel/hostname && ip link set lo up && exec sleep infinity"
HELD_BY = "sleep"
LISTENS = "0A"          # in /proc/net/tcp
LOOPBACK = ["lo"]


def require_namespaces() -> None:
    """Raise BadInput if this machine or this user cannot make hosts."""
    if sys.platform != "linux":
        raise BadInput(f"hosts are made by Linux's network namespaces, and this is {sys.platform}",
                       "run it on Linux, for example in a virtual machine")
    if os.geteuid() != 0:
        raise BadInput("hosts are network namespaces, which only root may make", "run it as root")
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        raise BadInput(f"not installed: {', '.join(missing)}", "install util-linux and iproute2")


def host_command(name: str) -> list[str]:
    """Return the command of a process that holds a host of this name. The host is ready when it is ``sleep``."""
    return ["unshare", "--net", "--uts", "--", "sh", "-c", HOLD.format(name=name)]


def hops_command(host: int, ports: Sequence[int]) -> list[str]:
    """Return the command of the hops from the host that a process holds to these ports of this machine."""
    return [sys.executable, "-m", "benchmarks.hop", "--inside", str(host), "--target-port", *map(str, ports)]


def is_held(pid: int) -> bool:
    """Return whether a process has made its host."""
    try:
        return psutil.Process(pid).name() == HELD_BY
    except psutil.NoSuchProcess:
        return False


def inside(host: int) -> list[str]:
    """Return the beginning of a command that runs in the host that a process holds."""
    return ["nsenter", "--target", str(host), "--net", "--uts", "--"]


def interfaces_of(pid: int) -> list[str]:
    """Return the network interfaces that a process has."""
    lines = Path(f"/proc/{pid}/net/dev").read_text(encoding="ascii").splitlines()[2:]
    return [line.partition(":")[0].strip() for line in lines]


def listening_in(pid: int) -> set[int]:
    """Return the ports at which something listens in the network of a process (IPv4)."""
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    return {int(row[1].partition(":")[2], 16) for row in rows if row[3] == LISTENS}


def divided(slots: int, hosts: int) -> list[int]:
    """Return the slots of each host, as equal as possible. Raises BadInput if a host would have none."""
    if not 1 <= hosts <= slots:
        raise BadInput(f"--hosts is {hosts}: expected 1 to {slots}, because each host needs a slot",
                       "RIG_SLOTS gives the stack more slots")
    least, more = divmod(slots, hosts)
    return [least + (number < more) for number in range(hosts)]


class SpreadStack(NativeStack):
    """A stack on CeleryExecutor with a worker on each of several hosts, all of which preload.

    ``slots`` are those of each host, and together those of the stack. The workers have the settings of the stack's
    usual one. The services of a host are ``worker1``, which holds it, ``hops-1``, and ``airflow-worker-1``.
    """

    def __init__(self, settings: Settings, on_step: OnStep, *, slots: Sequence[int]) -> None:
        super().__init__(settings, on_step)
        self._slots = dict(enumerate(slots, 1))
        # The workers are checked in threads, and Celery must not be imported by two at once.
        self._asking = threading.Lock()

    @property
    def workers(self) -> list[str]:
        """The names of the workers' services."""
        return [f"{WORKER}-{number}" for number in self._slots]

    def restart_executor(self) -> None:
        """Start the scheduler and the workers again, so that nothing is warm. Raises the errors of a start."""
        self.restart(["airflow-scheduler", *self.workers])
        self._require_relay(self.state())
        self.require_cut_off()

    def require_cut_off(self) -> None:
        """Raise RigError if a worker has another way than its host's loopback."""
        services = self.state().services
        for name in self.workers:
            if (found := interfaces_of(services[name].process.pid)) != LOOPBACK:
                raise RigError(f"{name} has the network interfaces {', '.join(found)}: expected only lo")

    def down(self) -> None:     # noqa: D102 - of the protocol
        # While the other services still answer, a worker ends by itself.
        with suppress(BadInput, OSError):
            if state := states.load(self.folder):
                self._stop(self.workers, state, PATIENCE)
        super().down()

    def _new_state(self, executor: Executor, slots: int, relay: Relay, keeper: processes.Started, *,
                   preload: bool) -> StackState:    # noqa: ARG002 - whatever the user has set, these workers preload
        return super()._new_state(executor, slots, relay, keeper, preload=True)

    def _prepare_executor(self, state: StackState) -> None:
        super()._prepare_executor(state)
        self._start([self._host(number, state) for number in self._slots], state)
        self._start([self._hops(number, state) for number in self._slots], state)

    def _require_relay(self, state: StackState) -> None:
        drivers.require_relay(state, self.folder / "logs" / f"{self.workers[0]}.log", len(self._slots))

    def _executor_services(self, state: StackState, api: AirflowApi) -> Iterator[Service]:
        for service in super()._executor_services(state, api):
            if service.name == WORKER:
                yield from (self._worker(service, number, state) for number in self._slots)
            else:
                yield service

    def _host(self, number: int, state: StackState) -> Service:
        name = f"worker{number}"
        return Service(name=name, command=host_command(name), env=self._plain_env(), cwd=self.folder,
                       check=lambda: None if is_held(_pid(name, state)) else "its loopback is not up yet")

    def _hops(self, number: int, state: StackState) -> Service:
        host = _pid(f"worker{number}", state)
        ports = [state.ports[name] for name in NEEDED_BY_A_WORKER]
        return Service(name=f"{HOPS}-{number}", command=hops_command(host, ports), env=self._plain_env(), cwd=PROJECT,
                       check=lambda: None if listening_in(host) >= set(ports) else "it does not listen yet")

    def _worker(self, usual: Service, number: int, state: StackState) -> Service:
        name = f"{WORKER}-{number}"
        # The file with the process id is one for each AIRFLOW_HOME unless it is named.
        command = [*inside(_pid(f"worker{number}", state)), *usual.command, "--pid", self._home / f"{name}.pid"]
        return replace(usual, name=name, command=command,
                       env={**usual.env, "AIRFLOW__CELERY__WORKER_CONCURRENCY": str(self._slots[number])},
                       check=lambda: self._problem_of(f"celery@worker{number}", state))

    def _problem_of(self, worker: str, state: StackState) -> str | None:
        with self._asking:
            return airflow.worker_finding(state, worker).problem


def _pid(service: str, state: StackState) -> int:
    return state.services[service].process.pid
