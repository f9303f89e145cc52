"""Ports: a free one is chosen, unless the user has set one."""

import errno
import random
import socket
from collections.abc import Collection
from contextlib import suppress

from rig.errors import BadInput

# A system takes the ports of outgoing connections from a high range: Linux from 32768 (ip_local_port_range), macOS from
# 49152. A port from that range might be taken between the choice and the moment in which its service opens it.
_NOBODY_ELSES = range(20_000, 32_768)
_TRIES = 50


def choose(wanted: int, *, variable: str, host: str = "127.0.0.1", given: Collection[int] = (),
           in_a_row: int = 1) -> int:
    """Return ``wanted``, or a free port if it is 0, but none of those that were ``given`` to others.

    A free port is the first of so many ``in_a_row`` that are free. Raises BadInput if there is no such row, if the
    wanted port is in use, or if this user may not open it.
    """
    if wanted == 0:
        if first := _free(host, given, in_a_row):
            return first
        if in_a_row > 1:
            raise BadInput(f"{_TRIES} random tries found no {in_a_row} free ports in a row for {variable}, from "
                           f"{_NOBODY_ELSES[0]} to {_NOBODY_ELSES[-1]} on {host}",
                           "try again, or stop programs that listen there")
    try:
        return _opened(host, wanted)
    except OSError as error:
        raise BadInput(f"port {wanted} on {host} cannot be opened: {_why(error)}",
                       f"set {variable} to another port, or to 0 for a free one") from error


def _free(host: str, given: Collection[int], in_a_row: int) -> int | None:
    """Return the first of so many free ports in a row; None if no random try finds them."""
    firsts = _NOBODY_ELSES[:len(_NOBODY_ELSES) - in_a_row + 1]
    for port in random.SystemRandom().sample(firsts, min(_TRIES, len(firsts))):
        row = range(port, port + in_a_row)
        if not set(row).isdisjoint(given):
            continue
        with suppress(OSError):
            for each in row:
                _opened(host, each)
            return port
    return None


def _opened(host: str, port: int) -> int:
    """Open a port for a moment and return it; for 0, a free one. Raises OSError if it cannot be opened."""
    with socket.socket() as probe:
        # Otherwise, a port whose last connections are in TIME_WAIT would count as in use.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        return int(probe.getsockname()[1])


def _why(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program is using it"
    return error.strerror.lower() if error.strerror else str(error)


def is_open(host: str, port: int) -> bool:
    """Return whether a process listens on a port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0
