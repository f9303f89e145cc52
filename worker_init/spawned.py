"""A driver host's process, as the worker holds it: started without a fork, watched and killed without its pid.

The worker forks its pool at any moment. A process descriptor stands for one process forever, whereas a
pid that has been reaped may be a stranger's.
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
# How a host ends whose self-test ran and failed: another one would fail as well.
UNFIT_EXIT_CODE = 3
# How one ends that could not start on this machine at this moment.
FAILED_EXIT_CODE = 1
_PACKAGE = Path(__file__).resolve().parent
# Nothing of the working folder is imported, and nothing comes before the standard library: the folder in which the
# package lies is put last, and the package itself is the worker's own, wherever another one may lie.
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

    ``code`` is the exit code once it has ended, None where somebody else has reaped it. ``reason`` is why it
    cannot serve, in its own words.
    """

    def __init__(self, pid: int, channel: Channel) -> None:
        self.pid = pid
        self.channel = channel
        self.channel_is_closed = False
        self.reason = ""
        self.code: int | None = None
        # What it has said of relays that it opened and closed because a task asked. Where a descriptor was lost, one
        # message has none, or that of another: who takes it compares the port.
        self.told: list[tuple[dict[str, Any], list[int]]] = []
        self._is_ready = False
        self._has_ended = False
        self._descriptor = _descriptor_of(pid)

    @classmethod
    def start(cls, environment: Mapping[str, str], folder: Path) -> "Spawned":
        """Start a host. Raises OSError where the system cannot."""
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
        """How it ended."""
        if self.code is None:
            return "an exit code that nobody knows"
        return f"exit code {self.code}" if self.code >= 0 else signal.Signals(-self.code).name

    @property
    def needs_looking_at(self) -> bool:
        """Whether it has to be asked for again and again, because nothing says that there is news."""
        return self._descriptor is None or self.channel.is_held_up

    def register(self, poll: "select.poll") -> None:
        """Have a poll object wait for its end, for what it says, and for room for what it is told."""
        if self._descriptor is not None:
            poll.register(self._descriptor, select.POLLIN)
        if not self.channel_is_closed:
            waits_for_room = self.channel.has_more and not self.channel.is_held_up
            poll.register(self.channel.fileno(), select.POLLIN | select.POLLOUT * waits_for_room)

    def exchange(self) -> bool:
        """Send what goes and take what came; never wait. True: it has said that it is ready."""
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
        """Return what has come. A socket for which this process has no descriptor left is not kept: see ``told``."""
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
        """Whether it has ended."""
        if self._has_ended:
            return True
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            # Somebody else in the worker has reaped it.
            self._has_ended = True
            return True
        if pid:
            self.code = os.waitstatus_to_exitcode(status)
            self._has_ended = True
        return self._has_ended

    def kill(self) -> None:
        """Kill it, and nobody else: a process that is not reaped keeps its pid."""
        with suppress(ProcessLookupError):
            if self._descriptor is not None:
                signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)
            elif not self.poll():
                os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Let go of it. The process is not touched."""
        self.channel.close()
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def host_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the worker's environment without what would put its working folder on the module path."""
    entries = environment.get("PYTHONPATH", "").split(os.pathsep)
    path = os.pathsep.join(entry for entry in entries if Path(entry).is_absolute())
    return {**environment, "PYTHONPATH": path}


def _command(worker: int, folder: Path) -> list[str]:
    safe = ["-P"] if sys.version_info >= (3, 11) else []
    return [sys.executable, *safe, "-c", _BOOT, MODULE, str(_PACKAGE.parent), str(worker), str(folder)]


def _descriptor_of(pid: int) -> int | None:
    """Return a process descriptor, or None: where there is none the process is asked for again and again."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None
