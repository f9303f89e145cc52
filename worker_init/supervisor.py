"""The worker's side of the driver host: starts it, replaces it when it dies, and ends it.

The table in :mod:`worker_init.host_life` says what happens when. This module is the shell around it: a thread that
waits for the host, its channel and the clock, feeds what it sees to the machine, and carries out the resulting actions.
The worker's main process only leaves messages for that thread, so a host that hangs holds nobody up.

The worker keeps the listening sockets for as long as it lives. When a host dies, clients queue in them until the next
host serves the same addresses with the same credentials. No other process can take a port in between. If no host comes,
the ports are kept, and connections to them are refused.
"""

import errno
import logging
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple

from worker_init import slot_claims
from worker_init.commands import Command
from worker_init.control import (
    has_status,
    listen_for_status,
    make_folder,
    read_status,
    remove_folder,
    renew_folder,
    send_command,
    set_refusing,
    unshared,
)
from worker_init.errors import BadSetting, WorkerInitError
from worker_init.host_life import END_SECONDS, REFUSING, SETTLED, Action, Event, HostLife, Patience, State
from worker_init.settings import Settings
from worker_init.spawned import UNFIT_EXIT_CODE, Spawned, host_environment
from worker_init.targets import Address, Credentials, Target, Upstreams

log = logging.getLogger(__name__)

_BACKLOG = 4096
_STATUS_SECONDS = 2.0
# How often the thread looks at the runtime folder, and at a process that has no descriptor.
_FOLDER_SECONDS = 5.0
_PROCESS_SECONDS = 0.1
# The pause after a system call that failed, and how many failures in a row the thread accepts.
_TROUBLE_SECONDS = 0.1
_MOST_TROUBLE = 100
_PASSING = (OSError, MemoryError)


class Endpoint(NamedTuple):
    """One driver's address: the slot it belongs to, the upstream it leads to, how clients reach it."""

    slot: int
    at: int
    sock: socket.socket
    address: Address


class Shard(NamedTuple):
    """Which of a worker's slots belong to a host: those whose remainder is ``number`` when divided by the hosts."""

    number: int = 0
    hosts: int = 1


ALL_SLOTS = Shard()


class Kept(NamedTuple):
    """A relay that the host opened because a task asked. The next host serves it at the same address."""

    target: Target
    address: Address
    sock: socket.socket


class Supervisor:
    """One worker's driver host. The worker's main process calls everything except ``enter`` and ``leave``.

    ``name`` is the worker's name, for people. Raises BadSetting if the runtime folder cannot be used, OSError if the
    system has no more sockets.
    """

    def __init__(self, settings: Settings, upstreams: Upstreams, environment: Mapping[str, str],
                 name: str = "", shard: Shard = ALL_SLOTS) -> None:
        self.folder = make_folder(settings.runtime_dir)
        self.unfit: str | None = None
        self._owner = os.getpid()
        self._settings = settings
        self._name = name
        self._shard = shard
        self._upstreams = upstreams
        self._host_environment = host_environment(environment)
        self._life = HostLife(Patience(settings.start_timeout, settings.drain_timeout))
        self._pid = 0
        self._host: Spawned | None = None
        self._endpoints: list[Endpoint] = []
        self._kept: dict[tuple[int, int], Kept] = {}
        self._slots = 0
        self._lost_ports: set[int] = set()
        self._announced = 0
        self._reason = "it has not been started"
        self._has_started = False
        self._words: deque[Event] = deque()
        self._actions: deque[Action] = deque()
        self._settled = threading.Event()
        self._stopping = threading.Event()
        self._trouble = 0
        self._look_at = 0.0
        self._has_lost_folder = False
        self._watcher = threading.Thread(target=self._watch, name="worker-init-supervisor", daemon=True)
        try:
            self._status_socket = listen_for_status(self.folder)
            self._wakes, self._wake_up = socket.socketpair()
        except OSError:
            remove_folder(self.folder)
            raise
        for end in (self._wakes, self._wake_up):
            end.setblocking(False)

    def __repr__(self) -> str:
        return (f"driver host {self._pid}: {self._slots} slots (scope {self._settings.scope}) for "
                f"{', '.join(map(repr, self._upstreams.targets)) or 'what tasks ask for'}, folder {self.folder}")

    # In the worker's main process

    @property
    def restarts(self) -> int:
        """How many hosts have been started after the first."""
        return self._life.restarts

    @property
    def is_refusing(self) -> bool:
        """Whether tasks are refused, and so should not be told of a host."""
        return self._life.is_refusing

    @property
    def reason(self) -> str:
        """Why there is no host."""
        return self.unfit or self._reason

    def start(self, slots: int) -> bool:
        """Start the host with a driver for each slot, and wait for it. False: there is none, and ``reason`` says why.

        A host that is merely slow counts as started: its clients wait in the listening sockets.
        """
        return self.begin(slots) and self.wait()

    def begin(self, slots: int) -> bool:
        """Start the host without waiting for it. Return False if it cannot be started."""
        self.ensure(slots)
        if not self._slots:
            self._reason = "there are no sockets for its drivers"
            return False
        self._leave_word(Event.START)
        try:
            self._watcher.start()
        except RuntimeError as error:
            self._reason = f"no thread can be started to look after it: {error}"
            return False
        return True

    def wait(self) -> bool:
        """Wait until the host serves, or proves to be merely slow. Return False if there is none."""
        self._settled.wait(self._settings.start_timeout)
        self._has_started = not self._life.is_refusing
        return self._has_started

    def ensure(self, slots: int) -> None:
        """Make sure that there are at least so many slots: the pool is about to grow. Never waits for the host."""
        number, hosts = self._shard
        wanted = 1 if self._settings.scope == "shared" else max(-(-(slots - number) // hosts), 1)
        for at in range(self._slots, wanted):
            slot = at * hosts + number
            try:
                # If tasks are refused now, the next host listens on it.
                self._endpoints.extend(_endpoints(slot, len(self._upstreams.targets),
                                                  listens=not self._life.is_refusing))
            except OSError as error:
                log.warning("slot %d of the pool has no socket, and uses another slot's: %s", slot, error)
                break
            self._slots = at + 1
        self._leave_word(Event.GROWN)

    def environment(self, index: int) -> dict[str, str]:
        """Return the variables for a pool process of this index. Empty if tasks are refused."""
        slot = self.slot_of(index)
        addresses = [endpoint.address for endpoint in [*self._endpoints]
                     if endpoint.slot == slot and endpoint.address.port not in self._lost_ports]
        if self._life.is_refusing or len(addresses) < len(self._upstreams.targets):
            return {}
        return self._upstreams.environment(addresses, self.unshared)

    @property
    def unshared(self) -> dict[int, str]:
        """The upstreams of the environment that tasks connect to by themselves: their numbers, and why."""
        return unshared(self.folder)

    @property
    def is_needed(self) -> bool:
        """Whether there is an upstream in the environment that tasks share."""
        return len(self.unshared) < len(self._upstreams.targets)

    def stop(self) -> None:
        """Let the host drain and end, then forget it. Doing it twice is fine."""
        self.begin_stop()
        self._join(self._settings.drain_timeout + 3 * END_SECONDS)
        self.kill()

    def begin_stop(self) -> None:
        """Let the host drain and end, without waiting for it."""
        self._stopping.set()
        self._leave_word(Event.STOP)

    def kill(self) -> None:
        """End the host at once."""
        self._stopping.set()
        self._leave_word(Event.KILL)
        self._join(2 * END_SECONDS)
        if not self._watcher.is_alive():
            self._kill_host()
        self._end()

    def status(self) -> dict[str, Any]:
        """Return the host's status, or what is known while it does not answer."""
        common = {"scope": self._settings.scope, "restarts": self.restarts}
        if self._life.state in (State.UNFIT, State.BROKEN):
            return common | {"state": "off", "last_error": self.reason}
        if self._life.is_refusing:
            return common | {"state": "down", "pid": self._pid, "last_error": self.reason}
        try:
            return common | read_status(self.folder, _STATUS_SECONDS)
        except WorkerInitError as error:
            return common | {"state": "down", "pid": self._pid, "last_error": str(error)}

    @property
    def _metrics_port(self) -> int | None:
        """Return the host's metrics port. Each host has its own; if any will do, the host finds one."""
        first = self._settings.metrics_port
        return first + self._shard.number if first else first

    def obey(self, command: Command) -> dict[str, Any]:
        """Send a command to the host; return its status. Raises WorkerInitError if it does not answer."""
        if self._life.is_refusing:
            raise WorkerInitError(f"there is no driver host: {self.reason}")
        return send_command(self.folder, command, _STATUS_SECONDS)

    def _join(self, seconds: float) -> None:
        if self._watcher.is_alive():
            self._watcher.join(seconds)

    def _leave_word(self, event: Event) -> None:
        """Send an event to the thread. A full socket has woken it already; without a socket there is no thread."""
        self._words.append(event)
        with suppress(OSError):
            self._wake_up.send(b"\0")

    # In a pool process

    def enter(self, index: int) -> None:
        """Claim the slot of this process's index, and close the inherited sockets of the worker."""
        self.let_go()
        try:
            slot_claims.claim(self.folder, self.slot_of(index))
        except OSError as error:
            log.warning("the driver host will not notice the end of this process, only its idle connections: %s", error)

    def let_go(self) -> None:
        """Close the worker's sockets that this process has inherited."""
        if os.getpid() != self._owner:
            self._close_sockets()

    def leave(self, index: int) -> None:
        """Withdraw this process's claim to its slot."""
        with suppress(OSError):  # the folder is gone, and the host sees the end of this process
            slot_claims.withdraw(self.folder, self.slot_of(index))

    def slot_of(self, index: int) -> int:
        """Return the slot for a pool process's index; it is one of this host's slots."""
        number, hosts = self._shard
        return index // hosts % max(self._slots, 1) * hosts + number

    def of(self, _: int) -> "Supervisor":
        """Return the supervisor of a pool process's host: there is only this one."""
        return self

    # In the thread: events

    def _watch(self) -> None:
        """Run the thread. However it ends, no task may wait for a host that nobody will replace."""
        try:
            while self._life.state is not State.STOPPED:
                self._survive(self._step)
        except Exception as error:
            log.exception("the supervisor of the driver host has failed; tasks are refused: restart the worker")
            self.unfit = f"its supervisor failed: {error!r}"
            self._life.feed(Event.TROUBLE, time.monotonic())
            self._kill_host()
            self._refuse()
        finally:
            self._settled.set()

    def _survive(self, step: Callable[[], None]) -> None:
        """Take a step, and again after a pause if a system call fails. Raises the error if it persists."""
        try:
            step()
        except _PASSING as error:
            self._trouble += 1
            if self._trouble > _MOST_TROUBLE:
                raise
            log.warning("the supervisor of the driver host tries again: %r", error)
            self._stopping.wait(_TROUBLE_SECONDS)
        else:
            self._trouble = 0

    def _step(self) -> None:
        """Carry out an action that is due; if none is, wait for an event."""
        if self._actions:
            self._act(self._actions[0])
            self._actions.popleft()
        elif self._words:
            self._feed(self._words.popleft())
        else:
            self._wait()
            self._look()

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._wakes, select.POLLIN)
        wait_until = [self._look_at]
        if self._trouble:
            # The step that failed may already have consumed what poll would report.
            wait_until.append(0.0)
        if self._life.deadline is not None:
            wait_until.append(self._life.deadline)
        if host := self._host:
            host.register(poll)
            if host.needs_looking_at:
                wait_until.append(time.monotonic() + _PROCESS_SECONDS)
        poll.poll(max(0.0, min(wait_until) - time.monotonic()) * 1000 + 1)

    def _look(self) -> None:
        """Find out what has happened."""
        with suppress(BlockingIOError):
            while self._wakes.recv(4096):
                pass
        now = time.monotonic()
        if self._host:
            self._look_at_host(self._host)
        if self._life.deadline is not None and now >= self._life.deadline:
            self._feed(Event.TIME)
        if now >= self._look_at:
            self._look_at = now + _FOLDER_SECONDS
            if not has_status(self.folder):
                self._feed(Event.FOLDER_GONE)

    def _look_at_host(self, host: Spawned) -> None:
        was_open, has_ended = not host.channel_is_closed, host.poll()
        # After checking whether the host has ended: its last message says why.
        is_ready = host.exchange()
        self._take_note(host)
        if is_ready and self._life.state is not State.STOPPED:
            self._feed(Event.READY)
        if has_ended:
            self._forget(host)
        elif was_open and host.channel_is_closed:
            self._feed(Event.CHANNEL_CLOSED)

    def _take_note(self, host: Spawned) -> None:
        """Keep the sockets of relays that a host has opened, and close those of relays that it has closed."""
        told, host.told = host.told, []
        for message, descriptors in told:
            key = message["slot"], message["at"]
            if message["kind"] == "opened":
                if sock := _socket_of(descriptors, message["port"]):
                    self._kept[key] = Kept(Target(*message["target"]),
                                           Address.of(sock, Credentials(*message["credentials"])), sock)
            elif key in self._kept:
                self._kept[key].sock.close()
                del self._kept[key]

    def _forget(self, host: Spawned) -> None:
        self._host = None
        host.close()
        is_unfit = host.code == UNFIT_EXIT_CODE
        self._reason = host.reason or f"the driver host ended with {host.how}"
        if is_unfit:
            self.unfit = self._reason
        self._feed(self._life.ended(time.monotonic(), unfit=is_unfit), f"{host.pid} ended ({host.how})")

    def _feed(self, event: Event, detail: str = "") -> None:
        before = self._life.state
        self._actions.extend(self._life.feed(event, time.monotonic()))
        if self._life.state is not before:
            self._report(before, detail)
        if self._life.state in SETTLED:
            self._settled.set()

    def _report(self, before: State, detail: str) -> None:
        """Log what an operator must know."""
        match self._life.state:
            case State.SLOW:
                log.warning("the driver host is not ready after %g s; tasks wait for it", self._settings.start_timeout)
            case State.DEAD:
                log.error("the driver host %s; starting another in %g s", detail, self._life.pause)
            case State.DOWN if self._has_started and before not in REFUSING:
                log.error("no driver host can be started; tasks are refused until one can be: %s", self.reason)
            case State.UNFIT if self.restarts:
                log.error("the driver host cannot serve any more, tasks are refused: restart the worker (%s)",
                          self.unfit)
            case State.SERVING:
                log.info("the driver host %d serves %d drivers, folder %s", self._pid, len(self._endpoints),
                         self.folder)
            case _:
                pass

    # In the thread: actions

    def _act(self, action: Action) -> None:
        {Action.SPAWN: self._spawn, Action.INTRODUCE: self._introduce, Action.ANNOUNCE: self._announce,
         Action.REFUSE: self._refuse, Action.LISTEN: self._listen, Action.MOVE: self._move,
         Action.TELL_STOP: self._tell_stop, Action.KILL: self._kill_host, Action.END: self._end}[action]()

    def _spawn(self) -> None:
        try:
            self._host = self._host or Spawned.start(self._host_environment, self.folder)
        except _PASSING as error:
            self._reason = f"the driver host cannot be started: {error}"
            self._feed(self._life.ended(time.monotonic()), f"cannot be started ({error})")
            return
        self._pid = self._host.pid
        self._feed(Event.SPAWNED)

    def _introduce(self) -> None:
        """Send everything to a host: it may be the first one, or a replacement."""
        if self._host:
            self._host.channel.put(self._settings_message(), self._status_socket)
            self._announced = 0
            self._announce()
            for (slot, at), kept in self._kept.items():
                self._host.channel.put({
                    "kind": "driver", "slot": slot, "at": at, "target": list(kept.target),
                    "credentials": list(kept.address.credentials), "was_asked_for": True}, kept.sock)
            self._host.channel.put({"kind": "ready"})

    def _settings_message(self) -> dict[str, Any]:
        settings = self._settings
        limits = {name: getattr(settings, name) for name in
                  ("max_size", "acquisition_timeout", "max_lifetime", "idle_timeout", "liveness_check")}
        return {"kind": "settings", "limits": limits, "connection_timeout": settings.connection_timeout,
                "logon_timeout": settings.logon_timeout, "max_upstreams": settings.max_upstreams,
                "folder": str(self.folder), "drain_timeout": settings.drain_timeout,
                "metrics_port": self._metrics_port, "metrics_host": settings.metrics_host, "worker": self._name}

    def _announce(self) -> None:
        """Tell the host about the endpoints that it does not know. The main process may add some at any moment."""
        if not self._host:
            return
        for endpoint in self._endpoints[self._announced:]:
            self._announced += 1
            if endpoint.address.port in self._lost_ports:
                continue
            target, credentials = self._upstreams.targets[endpoint.at], endpoint.address.credentials
            self._host.channel.put({"kind": "driver", "slot": endpoint.slot, "at": endpoint.at,
                                    "target": list(target), "credentials": list(credentials)}, endpoint.sock)

    def _tell_stop(self) -> None:
        if self._host:
            self._host.channel.put({"kind": "stop"})

    def _move(self) -> None:
        """Create a folder and a status socket after somebody has removed them. Tasks are served meanwhile."""
        try:
            self.folder = renew_folder(self.folder)
            self._status_socket = listen_for_status(self.folder)
        except (BadSetting, OSError) as error:
            if not self._has_lost_folder:
                log.warning("the folder %s is gone, and there is no other: no status can be read (%s)", self.folder,
                            error)
            self._has_lost_folder = True
            return
        self._has_lost_folder = False
        set_refusing(self.folder, refusing=self.is_refusing)
        log.warning("the runtime folder or its socket was removed; it is %s now", self.folder)
        if self._host:
            self._host.channel.put({"kind": "folder", "folder": str(self.folder)}, self._status_socket)

    def _refuse(self) -> None:
        """Refuse all clients, those that wait and those to come. The ports stay with this worker."""
        set_refusing(self.folder, refusing=True)
        for endpoint in self._listening:
            try:
                _close_to_clients(endpoint.sock, endpoint.address.port)
            except OSError as error:
                log.warning("port %d is lost: %s", endpoint.address.port, error)
                self._lost_ports.add(endpoint.address.port)

    def _listen(self) -> None:
        set_refusing(self.folder, refusing=False)
        for endpoint in self._listening:
            if endpoint.address.port not in self._lost_ports:
                endpoint.sock.listen(_BACKLOG)

    @property
    def _listening(self) -> list[Endpoint | Kept]:
        """Return everything that tasks connect to. The main process may add some at any moment."""
        return [*self._endpoints, *self._kept.values()]

    def _kill_host(self) -> None:
        if self._host:
            self._host.kill()

    def _end(self) -> None:
        """Clean up everything. Doing it twice is fine."""
        self._close_sockets()
        remove_folder(self.folder)

    def _close_sockets(self) -> None:
        if host := self._host:
            host.close()
        for sock in (self._status_socket, self._wakes, self._wake_up):
            sock.close()
        for endpoint in self._listening:
            endpoint.sock.close()


def _endpoints(slot: int, count: int, *, listens: bool) -> list[Endpoint]:
    """Return a slot's endpoints, all or none. Raises OSError if the system has no more sockets."""
    with ExitStack() as stack:
        made = [Endpoint(slot, at, sock, Address.of(sock, Credentials.random()))
                for at, sock in enumerate(stack.enter_context(_bound(listens=listens)) for _ in range(count))]
        stack.pop_all()
        return made


def _socket_of(descriptors: list[int], port: int) -> socket.socket | None:
    """Return the socket of a port that a host has sent; None if there are too many open files to receive it."""
    for descriptor in descriptors:
        sock = socket.socket(fileno=descriptor)
        if sock.getsockname()[1] == port:
            sock.set_inheritable(False)
            return sock
        sock.close()
    log.warning("too many open files: the address 127.0.0.1:%d will not outlive its driver host", port)
    return None


def _bound(*, listens: bool) -> socket.socket:
    sock = socket.socket()
    try:
        sock.bind(("127.0.0.1", 0))
        if listens:
            sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _close_to_clients(sock: socket.socket, port: int) -> None:
    """Stop listening, even if another process has inherited the socket, but keep the port.

    When listening stops, a port that the kernel chose is given up; a port that was asked for is not.
    """
    # On Linux, a socket that is shut down while it does not listen passes its end on to every later connection.
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return
    sock.shutdown(socket.SHUT_RDWR)
    try:
        sock.bind(("127.0.0.1", port))
    except OSError as error:
        if error.errno != errno.EINVAL:     # it is still bound
            raise
