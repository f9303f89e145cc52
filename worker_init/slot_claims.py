"""Which pool process uses which slot, as files in the runtime folder.

A pool process says so by making a file, which cannot block, needs nobody to answer, and is still
there when the host is replaced.
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
    """Say that this process uses a slot."""
    (folder / f"slot-{slot}-{os.getpid()}").touch(mode=0o600)


def withdraw(folder: Path, slot: int) -> None:
    """Say that this process is done with it; saying it twice is fine."""
    (folder / f"slot-{slot}-{os.getpid()}").unlink(missing_ok=True)


class SlotClaims:
    """The host's view: the living processes of every slot. ``on_end`` is called with a slot nobody uses now."""

    def __init__(self, folder: Path, loop: AbstractEventLoop, on_end: Callable[[int], None]) -> None:
        self._folder = folder
        self._loop = loop
        self._on_end = on_end
        self._watched: dict[str, int] = {}
        self._users: Counter[int] = Counter()

    def processes(self, slot: int) -> list[int]:
        """Return the pids that use a slot."""
        return sorted(pid for user, pid in map(_parsed, self._watched) if user == slot)

    def is_watched(self, slot: int) -> bool:
        """Whether a slot is known to be used by a living process."""
        return self._users[slot] > 0

    def move(self, folder: Path) -> None:
        """Look in another folder from now on. Processes that are watched stay so, without a file there."""
        self._folder = folder

    def refresh(self) -> None:
        """Read the folder, and watch who is new. A folder that somebody has removed has nobody new.

        Where there are no process descriptors (macOS) nobody is watched, and the idle timeout has to do.
        """
        if not hasattr(os, "pidfd_open"):
            return
        try:
            # Without Celery there are none, and every new client asks: a glob would cost it a tenth of its time.
            names = os.listdir(self._folder)  # noqa: PTH208
        except OSError as error:
            log.debug("no claims can be read: %s", error)
            return
        for name in names:
            if name.startswith("slot-") and name not in self._watched:
                self._watch(name)

    def close(self) -> None:
        """Watch nobody any more."""
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
            # No more descriptors: this one is found at the next look.
            log.debug("pool process %d of slot %d is not watched: %s", pid, slot, error)
            return
        self._watched[name] = descriptor
        self._users[slot] += 1
        self._loop.add_reader(descriptor, self._ended, name)

    def _remove(self, name: str) -> None:
        with contextlib.suppress(OSError):      # the folder is gone, or read-only: the process is what counts
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
