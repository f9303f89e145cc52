"""A driver host's process, as the worker holds it: started without a fork, watched and killed without its pid.

The worker may fork its pool at any moment. A process descriptor always stands for the same process, but the pid of a
process that has been reaped may belong to another one.
"""

import os
import select
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from worker_init.channel import Channel, ChannelClosed, DescriptorLost

MODULE = "worker_init.host_process"
# The exit code of a host whose self-test ran and failed: another host would fail as well.
UNFIT_EXIT_CODE = 3
# The exit code of a host that could not start on this machine at this moment.
FAILED_EXIT_CODE = 1
_PACKAGE = Path(__file__).resolve().parent
# Nothing is imported from the working folder, and nothing comes before the standard library. The folder that contains
# the package is put last on the path. The package itself is the worker's own, even if there is another one on the path.
_BOOT = """
import sys
sys.path[:] = [entry for entry in sys.path if entry]
from importlib.util import module_from_spec, spec_from_file_location
module, parent, worker, runtime_folder = sys.argv[1:]
if parent not in sys.path:
    sys.path.append(parent)
folder = parent + "/worker_init"
spec = spec_from_file_location("worker_init", folder + "/__init__.py", submodule_search_locations=[folder])
sys.modules["worker_init"] = package = module_from_spec(spec)
spec.loader.exec_module(package)
from importlib import import_module
sys.exit(import_module(module).main(int(worker), runtime_folder))
"""


class Spawned:
    """A host's process and this end of its channel.

    ``code`` is its exit code once it has ended; None if somebody else has reaped it. ``reason`` is its own explanation
    of why it cannot serve.
    """

    def __init__(self, pid: int, channel: Channel) -> None:
        self.pid = pid
        self.channel = channel
        self.channel_is_closed = False
        self.reason = ""
        self.code: int | None = None
        # What it has said about relays that it opened and closed because a task asked. If a descriptor was lost, one
        # message has none, or that of another message; so the receiver compares the port.
        self.told: list[tuple[dict[str, Any], list[int]]] = []
        self._is_ready = False
        self._has_ended = False
        self._descriptor = _descriptor_of(pid)

    @classmethod
    def start(cls, environment: Mapping[str, str], folder: Path) -> "Spawned":
        """Start a host. Raises OSError if the system cannot."""
        mine, theirs = socket.socketpair()
        with theirs:
            try:
                mine.setblocking(False)
                pid = os.posix_spawn(sys.executable, _command(os.getpid(), folder), environment,
                                     file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0)], setpgroup=0)
            except BaseException:
                mine.close()
                raise
        return cls(pid, Channel(mine))

    @property
    def how(self) -> str:
        """How the process ended."""
        if self.code is None:
            return "an exit code that nobody knows"
        return f"exit code {self.code}" if self.code >= 0 else signal.Signals(-self.code).name

    @property
    def needs_looking_at(self) -> bool:
        """Whether the process must be polled again and again, because nothing reports news."""
        return self._descriptor is None or self.channel.is_held_up

    def register(self, poll: "select.poll") -> None:
        """Register with a poll object: for the process's end, for its messages, and for room to send."""
        if self._descriptor is not None:
            poll.register(self._descriptor, select.POLLIN)
        if not self.channel_is_closed:
            waits_for_room = self.channel.has_more and not self.channel.is_held_up
            poll.register(self.channel.fileno(), select.POLLIN | select.POLLOUT * waits_for_room)

    def exchange(self) -> bool:
        """Send and receive what is possible, without waiting. Return True if the host has said that it is ready."""
        if self.channel_is_closed:
            return False
        try:
            self.channel.flush()
        except ChannelClosed:
            self.channel_is_closed = True
        try:
            while messages := self._receive():
                for message, descriptors in messages:
                    self._take(message, descriptors)
        except ChannelClosed:
            self.channel_is_closed = True
        is_news, self._is_ready = self._is_ready, False
        return is_news

    def _receive(self) -> list[tuple[dict[str, Any], list[int]]]:
        """Return what has arrived. A socket that this process had no descriptor for is not kept: see ``told``."""
        while True:
            with suppress(DescriptorLost):
                return self.channel.receive()

    def _take(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if message["kind"] == "ready":
            self._is_ready = True
        elif message["kind"] in ("opened", "closed"):
            self.told.append((message, descriptors))
        else:
            self.reason = message["reason"]

    def poll(self) -> bool:
        """Whether the process has ended."""
        if self._has_ended:
            return True
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            # Another part of the worker has reaped it.
            self._has_ended = True
            return True
        if pid:
            self.code = os.waitstatus_to_exitcode(status)
            self._has_ended = True
        return self._has_ended

    def kill(self) -> None:
        """Kill this process and no other: a process that is not reaped keeps its pid."""
        with suppress(ProcessLookupError):
            if self._descriptor is not None:
                signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)
            elif not self.poll():
                os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Close this end. The process is not touched."""
        self.channel.close()
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def host_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the worker's environment without variables that would put its working folder on the module path."""
    entries = environment.get("PYTHONPATH", "").split(os.pathsep)
    path = os.pathsep.join(entry for entry in entries if Path(entry).is_absolute())
    return {**environment, "PYTHONPATH": path}


def _command(worker: int, folder: Path) -> list[str]:
    safe = ["-P"] if sys.version_info >= (3, 11) else []
    return [sys.executable, *safe, "-c", _BOOT, MODULE, str(_PACKAGE.parent), str(worker), str(folder)]


def _descriptor_of(pid: int) -> int | None:
    """Return a process descriptor; None if there is none, and the process must be polled again and again."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None
