"""Notices that a client is gone while nothing is read from it.

An event loop that does not read from a socket does not see its end either. There are two cases. If the end has arrived,
after bytes that are not read, the kernel reports it: epoll's RDHUP once, poll's whenever it is asked. If the client was
killed while it had more to send than fits into the socket, its end is queued after those bytes on the other side, and
never arrives. But that side is on this machine, so the kernel can be asked about it: the socket of a process that is
gone is closing (sock_diag(7), which ``ss`` uses too).
"""

import asyncio
import select
import socket
import struct
from collections.abc import Callable
from typing import NamedTuple

# Linux has all three. On other systems, the end of such a client is noticed when it is read from again.
_RDHUP: int = getattr(select, "POLLRDHUP", 0)
_NETLINK: int | None = getattr(socket, "AF_NETLINK", None)
_SOCK_DIAG = 4
_BY_FAMILY = 20
_REQUEST = 1
_NO_SUCH_SOCKET = 2     # as an error, in place of a description
_ANY_STATE = _NO_COOKIE = 0xFFFFFFFF
_STATE_AT = 17
# In every state except ESTABLISHED and CLOSE_WAIT, no process is left that could send or read.
_CLOSING = frozenset((4, 5, 6, 7, 9, 11))
_LOOK_SECONDS = 0.2
# A check takes 25 µs for each socket. However many there are, the checks take at most a tenth of the time.
_SECONDS_EACH = 0.00025


class _Watched(NamedTuple):
    on_end: Callable[[], None]
    question: bytes


class EndWatch:
    """The sockets of one host that are not read from. The first one to be watched opens two descriptors for all."""

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None
        self._netlink: socket.socket | None = None
        self._watched: dict[int, _Watched] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, sock: socket.socket, on_end: Callable[[], None]) -> None:
        """Call ``on_end`` once when the other side has ended the connection, unless ``forget`` comes first."""
        if not _RDHUP:
            return
        if not self._epoll:
            self._epoll = select.epoll()
            asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._notice)
            self._netlink = _open_netlink()
        descriptor = sock.fileno()
        if descriptor not in self._watched:
            self._epoll.register(descriptor, select.EPOLLRDHUP)
        self._watched[descriptor] = _Watched(on_end, _question(sock))
        if self._netlink and not self._timer:
            self._look_later()

    def forget(self, descriptor: int) -> None:
        """Stop watching a descriptor. It must still be open, or closed for good."""
        if self._watched.pop(descriptor, None) and self._epoll:
            try:
                self._epoll.unregister(descriptor)
            except OSError:
                # Closed: the kernel has removed it already.
                return

    def is_gone(self, descriptor: int) -> bool:
        """Whether the other side of a watched connection is gone, even if bytes from it are still unread."""
        watched = self._watched.get(descriptor)
        if not (watched and self._netlink):
            return False
        try:
            self._netlink.send(watched.question)
            answer = self._netlink.recv(1024)
        except OSError:
            return False
        kind, = struct.unpack_from("=H", answer, 4)
        if kind == _BY_FAMILY:
            return answer[_STATE_AT] in _CLOSING
        error, = struct.unpack_from("=i", answer, 16)
        return bool(-error == _NO_SUCH_SOCKET)

    def close(self) -> None:
        """Give the descriptors back."""
        if self._timer:
            self._timer.cancel()
        if self._epoll:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
        if self._netlink:
            self._netlink.close()
        self._epoll = self._netlink = self._timer = None
        self._watched.clear()

    def _notice(self) -> None:
        for descriptor, _ in self._epoll.poll(0) if self._epoll else ():
            self._ended(descriptor)

    def _look_later(self) -> None:
        seconds = max(_LOOK_SECONDS, len(self._watched) * _SECONDS_EACH)
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        for descriptor in [*self._watched]:
            if self.is_gone(descriptor):
                self._ended(descriptor)
        if self._watched:
            self._look_later()

    def _ended(self, descriptor: int) -> None:
        watched = self._watched.get(descriptor)
        self.forget(descriptor)
        if watched:
            watched.on_end()


def _open_netlink() -> socket.socket | None:
    """Return a socket for questions to the kernel; None if that is not allowed."""
    if _NETLINK is None:
        return None
    try:
        opened = socket.socket(_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _SOCK_DIAG)
        opened.settimeout(1.0)
        opened.connect((0, 0))
    except OSError:
        return None
    return opened


def _question(sock: socket.socket) -> bytes:
    """Return the message that asks for the other side's socket, whose address is this one's peer."""
    (own, own_port), (peer, peer_port) = sock.getsockname()[:2], sock.getpeername()[:2]
    asked = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, _ANY_STATE)
    asked += struct.pack(">HH4s12x4s12x", peer_port, own_port, socket.inet_aton(peer), socket.inet_aton(own))
    asked += struct.pack("=III", 0, _NO_COOKIE, _NO_COOKIE)
    return struct.pack("=IHHII", 16 + len(asked), _BY_FAMILY, _REQUEST, 1, 0) + asked


def ends_of(descriptor: int) -> Callable[[int], list[tuple[int, int]]]:
    """Return a function that reports, after at most so many milliseconds, whether a connection's end has arrived.

    It returns an empty list if not. Bytes in front of the end do not matter. The function is poll(2) itself, because it
    is called before each write to a server.
    """
    asked = select.poll()
    asked.register(descriptor, _RDHUP)
    return asked.poll
