"""The driver host beside a Celery worker, as a process. :mod:`worker_init.spawned` starts it.

Its standard input is one end of a :class:`~worker_init.channel.Channel`. The process ends when it is told to, or when
the worker ends. It does not matter how the worker ends, or which process still holds the other end of the channel.
"""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker_init.channel import Channel, ChannelClosed, DescriptorLost
from worker_init.control import remove_folder
from worker_init.errors import BadSetting, SelfTestNotRun, UnfitDriver, is_of_the_driver
from worker_init.event_loop import run
from worker_init.spawned import FAILED_EXIT_CODE, UNFIT_EXIT_CODE
from worker_init.targets import Credentials, Target

if TYPE_CHECKING:
    from worker_init.host import Host

log = logging.getLogger(__name__)
_POLL_SECONDS = 1.0


class HostProcess:
    """A driver host that obeys its channel. ``worker`` is the pid of the process that started it."""

    def __init__(self, channel: Channel, worker: int, folder: Path) -> None:
        self._channel = channel
        self._worker = worker
        self._host: Host | None = None
        self._inbox: asyncio.Queue[tuple[dict[str, Any], list[int]]] = asyncio.Queue()
        self._folder = folder
        self._drain_limit = 0.0
        self._is_orphan = False
        self._trouble: DescriptorLost | None = None

    async def run(self) -> int:
        """Serve until told to stop; return the process's exit code."""
        # First of all: if the worker ends while the driver is being tested, nobody else would end this process.
        watch_parent(self._worker, lambda: self._stop("the worker's end"))
        try:
            return await self._serve()
        except (UnfitDriver, BadSetting) as error:
            return self._give_up(UNFIT_EXIT_CODE, error)
        except (SelfTestNotRun, DescriptorLost, OSError) as error:
            return self._give_up(FAILED_EXIT_CODE, error)
        finally:
            if self._is_orphan or os.getppid() != self._worker:
                remove_folder(self._folder)

    async def _serve(self) -> int:
        await _check_driver()
        from worker_init.host import prepare_process  # noqa: PLC0415 - after the check of the driver
        prepare_process()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._channel.fileno(), self._read)
        loop.add_signal_handler(signal.SIGTERM, self._stop, "SIGTERM")
        while (message := await self._inbox.get())[0]["kind"] != "stop":
            await self._act(*message)
        if self._host:
            await self._host.drain(self._drain_limit)
        if self._trouble:
            raise self._trouble
        return 0

    def _give_up(self, code: int, error: Exception) -> int:
        """Tell the worker why this host cannot serve."""
        log.error("the driver host cannot serve: %s", error)
        with suppress(ChannelClosed):   # the worker has ended
            self._channel.send({"kind": "reason", "reason": str(error)})
        return code

    async def _act(self, message: dict[str, Any], descriptors: list[int]) -> None:
        from worker_init.host import Host, HostSettings  # noqa: PLC0415 - after the check of the driver
        kind = message["kind"]
        if kind == "settings":
            settings = HostSettings.from_message(message)
            self._drain_limit, self._folder = message["drain_timeout"], settings.folder
            self._host = Host(settings, tell=self._tell)
            await self._host.serve_status(socket.socket(fileno=descriptors[0]))
        elif kind == "driver" and self._host:
            open_ = self._host.open_again if message.get("was_asked_for") else self._host.open
            await open_(message["slot"], message["at"], Target(*message["target"]),
                                  Credentials(*message["credentials"]), socket.socket(fileno=descriptors[0]))
        elif kind == "folder" and self._host:
            self._folder = Path(message["folder"])
            await self._host.move(self._folder, socket.socket(fileno=descriptors[0]))
        elif kind == "ready" and self._host:
            await self._host.look_at_servers()
            self._say_ready()

    def _tell(self, message: dict[str, Any], *sockets: socket.socket) -> None:
        """Tell the worker about a relay that a task asked for: the worker keeps the socket."""
        self._channel.put(message, *sockets)
        with suppress(ChannelClosed):   # the worker has ended, and so will this host
            self._channel.flush()

    def _say_ready(self) -> None:
        try:
            self._channel.send({"kind": "ready"})
        except ChannelClosed as error:
            log.info("nobody waits for the host any more: %s", error)

    def _read(self) -> None:
        try:
            messages = self._channel.receive()
        except (ChannelClosed, DescriptorLost) as error:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            if isinstance(error, ChannelClosed):
                self._is_orphan = True
            else:
                self._trouble = error
            self._stop(f"the channel to the worker: {error}")
            return
        for received in messages:
            self._inbox.put_nowait(received)

    def _stop(self, why: str) -> None:
        log.info("stopping: %s", why)
        self._inbox.put_nowait(({"kind": "stop"}, []))


async def _check_driver() -> None:
    """Raise UnfitDriver if the installed driver has other internals, or if there is no driver."""
    try:
        from worker_init.selftest import check_driver  # noqa: PLC0415 - importing it is part of the check
        await check_driver()
    except (UnfitDriver, SelfTestNotRun):
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        if is_of_the_driver(error):
            raise UnfitDriver(f"this Neo4j driver cannot be shared ({what})") from error
        raise SelfTestNotRun(f"the Neo4j driver could not be tested ({what})") from error


def watch_parent(parent: int, on_end: Callable[[], None]) -> None:
    """Call ``on_end`` when the process that started this one has ended, in whatever way, even before this call."""
    loop = asyncio.get_running_loop()
    descriptor = None
    with suppress(AttributeError, OSError):     # no process descriptors here, or none left, or the parent is gone
        descriptor = os.pidfd_open(parent)
    if os.getppid() != parent:
        on_end()
    elif descriptor is None:
        loop.call_later(_POLL_SECONDS, watch_parent, parent, on_end)
    else:
        loop.add_reader(descriptor, _ended, loop, descriptor, on_end)


def _ended(loop: asyncio.AbstractEventLoop, descriptor: int, on_end: Callable[[], None]) -> None:
    loop.remove_reader(descriptor)
    os.close(descriptor)
    on_end()


def main(worker: int, folder: str) -> int:
    """Run a host whose standard input is its channel; return its exit code."""
    channel = Channel(socket.socket(fileno=os.dup(0)))
    return run(_run(channel, worker, Path(folder)))


async def _run(channel: Channel, worker: int, folder: Path) -> int:
    return await HostProcess(channel, worker, folder).run()
