"""The worker's side of the driver host: it starts it, replaces it when it dies, and ends it.

The worker keeps the listening sockets for as long as it lives. When a host dies, clients queue in
them until the next one serves the same addresses with the same credentials, and no other process can
take a port in between.

A thread waits for the host's end. It must survive that the worker forks its pool at any moment, so it
starts the host with ``posix_spawn``: a ``Popen`` whose pipe a forked child has inherited would wait
for that child's end.
"""

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from worker_init import slot_claims
from worker_init.control import (
    UNFIT_EXIT_CODE,
    Channel,
    ChannelClosed,
    listen_for_status,
    make_folder,
    read_status,
    remove_folder,
)
from worker_init.errors import WorkerInitError
from worker_init.settings import Settings
from worker_init.targets import Address, Credentials, Upstreams

log = logging.getLogger(__name__)

_BACKLOG = 4096
_SHORTEST_PAUSE = 0.05
_LONGEST_PAUSE = 5.0
# A host that lived for this long has not died of its own start.
_HEALTHY_SECONDS = 5.0
_STATUS_SECONDS = 2.0
_PACKAGE_PARENT = str(Path(__file__).resolve().parent.parent)


class Endpoint(NamedTuple):
    """One driver's address: the slot it belongs to, the upstream it leads to, how clients reach it."""

    slot: int
    at: int
    sock: socket.socket
    address: Address


class Supervisor:
    """One worker's driver host. The worker's main process calls everything, except ``enter`` and ``leave``."""

    def __init__(self, settings: Settings, upstreams: Upstreams, environment: Mapping[str, str]) -> None:
        self.folder = make_folder(settings.runtime_dir)
        self.restarts = 0
        self.unfit: str | None = None
        self._owner = os.getpid()
        self._settings = settings
        self._upstreams = upstreams
        self._host_environment = _host_environment(environment)
        self._status_socket = listen_for_status(self.folder)
        self._endpoints: list[Endpoint] = []
        self._slots = 0
        self._channel: Channel | None = None
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._stopping = threading.Event()
        self._pid = 0
        self._started_at = 0.0
        self._watcher = threading.Thread(target=self._watch, name="worker-init-supervisor", daemon=True)

    def __repr__(self) -> str:
        return (f"driver host {self._pid}: {self._slots} slots (scope {self._settings.scope}) for "
                f"{', '.join(map(repr, self._upstreams.targets))}, folder {self.folder}")

    # In the worker's main process

    def start(self, slots: int) -> bool:
        """Start the host with a driver for each slot, and wait for it. False: ``unfit`` says why there can be none.

        A host that is only slow counts as started: its clients wait in the listening sockets.
        """
        self.ensure(slots)
        self._spawn()
        self._watcher.start()
        if not self._ready.wait(self._settings.start_timeout):
            log.warning("the driver host is not ready after %g s; tasks wait for it", self._settings.start_timeout)
        return self.unfit is None

    def ensure(self, slots: int) -> None:
        """Have at least so many slots: the pool is about to grow."""
        if self.unfit:
            return
        wanted = 1 if self._settings.scope == "shared" else slots
        with self._lock:
            for slot in range(self._slots, wanted):
                fresh = [_endpoint(slot, at) for at in range(len(self._upstreams.targets))]
                self._endpoints += fresh
                for endpoint in fresh:
                    self._announce(endpoint)
            self._slots = max(self._slots, wanted)

    def environment(self, index: int) -> dict[str, str]:
        """Return what a pool process of this index puts into its environment."""
        if self.unfit:
            return {}
        slot = self._slot(index)
        addresses = [endpoint.address for endpoint in self._endpoints if endpoint.slot == slot]
        return self._upstreams.environment(addresses)

    def stop(self) -> None:
        """Let the host drain and end, then forget it. Doing it twice is fine."""
        self._stopping.set()
        with self._lock:
            self._tell({"kind": "stop"})
        self._watcher.join(self._settings.drain_timeout + _LONGEST_PAUSE)
        self.kill()

    def kill(self) -> None:
        """End the host at once."""
        self._stopping.set()
        if self._watcher.is_alive() and self._pid:
            os.kill(self._pid, signal.SIGKILL)
            self._watcher.join(_LONGEST_PAUSE)
        self._close_sockets()
        remove_folder(self.folder)

    def status(self) -> dict[str, Any]:
        """Return the host's status, or what there is to say while it does not answer."""
        common = {"scope": self._settings.scope, "restarts": self.restarts}
        if self.unfit:
            return common | {"state": "off", "last_error": self.unfit}
        try:
            return common | read_status(self.folder, _STATUS_SECONDS)
        except WorkerInitError as error:
            return common | {"state": "down", "pid": self._pid, "last_error": str(error)}

    # In a pool process

    def enter(self, index: int) -> None:
        """Say that this process uses the slot of its index, and let go of the worker's sockets."""
        if os.getpid() != self._owner:
            self._close_sockets()
        slot_claims.claim(self.folder, self._slot(index))

    def leave(self, index: int) -> None:
        """Say that this process is done."""
        slot_claims.withdraw(self.folder, self._slot(index))

    # Inside

    def _slot(self, index: int) -> int:
        return index % max(self._slots, 1)

    def _spawn(self) -> None:
        """Start a host and tell it everything: it may be the first, or one that replaces another."""
        mine, theirs = socket.socketpair()
        with self._lock, theirs:
            if self._channel:
                self._channel.close()
            self._channel = Channel(mine)
            self._pid = os.posix_spawn(
                sys.executable, [sys.executable, "-m", "worker_init.host_process"], self._host_environment,
                file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0)], setpgroup=0)
            self._started_at = time.monotonic()
            self._tell(_settings_message(self._settings, self.folder), self._status_socket.fileno())
            for endpoint in self._endpoints:
                self._announce(endpoint)
            self._tell({"kind": "ready"})
        log.info("driver host %d started: %d drivers, folder %s", self._pid, len(self._endpoints), self.folder)

    def _announce(self, endpoint: Endpoint) -> None:
        target, credentials = self._upstreams.targets[endpoint.at], endpoint.address.credentials
        self._tell({"kind": "driver", "slot": endpoint.slot, "at": endpoint.at, "target": list(target),
                    "credentials": list(credentials)}, endpoint.sock.fileno())

    def _tell(self, message: dict[str, Any], *descriptors: int) -> None:
        """Send to the host. One that has died is told by its successor's start."""
        if not self._channel:
            return
        try:
            self._channel.send(message, descriptors)
        except ChannelClosed as error:
            log.info("the driver host does not listen: %s", error)

    def _watch(self) -> None:
        """Run the thread: know when the host is ready, and replace it when it has ended."""
        pause = _SHORTEST_PAUSE
        while True:
            self._await_ready()
            status = self._wait()
            if self._stopping.is_set():
                return
            if os.waitstatus_to_exitcode(status) == UNFIT_EXIT_CODE:
                self._give_up()
                return
            lived = time.monotonic() - self._started_at
            pause = _SHORTEST_PAUSE if lived > _HEALTHY_SECONDS else min(pause * 2, _LONGEST_PAUSE)
            log.error("the driver host %d ended (%d); starting another in %g s", self._pid,
                      os.waitstatus_to_exitcode(status), pause)
            if self._stopping.wait(pause):
                return
            self.restarts += 1
            self._spawn()

    def _give_up(self) -> None:
        """No other host would serve either: whoever connects is to be refused, and not to wait for one."""
        self.unfit = self.unfit or "the driver host's self-test failed"
        if self.restarts:
            log.error("the driver host cannot serve any more, tasks are refused: restart the worker (%s)", self.unfit)
        with self._lock:
            for endpoint in self._endpoints:
                endpoint.sock.close()
        self._ready.set()

    def _await_ready(self) -> None:
        channel, told = self._channel, list[tuple[dict[str, Any], list[int]]]()
        try:
            while channel and not told:
                told = channel.receive()
        except ChannelClosed:
            return
        for message, _ in told:
            if message["kind"] == "unfit":
                self.unfit = message["reason"]
            self._ready.set()

    def _wait(self) -> int:
        try:
            return os.waitpid(self._pid, 0)[1]
        except ChildProcessError:
            # Somebody else in the worker has reaped it.
            return 0

    def _close_sockets(self) -> None:
        if self._channel:
            self._channel.close()
            self._channel = None
        self._status_socket.close()
        for endpoint in self._endpoints:
            endpoint.sock.close()


def _endpoint(slot: int, at: int) -> Endpoint:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(_BACKLOG)
    return Endpoint(slot, at, sock, Address.of(sock, Credentials.random()))


def _settings_message(settings: Settings, folder: Path) -> dict[str, Any]:
    limits = {name: getattr(settings, name) for name in
              ("max_size", "acquisition_timeout", "max_lifetime", "idle_timeout", "liveness_check")}
    return {"kind": "settings", "limits": limits, "connection_timeout": settings.connection_timeout,
            "logon_timeout": settings.logon_timeout,
            "folder": str(folder), "drain_timeout": settings.drain_timeout}


def _host_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the worker's environment, with this package where Python finds it."""
    path = os.pathsep.join(filter(None, (_PACKAGE_PARENT, environment.get("PYTHONPATH"))))
    return {**environment, "PYTHONPATH": path}
