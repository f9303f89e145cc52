"""What the kernel knows of sockets: a second witness beside the servers themselves."""

import psutil

from rig.stack.processes import Started

Address = tuple[str, int]


def listening(started: Started) -> set[Address]:
    """Return the addresses on which a process and its children listen, for TCP and UDP alike."""
    leader = psutil.Process(started.pid)
    sockets = [socket for process in (leader, *leader.children(recursive=True))
               for socket in process.net_connections("inet")]
    # Java opens sockets that could speak both versions of IP: the prefix says that they speak the older one.
    return {(socket.laddr.ip.removeprefix("::ffff:"), socket.laddr.port) for socket in sockets
            if socket.status in {psutil.CONN_LISTEN, psutil.CONN_NONE}}


def accepted(server: Started, port: int) -> int:
    """Return how many connections to a port are established at the side of the server."""
    return sum(socket.status == psutil.CONN_ESTABLISHED and socket.laddr.port == port
               for socket in psutil.Process(server.pid).net_connections("tcp"))


def arguments(started: Started) -> str:
    """Return what everybody on the machine can read of a process and its children."""
    leader = psutil.Process(started.pid)
    return "\n".join(" ".join(process.cmdline()) for process in (leader, *leader.children(recursive=True)))
