"""How the worker and its driver host talk: JSON lines over Unix sockets, file descriptors beside them.

The worker keeps one end of a socket pair, the host has the other as its standard input. What the
host is to know goes this way (secrets never are process arguments), and so do the listening sockets.
Whoever may enter the runtime folder can read the host's status from a socket in it.
"""

import json
import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any

from worker_init.errors import WorkerInitError

CONTROL_SOCKET = "control"
# How a host ends whose self-test failed: another one would fail as well.
UNFIT_EXIT_CODE = 3
_FOLDER_PREFIX = "worker-init-"
_MOST_BYTES = 1024 * 1024
_MOST_DESCRIPTORS = 64


class ChannelClosed(WorkerInitError):
    """The other end of the channel is gone."""


class Channel:
    """One end of the pair. ``receive`` returns what has arrived; descriptors belong to the receiver."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._text = b""
        self._descriptors: list[int] = []

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._sock.fileno()

    def send(self, message: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
        """Send a message. Raises ChannelClosed where nobody reads it any more."""
        line = json.dumps(message | {"descriptors": len(descriptors)}).encode() + b"\n"
        try:
            sent = socket.send_fds(self._sock, [line], list(descriptors)) if descriptors else 0
            self._sock.sendall(line[sent:])
        except OSError as error:
            raise ChannelClosed(str(error)) from error

    def receive(self) -> list[tuple[dict[str, Any], list[int]]]:
        """Return the messages that are complete. Raises ChannelClosed at the end."""
        try:
            text, descriptors, _, _ = socket.recv_fds(self._sock, _MOST_BYTES, _MOST_DESCRIPTORS)
        except OSError as error:
            raise ChannelClosed(str(error)) from error
        if not text:
            raise ChannelClosed("closed")
        self._descriptors += descriptors
        *lines, self._text = (self._text + text).split(b"\n")
        return [self._with_descriptors(json.loads(line)) for line in lines]

    def _with_descriptors(self, message: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        count = message.pop("descriptors", 0)
        mine, self._descriptors = self._descriptors[:count], self._descriptors[count:]
        return message, mine

    def close(self) -> None:
        """Close this end."""
        self._sock.close()


def make_folder(parent: Path) -> Path:
    """Return a new folder that nobody else can enter."""
    return Path(tempfile.mkdtemp(prefix=f"{_FOLDER_PREFIX}{os.getuid()}-", dir=parent))


def remove_folder(folder: Path) -> None:
    """Remove a runtime folder with what is in it."""
    # The worker and its host may both be at it when they end together.
    shutil.rmtree(folder, ignore_errors=True)


def listen_for_status(folder: Path) -> socket.socket:
    """Return a listening socket in the folder."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(folder / CONTROL_SOCKET))
    sock.listen(16)
    return sock


def find_folders(parent: Path) -> list[Path]:
    """Return the runtime folders of this user's workers."""
    folders = sorted(parent.glob(f"{_FOLDER_PREFIX}{os.getuid()}-*"))
    return [folder for folder in folders if folder.stat().st_uid == os.getuid() and (folder / CONTROL_SOCKET).exists()]


def read_status(folder: Path, timeout: float) -> dict[str, Any]:
    """Ask a host for its status. Raises WorkerInitError where none answers within so many seconds."""
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(timeout)
            sock.connect(str(folder / CONTROL_SOCKET))
            with sock.makefile("rb") as answer:
                status: dict[str, Any] = json.loads(answer.read())
                return status
    except (OSError, ValueError) as error:
        raise WorkerInitError(f"no driver host answers in {folder}: {error}") from error
