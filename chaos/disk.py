"""A disk that can be made full: a file system in memory (tmpfs), if this user may mount one.

A quota or a limit on file sizes (``RLIMIT_FSIZE``) causes a different error from a full disk, and affects each process
separately. So if nothing can be mounted, the fault is left out, and the reason is printed.
"""

import errno
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

ROOM = 4 * 2**30        # bytes; `rig doctor` wants 2 GiB, and memory is only used for what is written
PROBE = ".is-there-room"
PAGE = os.sysconf("SC_PAGE_SIZE")
TRIES = 20


class Disk:
    """A separate file system, mounted on a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self) -> None:
        """Leave no room for another byte. Raises RuntimeError if that fails."""
        for _ in range(TRIES):      # what is written meanwhile makes the disk larger than the size about to be set
            with suppress(subprocess.CalledProcessError):
                _mount("-o", f"remount,size={self.used}", str(self.folder))
                if self.is_full():
                    return
        raise RuntimeError(f"the disk of the chaos suite cannot be filled: {self.folder}")

    def make_room(self) -> None:
        """Give the disk its original room again."""
        _mount("-o", f"remount,size={ROOM}", str(self.folder))

    @property
    def used(self) -> int:
        """Return how many bytes are used."""
        found = os.statvfs(self.folder)
        return max(PAGE, (found.f_blocks - found.f_bfree) * found.f_frsize)

    def is_full(self) -> bool:
        """Whether a file of one byte is refused for lack of room."""
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
    """Mount a disk on a folder, which is created if needed. Everything on the disk is deleted at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    # 755: if this is root, Postgres runs as another user, who needs access.
    _mount("-t", "tmpfs", "-o", f"size={ROOM},mode=755", "chaos", str(folder))
    try:
        yield Disk(folder)
    finally:
        # Lazily: a process that still has a file open there must not prevent the rest of the cleanup.
        subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)


@cache
def refusal() -> str | None:
    """Return the reason why no disk can be mounted here, in one line; None if one can."""
    try:
        with tempfile.TemporaryDirectory() as folder, mounted(Path(folder) / "disk"):
            return None
    except (OSError, subprocess.CalledProcessError) as error:
        said = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
        return f"no tmpfs can be mounted here: {' '.join(str(said).split())}"


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True, text=True)
