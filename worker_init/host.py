"""The driver host: owns the drivers and serves them to tasks, in a process of its own.

:mod:`worker_init.host_process` runs it beside a Celery worker, ``worker-driver serve`` without Celery.
"""

import asyncio
import gc
import json
import logging
import os
import resource
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from worker_init.address_request import (
    ANSWER_SECONDS,
    MOST_BYTES,
    AddressRequest,
    NoAddress,
    Peer,
    answer_of,
    peer_of,
)
from worker_init.commands import Command
from worker_init.control import is_paused, set_paused, set_unshared
from worker_init.measures import Key, Measured, Measures
from worker_init.on_demand import OnDemand
from worker_init.pool_actions import Limits
from worker_init.relay import Relay, Shared
from worker_init.settings import Settings
from worker_init.slot_claims import SlotClaims
from worker_init.targets import Address, Credentials, Target
from worker_init.unshared import Unshared
from worker_init.upstream import driver_version

if TYPE_CHECKING:
    from worker_init.metrics import Exporter

log = logging.getLogger(__name__)
# How long a worker's start or a task waits for a server to say which Bolt it speaks. It is less than ANSWER_SECONDS.
_LOOK_SECONDS = 2.0


class HostSettings(NamedTuple):
    """What a host must know before its first driver. Times are in seconds; ``worker`` is its name, for people."""

    limits: Limits
    connection_timeout: float
    logon_timeout: float
    folder: Path
    max_upstreams: int
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"
    worker: str = ""

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> "HostSettings":
        """Read the settings that the worker sent."""
        return cls(Limits(**message["limits"]), message["connection_timeout"], message["logon_timeout"],
                   Path(message["folder"]), message["max_upstreams"], message["metrics_port"],
                   message["metrics_host"], message["worker"])


def host_settings(settings: Settings, folder: Path, worker: str) -> HostSettings:
    """Return the part of the package's settings that a host needs."""
    limits = Limits(settings.max_size, settings.acquisition_timeout, settings.max_lifetime, settings.idle_timeout,
                    settings.liveness_check)
    return HostSettings(limits, settings.connection_timeout, settings.logon_timeout, folder,
                        settings.max_upstreams, settings.metrics_port, settings.metrics_host, worker)


class Host:
    """All drivers of one worker. ``has_pool`` says that there are pool processes, which claim slots.

    ``tell`` is called with what the worker must know about relays that tasks asked for, and with their sockets.
    """

    def __init__(self, settings: HostSettings, *, has_pool: bool = True,
                 tell: Callable[..., None] = lambda *_: None) -> None:
        self._tell = tell
        self._settings = settings
        self._has_pool = has_pool
        self._started_at = time.monotonic()
        self._relays: dict[tuple[int, int], Relay] = {}
        self._shared = Shared()
        self._claims = SlotClaims(settings.folder, asyncio.get_running_loop(), self._slot_is_free)
        self._on_demand = OnDemand(settings.max_upstreams, settings.limits.idle_timeout, self._open_for_task,
                                   self._close)
        self._closing: set[asyncio.Task[None]] = set()
        self._status_server: asyncio.Server | None = None
        self._unshared = Unshared(settings.limits.liveness_check, settings.connection_timeout,
                                  may_ask=lambda: not self._is_paused, changed=self._keep_unshared)
        self._measures = Measures()
        self._exporter = self._exported()
        self._folder = settings.folder
        self._is_paused = is_paused(settings.folder)
        self._is_draining = False

    def _exported(self) -> "Exporter | None":
        """Serve metrics if they are wanted. If they cannot be served, only a line in the log says so."""
        settings = self._settings
        if settings.metrics_port is None:
            return None
        try:
            from worker_init.metrics import Exporter  # noqa: PLC0415 - the extra is only needed for metrics
            exporter = Exporter(settings.metrics_host, settings.metrics_port, settings.worker, self._measured)
        except ImportError as error:
            log.warning("there are no metrics: %s. Install neo4j-worker-init[metrics], or unset "
                        "WORKER_INIT_METRICS_PORT", error)
            return None
        except (OSError, OverflowError) as error:
            log.warning("there are no metrics: %s:%d cannot be used (WORKER_INIT_METRICS_HOST, "
                        "WORKER_INIT_METRICS_PORT): %s", settings.metrics_host, settings.metrics_port, error)
            return None
        log.info("metrics are on http://%s/metrics", exporter.address)
        return exporter

    def _measured(self) -> dict[Key, Measured]:
        return self._measures.now((slot, relay.target.uri, relay.measured())
                                  for (slot, _), relay in self._relays.items())

    async def open(self, slot: int, at: int, target: Target, credentials: Credentials, sock: socket.socket) -> None:
        """Serve one driver on a listening socket. It connects when it is first asked for a transaction."""
        await self._open(slot, at, target, credentials, sock)
        self._on_demand.add_fixed(slot, target, Address.of(sock, credentials))
        self._unshared.fixed[at] = target

    async def look_at_servers(self) -> None:
        """Ask the servers of the worker's environment which Bolt they speak. A silent server is not waited for."""
        await self._unshared.look(_LOOK_SECONDS)

    def _keep_unshared(self) -> None:
        """Make tasks connect by themselves if a server is too old, and share it again once it no longer is."""
        for relay in [*self._relays.values()]:
            relay.unshared = self._unshared.why(relay.target)
            if relay.unshared:
                # After what is going on in the relay: clients that wait there must be told first.
                asyncio.get_running_loop().call_soon(self._on_demand.drop, relay.target)
        try:
            set_unshared(self._folder, self._unshared.numbers())
        except OSError as error:
            log.warning("tasks will not learn which upstreams they share: %s", error)

    async def open_again(self, slot: int, at: int, target: Target, credentials: Credentials,
                         sock: socket.socket) -> None:
        """Serve a relay that a task asked an earlier host for."""
        self._on_demand.restore(slot, at, await self._open(slot, at, target, credentials, sock), sock, credentials)

    async def _open_for_task(self, slot: int, at: int, target: Target, credentials: Credentials,
                             sock: socket.socket) -> Relay:
        relay = await self._open(slot, at, target, credentials, sock)
        self._tell({"kind": "opened", "slot": slot, "at": at, "port": sock.getsockname()[1],
                    "target": list(target), "credentials": list(credentials)}, sock)
        return relay

    async def _open(self, slot: int, at: int, target: Target, credentials: Credentials, sock: socket.socket) -> Relay:
        relay = Relay(f"slot {slot}, {target.uri}", target, credentials, limits=self._settings.limits,
                      connection_timeout=self._settings.connection_timeout,
                      logon_timeout=self._settings.logon_timeout,
                      on_client=lambda: self._notice_process(slot), shared=self._shared,
                      on_version=lambda failure: self._unshared.heard(target, failure))
        relay.unshared = self._unshared.why(target)
        self._relays[slot, at] = relay
        if self._is_paused:
            relay.obey(Command.PAUSE)
        await relay.listen(sock)
        return relay

    def _close(self, slot: int, at: int, sock: socket.socket) -> None:
        """Close a driver that has no clients, and its socket."""
        relay = self._relays.pop((slot, at))
        self._measures.end(slot, relay.target.uri, relay.measured().totals)
        closing = asyncio.get_running_loop().create_task(relay.drain(0.0))
        closing.add_done_callback(lambda _: sock.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        closing.add_done_callback(lambda _: self._tell({"kind": "closed", "slot": slot, "at": at}))

    async def serve_status(self, sock: socket.socket) -> None:
        """Answer on the control socket: a task's request with an address, an empty request with the status."""
        earlier = self._status_server
        self._status_server = await asyncio.start_unix_server(self._answer, sock=sock, limit=MOST_BYTES)
        if earlier:
            earlier.close()

    async def move(self, folder: Path, sock: socket.socket) -> None:
        """Use another runtime folder, with another status socket, because somebody has removed the first one."""
        self._claims.move(folder)
        self._folder = folder
        self._keep_pause()
        self._keep_unshared()
        await self.serve_status(sock)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await asyncio.wait_for(reader.readline(), ANSWER_SECONDS)
            answer = await self._answer_to(line, peer_of(writer)) if line else self.status()
            writer.write(json.dumps(answer).encode())
            await writer.drain()
        except (OSError, ValueError, asyncio.TimeoutError) as error:    # the peer is gone, or is not one of our tasks
            log.info("a request on the control socket got no answer (%s)", type(error).__name__)
        finally:
            writer.close()

    async def _answer_to(self, line: bytes, peer: Peer) -> dict[str, Any]:
        command = Command.parse(line)
        if command is None:
            return await self._address(line, peer)
        if peer.user != os.getuid():
            return {"refused": f"user {peer.user} does not own this driver host"}
        self.obey(command)
        return self.status()

    def obey(self, command: Command) -> None:
        """Carry out an operator's command in every relay; while paused, also in relays that are opened later."""
        log.info("command from an operator: %s", command.value)
        if command is not Command.RECONNECT:
            self._is_paused = command is Command.PAUSE
            self._keep_pause()
        for relay in self._relays.values():
            relay.obey(command)

    def _keep_pause(self) -> None:
        """Make a host that replaces this one begin paused if this one is paused."""
        try:
            set_paused(self._folder, paused=self._is_paused)
        except OSError as error:
            log.warning("if this host dies, the next one will not know whether it is paused: %s", error)

    async def _address(self, line: bytes, peer: Peer) -> dict[str, Any]:
        try:
            if peer.user != os.getuid():
                raise NoAddress(f"user {peer.user} does not own this driver host")
            if self._is_draining:
                raise NoAddress("it is about to end")
            return await self._shared_address(AddressRequest.parse(line), peer.pid)
        except NoAddress as error:
            log.warning("a task connects by itself: %s", error)
            return {"refused": f"the driver host refuses: {error}"}

    async def _shared_address(self, request: AddressRequest, pid: int) -> dict[str, Any]:
        """Answer with an address, unless the server turns out to be too old; the log has said that already."""
        target = request.target
        if not (why := self._unshared.why(target)):
            address = await self._on_demand.address(request, pid)
            relay = self._on_demand.relay_for(request)
            if relay and not self._is_paused:
                await relay.know_server(_LOOK_SECONDS)
            if not (why := self._unshared.why(target)):
                return answer_of(address)
        return {"refused": why}

    def status(self) -> dict[str, Any]:
        """Return the status that inspection shows."""
        self._claims.refresh()
        drivers = [{"slot": slot, "processes": self._claims.processes(slot), **relay.status()}
                   for (slot, _), relay in sorted(self._relays.items())]
        return {"pid": os.getpid(), "worker": self._settings.worker, "state": self._state(),
                "metrics": self._exporter.address if self._exporter else None,
                "neo4j_driver": driver_version, "event_loop": type(asyncio.get_running_loop()).__module__,
                "uptime_seconds": round(time.monotonic() - self._started_at, 1),
                "drivers": drivers}

    def _state(self) -> str:
        if self._is_draining:
            return "draining"
        return "paused" if self._is_paused else "serving"

    def _notice_process(self, slot: int) -> None:
        """Look for the process behind a client: it has claimed its slot, unless there is no Celery."""
        if self._has_pool and not self._claims.is_watched(slot):
            self._claims.refresh()

    def _slot_is_free(self, slot: int) -> None:
        """Return idle connections to the server that nobody needs any more: the slot's pool process has ended."""
        for (relay_slot, _), relay in self._relays.items():
            if relay_slot == slot:
                relay.close_idle()

    async def drain(self, limit: float) -> None:
        """Let transactions end within ``limit`` seconds, then close every driver."""
        self._is_draining = True
        await asyncio.gather(*(relay.drain(limit) for relay in self._relays.values()))
        self._on_demand.close()
        self._unshared.close()
        self._claims.close()
        if self._status_server:
            self._status_server.close()
        if self._exporter:
            await self._exporter.close()


def prepare_process() -> None:
    """Set up logging, and raise the limit of open files: each client takes one, and each upstream connection.

    Objects that exist by now stay, so the garbage collector need not go through them again and again.
    """
    logging.basicConfig(level=logging.INFO, format="[%(asctime)s: %(levelname)s/driver host %(process)d] %(message)s")
    # The pool logs a lost connection once. The driver would say it too.
    logging.getLogger("neo4j").setLevel(logging.CRITICAL)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.collect()
    gc.freeze()
