"""What the kernel knows of sockets: a second witness beside the servers themselves."""

from typing import Any

import psutil

from rig.stack.processes import Started

Address = tuple[str, int]


def listening(started: Started, kind: str = "inet") -> set[Address]:
    """Return the addresses on which a process and its children listen, for TCP and UDP alike, or ``kind`` alone."""
    sockets = [socket for process in _family(started) for socket in _sockets(process, kind)]
    # Java opens sockets that could speak both versions of IP: the prefix says that they speak the older one.
    return {(socket.laddr.ip.removeprefix("::ffff:"), socket.laddr.port) for socket in sockets
            if socket.status in {psutil.CONN_LISTEN, psutil.CONN_NONE}}


def accepted(server: Started, port: int) -> int:
    """Return how many connections to a port are established at the side of the server."""
    return sum(socket.status == psutil.CONN_ESTABLISHED and socket.laddr.port == port
               for socket in psutil.Process(server.pid).net_connections("tcp"))


def arguments(started: Started) -> str:
    """Return what everybody on the machine can read of a process and its children."""
    return "\n".join(" ".join(_arguments(process)) for process in _family(started))


def _family(started: Started) -> list[psutil.Process]:
    leader = psutil.Process(started.pid)
    return [leader, *leader.children(recursive=True)]


def _sockets(process: psutil.Process, kind: str) -> list[Any]:
    try:
        return list(process.net_connections(kind))
    except psutil.NoSuchProcess:    # Postgres has children that come and go
        return []


def _arguments(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:    # as above
        return []
