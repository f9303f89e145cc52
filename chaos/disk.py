"""A disk that can be made full: a file system in memory (tmpfs), where this user may mount one.

A quota or a limit on the size of a file (``RLIMIT_FSIZE``) is another error than a full disk, and strikes each process
by itself. So where nothing can be mounted the fault is left out, and the reason is said.
"""

import errno
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

ROOM = 4 * 2**30        # bytes; `rig doctor` wants 2 GiB, and memory is taken for what is written alone
PROBE = ".is-there-room"
PAGE = os.sysconf("SC_PAGE_SIZE")
TRIES = 20


class Disk:
    """A file system of its own on a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self) -> None:
        """Leave no room for another byte. Raises RuntimeError where that cannot be done."""
        for _ in range(TRIES):      # what is written meanwhile makes the disk larger than it is about to be
            with suppress(subprocess.CalledProcessError):
                _mount("-o", f"remount,size={self.used}", str(self.folder))
                if self.is_full():
                    return
        raise RuntimeError(f"the disk of the chaos suite cannot be filled: {self.folder}")

    def make_room(self) -> None:
        """Have as much room as at the beginning."""
        _mount("-o", f"remount,size={ROOM}", str(self.folder))

    @property
    def used(self) -> int:
        """Return the bytes that are taken."""
        found = os.statvfs(self.folder)
        return max(PAGE, (found.f_blocks - found.f_bfree) * found.f_frsize)

    def is_full(self) -> bool:
        """Say whether a file of one byte is refused because there is no room."""
        probe = self.folder / PROBE
        try:
            probe.write_bytes(b"?")
        except OSError as error:
            return error.errno == errno.ENOSPC
        finally:
            probe.unlink(missing_ok=True)
        return False


@contextmanager
def mounted(folder: Path) -> Iterator[Disk]:
    """Give a disk on a folder, which is made where it is not there; what is on it is gone at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    # 755: as root Postgres is another user, who has to come through.
    _mount("-t", "tmpfs", "-o", f"size={ROOM},mode=755", "chaos", str(folder))
    try:
        yield Disk(folder)
    finally:
        # Lazily: a process that still has a file open there does not keep the rest from being cleaned up.
        subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)


@cache
def refusal() -> str | None:
    """Say why no disk can be mounted here, in one line; None where one can."""
    try:
        with tempfile.TemporaryDirectory() as folder, mounted(Path(folder) / "disk"):
            return None
    except (OSError, subprocess.CalledProcessError) as error:
        said = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
        return f"no tmpfs can be mounted here: {' '.join(str(said).split())}"


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True, text=True)
