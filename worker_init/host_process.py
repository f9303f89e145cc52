"""The driver host beside a Celery worker: ``python -m worker_init.host_process``.

The worker's supervisor starts it, with one end of a :class:`~worker_init.control.Channel` as its
standard input. It ends when it is told to, or when the worker does, however that ends.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker_init.control import UNFIT_EXIT_CODE, Channel, ChannelClosed, remove_folder
from worker_init.errors import BadSetting, UnfitDriver
from worker_init.event_loop import run
from worker_init.targets import Credentials, Target

if TYPE_CHECKING:
    from worker_init.host import Host

log = logging.getLogger(__name__)
_POLL_SECONDS = 1.0


class HostProcess:
    """A driver host that does what comes over its channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._host: Host | None = None
        self._inbox: asyncio.Queue[tuple[dict[str, Any], list[int]]] = asyncio.Queue()
        self._folder: Path | None = None
        self._drain_limit = 0.0

    async def run(self) -> int:
        """Serve until told to stop; return the process's exit code."""
        try:
            await _check_driver()
        except UnfitDriver as error:
            return self._give_up(f"this Neo4j driver cannot be shared ({error})")
        from worker_init.host import prepare_process  # noqa: PLC0415 - after the check of the driver
        prepare_process()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._channel.fileno(), self._read)
        loop.add_signal_handler(signal.SIGTERM, self._stop, "SIGTERM")
        watch_parent(lambda: self._stop("the worker's end", remove=True))
        try:
            await self._obey()
        except BadSetting as error:
            return self._give_up(str(error))
        return 0

    def _give_up(self, reason: str) -> int:
        """Say why this host cannot serve, nor any other with the same settings."""
        self._channel.send({"kind": "unfit", "reason": reason})
        return UNFIT_EXIT_CODE

    async def _obey(self) -> None:
        while True:
            message, descriptors = await self._inbox.get()
            kind = message.pop("kind")
            if kind == "stop":
                break
            await self._act(kind, message, descriptors)
        if self._host:
            await self._host.drain(self._drain_limit)
        if message.get("remove") and self._folder:
            remove_folder(self._folder)

    async def _act(self, kind: str, message: dict[str, Any], descriptors: list[int]) -> None:
        from worker_init.host import Host, HostSettings  # noqa: PLC0415 - after the check of the driver
        if kind == "settings":
            settings = HostSettings.from_message(message)
            self._drain_limit, self._folder = message["drain_timeout"], settings.folder
            self._host = Host(settings)
            await self._host.serve_status(socket.socket(fileno=descriptors[0]))
        elif kind == "driver" and self._host:
            await self._host.open(message["slot"], message["at"], Target(*message["target"]),
                                  Credentials(*message["credentials"]), socket.socket(fileno=descriptors[0]))
        elif kind == "ready":
            self._say_ready()

    def _say_ready(self) -> None:
        try:
            self._channel.send({"kind": "ready"})
        except ChannelClosed as error:
            log.info("nobody waits for the host any more: %s", error)

    def _read(self) -> None:
        try:
            messages = self._channel.receive()
        except ChannelClosed:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            self._stop("the worker closed the channel", remove=True)
            return
        for received in messages:
            self._inbox.put_nowait(received)

    def _stop(self, why: str, *, remove: bool = False) -> None:
        log.info("stopping: %s", why)
        self._inbox.put_nowait(({"kind": "stop", "remove": remove}, []))


async def _check_driver() -> None:
    """Raise UnfitDriver where a driver is installed that has another inside, or none."""
    try:
        from worker_init.selftest import check_driver  # noqa: PLC0415 - importing it is part of the check
    except (ImportError, AttributeError) as error:
        raise UnfitDriver(f"{type(error).__name__}: {error}") from error
    await check_driver()


def watch_parent(on_end: Callable[[], None]) -> None:
    """Call when the process that started this one has ended, in whatever way."""
    loop, parent = asyncio.get_running_loop(), os.getppid()
    if not hasattr(os, "pidfd_open"):
        _poll_parent(loop, parent, on_end)
        return
    try:
        descriptor = os.pidfd_open(parent)
    except ProcessLookupError:
        on_end()
        return

    def ended() -> None:
        loop.remove_reader(descriptor)
        on_end()

    loop.add_reader(descriptor, ended)


def _poll_parent(loop: asyncio.AbstractEventLoop, parent: int, on_end: Callable[[], None]) -> None:
    """Where there are no process descriptors: an orphan has another parent."""
    if os.getppid() != parent:
        on_end()
    else:
        loop.call_later(_POLL_SECONDS, _poll_parent, loop, parent, on_end)


def main() -> int:
    """Run a host whose standard input is its channel."""
    channel = Channel(socket.socket(fileno=os.dup(0)))
    return run(_serve(channel))


async def _serve(channel: Channel) -> int:
    return await HostProcess(channel).run()


if __name__ == "__main__":
    sys.exit(main())
