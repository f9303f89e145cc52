"""A host's runtime folder: only its owner can enter it, and reads the host's status from a socket in it.

Others may also create names in the folder above it. So a name alone is never trusted: this module ignores anything that
is not a folder of this user's own, closed to everybody else.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import socket
import stat
import struct
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from worker_init.commands import Command
from worker_init.errors import BadSetting, WorkerInitError

log = logging.getLogger(__name__)

CONTROL_SOCKET = "control"
# While this file is in the folder, the host answers nobody, and nobody needs to wait for it.
_REFUSING = "refusing"
# While this file is in the folder, the host is paused, and so is one that replaces it.
_PAUSED = "paused"
# The upstreams of the worker's environment that tasks connect to by themselves, and why.
_UNSHARED = "unshared"
_VARIABLE = "WORKER_INIT_RUNTIME_DIR"
_FOLDER_PREFIX = "worker-init-"
# The longest path of a Unix socket that the kernel accepts, without the zero at its end.
_LONGEST_PATH = 103 if sys.platform == "darwin" else 107
_NAME_LETTERS = 8       # of a runtime folder's name: random ones, or those of a hash
# Why a folder cannot be taken.
_TAKEN, _NOT_OWN = "another driver host has it", "it is not a folder of this user's alone"


def make_folder(parent: Path) -> Path:
    """Return a new folder that nobody else can enter. Raises BadSetting if it cannot be created."""
    parent = _fit(parent)
    try:
        return Path(tempfile.mkdtemp(prefix=_prefix(), dir=parent))
    except OSError as error:
        raise BadSetting(f"{_VARIABLE}={parent} cannot be used: {error.strerror}. "
                         "Set it to a folder that this user may write to") from None


@contextmanager
def folder_for(parent: Path, environment_file: Path | None) -> Iterator[Path]:
    """Yield a runtime folder, and remove it when the block ends.

    For the same environment file it is the same folder each time: those who know it find the next host in it, however
    the first one ended. It is another folder, and a warning says why, if that one cannot be used: a host that runs has
    it, it is not this user's alone, or the system refuses. Raises BadSetting if no folder can be created.
    """
    usual = folder_of(parent, environment_file) if environment_file else None
    with ExitStack() as stack:
        refusal = _take(usual, stack) if usual else None
        folder = usual if usual and not refusal else make_folder(parent)
        stack.callback(remove_folder, folder)
        if refusal:
            log.warning("the folder %s cannot be used: %s. So this host has %s, and tasks that know only the first one "
                        "do not find it", usual, refusal, folder)
        yield folder


def folder_of(parent: Path, environment_file: Path) -> Path:
    """Return the path of the runtime folder that belongs to an environment file.

    Raises BadSetting if a socket in it would have too long a path.
    """
    name = hashlib.sha256(os.fsencode(environment_file.absolute())).hexdigest()[:_NAME_LETTERS]
    return _fit(parent) / (_prefix() + name)


def _take(folder: Path, stack: ExitStack) -> str | None:
    """Lock a folder, which need not exist, until the stack ends, and empty it. Return the reason if it cannot be."""
    try:
        with ExitStack() as attempt:
            folder.mkdir(mode=0o700, exist_ok=True)
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            attempt.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)    # the system unlocks it, however this process ends
            # The host before this one may have removed the folder since it was opened.
            if not os.path.samestat(os.fstat(lock), folder.lstat()):
                return _TAKEN
            if not is_private(folder):
                return _NOT_OWN
            if refusal := _empty(folder):
                return refusal
            stack.push(attempt.pop_all())
            return None
    except BlockingIOError:
        return _TAKEN
    except OSError as error:
        return _NOT_OWN if os.path.lexists(folder) and not is_private(folder) else error.strerror


def _empty(folder: Path) -> str | None:
    """Remove what a host that was killed has left: the next one is not paused. Return the reason if it cannot be."""
    for left in folder.iterdir():
        try:
            left.unlink()
        except OSError as error:
            return f"{left.name!r} in it cannot be removed: {error.strerror}"
    return None


def _prefix() -> str:
    return f"{_FOLDER_PREFIX}{os.getuid()}-"


def _fit(parent: Path) -> Path:
    """Return the absolute path of a folder for runtime folders. Raises BadSetting if it is too long."""
    parent = parent.absolute()
    length = len(os.fsencode(parent / (_prefix() + "x" * _NAME_LETTERS) / CONTROL_SOCKET))
    if length > _LONGEST_PATH:
        raise BadSetting(f"{_VARIABLE}={parent} is too long: a socket in it would have a path of {length} bytes, "
                         f"and {_LONGEST_PATH} are allowed. Set it to a shorter path")
    return parent


def renew_folder(folder: Path) -> Path:
    """Return the folder after somebody has removed it, or another one beside it if its name has been taken meanwhile.

    Raises BadSetting if it cannot be created.
    """
    try:
        folder.mkdir(mode=0o700)
    except OSError:
        return folder if is_private(folder) else make_folder(folder.parent)
    return folder


def remove_folder(folder: Path) -> None:
    """Remove a runtime folder and its contents."""
    # The worker and its host may both be removing it when they end together.
    if is_private(folder):
        shutil.rmtree(folder, ignore_errors=True)


def is_private(folder: Path) -> bool:
    """Whether this is a folder of this user's own that is closed to everybody else. Links are not followed."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def has_status(folder: Path) -> bool:
    """Whether a folder is private and has a status socket."""
    try:
        return is_private(folder) and stat.S_ISSOCK((folder / CONTROL_SOCKET).lstat().st_mode)
    except OSError:
        return False


def listen_for_status(folder: Path) -> socket.socket:
    """Return a listening socket in the folder. Raises OSError if it cannot be created."""
    path = folder / CONTROL_SOCKET
    sock = socket.socket(socket.AF_UNIX)
    try:
        path.unlink(missing_ok=True)
        sock.bind(str(path))
        sock.listen(16)
    except OSError:
        sock.close()
        raise
    return sock


def set_refusing(folder: Path, *, refusing: bool) -> None:
    """Say whether tasks should not ask this folder's host at all, because there is none and none is about to serve."""
    with suppress(OSError):     # the folder is gone, which has the same effect
        _set_mark(folder / _REFUSING, wanted=refusing)


def _set_mark(mark: Path, *, wanted: bool) -> None:
    if wanted:
        mark.touch(mode=0o600)
    else:
        mark.unlink(missing_ok=True)


def set_paused(folder: Path, *, paused: bool) -> None:
    """Make the next host of a folder begin paused, or not. Raises OSError if the folder cannot be written."""
    _set_mark(folder / _PAUSED, wanted=paused)


def is_paused(folder: Path) -> bool:
    """Whether a host of this folder begins paused."""
    return (folder / _PAUSED).exists()


def set_unshared(folder: Path, why: Mapping[int, str]) -> None:
    """Say which upstreams of the environment tasks connect to by themselves, and why. Raises OSError on failure."""
    if not why:
        (folder / _UNSHARED).unlink(missing_ok=True)
        return
    part = folder / f"{_UNSHARED}.part"
    part.write_text(json.dumps(why), encoding="utf-8")
    part.replace(folder / _UNSHARED)


def unshared(folder: Path) -> dict[int, str]:
    """Return which upstreams of the worker's environment tasks connect to by themselves, and why."""
    try:
        text = (folder / _UNSHARED).read_text(encoding="utf-8")
    except OSError:
        return {}
    return {int(at): why for at, why in json.loads(text).items()}


def is_refusing(folder: Path) -> bool:
    """Whether tasks should not ask this folder's host."""
    return (folder / _REFUSING).exists()


def find_folders(parent: Path) -> list[Path]:
    """Return the runtime folders of this user's workers."""
    try:
        names = sorted(os.listdir(parent))  # noqa: PTH208 - a glob would look into folders that others have created
    except OSError:
        return []
    return [folder for folder in (parent / name for name in names if name.startswith(_prefix())) if has_status(folder)]


def read_status(folder: Path, timeout: float) -> dict[str, Any]:
    """Ask a host for its status. Raises WorkerInitError if it does not answer within ``timeout`` seconds."""
    return _ask(folder, b"", timeout)


def send_command(folder: Path, command: Command, timeout: float) -> dict[str, Any]:
    """Send a command to a host; return its status after it has obeyed.

    Raises WorkerInitError if it does not answer within ``timeout`` seconds, or if it refuses.
    """
    answer = _ask(folder, command.line(), timeout)
    if "refused" in answer:
        raise WorkerInitError(answer["refused"])
    return answer


def _ask(folder: Path, question: bytes, timeout: float) -> dict[str, Any]:
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(timeout)
            sock.connect(str(folder / CONTROL_SOCKET))
            check_peer(sock)
            sock.sendall(question)
            sock.shutdown(socket.SHUT_WR)
            with sock.makefile("rb") as answer:
                status: dict[str, Any] = json.loads(answer.read())
                return status
    except (OSError, ValueError) as error:
        raise WorkerInitError(f"no driver host answers in {folder}: {error}") from error


def check_peer(sock: socket.socket) -> None:
    """Raise OSError if another user answers. macOS does not say; there the folder's mode is the only protection."""
    if not hasattr(socket, "SO_PEERCRED"):
        return
    _, user, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    if user != os.getuid():
        raise PermissionError(f"it is the socket of user {user}")
