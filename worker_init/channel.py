"""How the worker and its driver host talk: JSON lines over a pair of Unix sockets, with descriptors attached.

The worker keeps one end; the other end is the host's standard input. Everything that the host must know goes this way,
including the listening sockets. Secrets are never process arguments.
"""

import errno
import json
import socket
from collections import deque
from typing import Any

from worker_init.errors import WorkerInitError

_MOST_BYTES = 1024 * 1024
_MOST_DESCRIPTORS = 64
# The kernel has no room at the moment: no memory, or too many descriptors in transit.
_HELD_UP = (errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS)


class ChannelClosed(WorkerInitError):
    """The other end of the channel is gone."""


class DescriptorLost(WorkerInitError):
    """This process could not receive a descriptor. The ones after it would be mistaken for others."""


class Channel:
    """One end of the pair. ``receive`` returns the messages that have arrived; the receiver owns their descriptors.

    ``send`` waits for the kernel if the socket is a blocking one. ``put`` and ``flush`` never wait.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._text = b""
        self._descriptors: list[int] = []
        self._outbox: deque[tuple[bytes, tuple[socket.socket, ...]]] = deque()
        # Whether the kernel has no room for descriptors or memory. A poll does not report this.
        self.is_held_up = False

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._sock.fileno()

    def send(self, message: dict[str, Any]) -> None:
        """Send a message. Raises ChannelClosed if nobody reads it any more."""
        try:
            self._sock.sendall(_line(message, 0))
        except OSError as error:
            raise ChannelClosed(str(error)) from error

    def put(self, message: dict[str, Any], *sockets: socket.socket) -> None:
        """Queue a message for the next ``flush``. The descriptors of ``sockets`` go with it."""
        self._outbox.append((_line(message, len(sockets)), sockets))

    @property
    def has_more(self) -> bool:
        """Whether there is something left to send."""
        return bool(self._outbox)

    def flush(self) -> None:
        """Send what the kernel takes now. Raises ChannelClosed if nobody reads it any more."""
        self.is_held_up = False
        while self._outbox:
            line, sockets = self._outbox[0]
            try:
                sent = socket.send_fds(self._sock, [line], [sock.fileno() for sock in sockets])
            except OSError as error:
                if isinstance(error, BlockingIOError) or error.errno in _HELD_UP:
                    self.is_held_up = not isinstance(error, BlockingIOError)
                    return
                raise ChannelClosed(str(error)) from error
            # The descriptors went out with the first byte.
            if sent == len(line):
                self._outbox.popleft()
            else:
                self._outbox[0] = line[sent:], ()

    def receive(self) -> list[tuple[dict[str, Any], list[int]]]:
        """Return the messages that are complete. Raises ChannelClosed at the end.

        Raises DescriptorLost if this process has too many open files, OSError if the kernel has no memory at the
        moment.
        """
        has_ended = self._take_in() == b""
        # Nothing is dropped before it has been read: after a failure for lack of memory, the caller tries again.
        *lines, rest = self._text.split(b"\n")
        messages = [json.loads(line) for line in lines]
        self._text = rest
        if has_ended and not messages:
            raise ChannelClosed("closed")
        return [self._with_descriptors(message) for message in messages]

    def _take_in(self) -> bytes | None:
        """Return what has arrived: empty at the end of the channel, None if there is nothing yet."""
        try:
            text, descriptors, flags, _ = socket.recv_fds(self._sock, _MOST_BYTES, _MOST_DESCRIPTORS)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno in _HELD_UP:
                raise
            raise ChannelClosed(str(error)) from error
        self._text += text
        self._descriptors += descriptors
        if flags & socket.MSG_CTRUNC:
            raise DescriptorLost("a descriptor did not arrive: this process has too many open files")
        return text

    def _with_descriptors(self, message: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        count = message.pop("descriptors", 0)
        mine, self._descriptors = self._descriptors[:count], self._descriptors[count:]
        return message, mine

    def close(self) -> None:
        """Close this end."""
        self._sock.close()


def _line(message: dict[str, Any], descriptors: int) -> bytes:
    return json.dumps(message | {"descriptors": descriptors}).encode() + b"\n"
