"""Ports: a free one is chosen, unless the user has set one."""

import errno
import socket

from rig.errors import BadInput


def choose(wanted: int, *, variable: str, host: str = "127.0.0.1") -> int:
    """Return ``wanted``, or a free port where it is 0.

    Raises BadInput where the wanted port is in use, or where this user may not open it.
    """
    with socket.socket() as probe:
        # Without it a port whose last connections are in TIME_WAIT would count as in use.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, wanted))
        except OSError as error:
            raise BadInput(f"port {wanted} on {host} cannot be opened: {_why(error)}",
                           f"set {variable} to another port, or to 0 for a free one") from error
        return int(probe.getsockname()[1])


def _why(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program is using it"
    return error.strerror.lower() if error.strerror else str(error)


def is_open(host: str, port: int) -> bool:
    """Say whether somebody listens on a port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0
