"""Which pool process uses which slot, as files in the runtime folder.

A pool process claims a slot by creating a file. That cannot block, needs nobody to answer, and the file is still there
when the host is replaced.
"""

import contextlib
import logging
import os
from asyncio import AbstractEventLoop
from collections import Counter
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)


def claim(folder: Path, slot: int) -> None:
    """Claim a slot for this process."""
    (folder / f"slot-{slot}-{os.getpid()}").touch(mode=0o600)


def withdraw(folder: Path, slot: int) -> None:
    """Withdraw this process's claim. Doing it twice is fine."""
    (folder / f"slot-{slot}-{os.getpid()}").unlink(missing_ok=True)


class SlotClaims:
    """The host's view: the living processes of every slot. ``on_end`` is called with a slot that is not used now."""

    def __init__(self, folder: Path, loop: AbstractEventLoop, on_end: Callable[[int], None]) -> None:
        self._folder = folder
        self._loop = loop
        self._on_end = on_end
        self._watched: dict[str, int] = {}
        self._users: Counter[int] = Counter()

    def processes(self, slot: int) -> list[int]:
        """Return the pids of the processes that use a slot."""
        return sorted(pid for user, pid in map(_parsed, self._watched) if user == slot)

    def is_watched(self, slot: int) -> bool:
        """Whether a living process is known to use a slot."""
        return self._users[slot] > 0

    def move(self, folder: Path) -> None:
        """Look in another folder from now on. Processes that are watched stay watched, without a file there."""
        self._folder = folder

    def refresh(self) -> None:
        """Read the folder, and watch the new processes. If somebody has removed the folder, there are no new ones.

        Without process descriptors (on macOS) nobody is watched, and only the idle timeout closes connections.
        """
        if not hasattr(os, "pidfd_open"):
            return
        try:
            # Without Celery there are no claims, and this runs for every new client: a glob would cost it a tenth of
            # its time.
            names = os.listdir(self._folder)  # noqa: PTH208
        except OSError as error:
            log.debug("no claims can be read: %s", error)
            return
        for name in names:
            if name.startswith("slot-") and name not in self._watched:
                self._watch(name)

    def close(self) -> None:
        """Stop watching all processes."""
        for descriptor in self._watched.values():
            self._loop.remove_reader(descriptor)
            os.close(descriptor)
        self._watched.clear()

    def _watch(self, name: str) -> None:
        slot, pid = _parsed(name)
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            self._remove(name)
            self._on_end(slot)
            return
        except OSError as error:
            # No more descriptors: the next refresh finds this process.
            log.debug("pool process %d of slot %d is not watched: %s", pid, slot, error)
            return
        self._watched[name] = descriptor
        self._users[slot] += 1
        self._loop.add_reader(descriptor, self._ended, name)

    def _remove(self, name: str) -> None:
        with contextlib.suppress(OSError):      # the folder is gone or read-only; the process's end is what counts
            (self._folder / name).unlink(missing_ok=True)

    def _ended(self, name: str) -> None:
        self._remove(name)
        slot, pid = _parsed(name)
        descriptor = self._watched.pop(name)
        self._loop.remove_reader(descriptor)
        os.close(descriptor)
        self._users[slot] -= 1
        log.info("pool process %d of slot %d has ended", pid, slot)
        if not self._users[slot]:
            self._on_end(slot)


def _parsed(name: str) -> tuple[int, int]:
    _, slot, pid = name.split("-")
    return int(slot), int(pid)
