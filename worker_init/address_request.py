"""How a task asks its driver host for the address of an upstream: a line of JSON each way, over the control socket.

A request holds a password. So the socket is in a folder that nobody else can enter, the host answers its own user
alone, and neither side logs what it has read.
"""

import asyncio
import json
import os
import socket
import struct
from pathlib import Path
from typing import Any, NamedTuple

from worker_init.control import CONTROL_SOCKET, check_peer, is_refusing
from worker_init.errors import WorkerInitError
from worker_init.targets import Address, Credentials, Target

# More than a URI, a name and a password or a token can have.
MOST_BYTES = 64 * 1024
# A host that is started again answers after a second or two; one that does not answer must not hold a task up.
ANSWER_SECONDS = 5.0


class NoAddress(WorkerInitError):
    """The driver host has no address for an upstream; the message says why."""


class AddressRequest(NamedTuple):
    """What a task asks for: an upstream, for its pool process's slot."""

    slot: int
    target: Target

    @classmethod
    def parse(cls, line: bytes) -> "AddressRequest":
        """Read a request. Raises NoAddress, without what was read."""
        try:
            fields = json.loads(line)
            slot, (uri, username, password) = fields["slot"], fields["target"]
        except (ValueError, TypeError, KeyError):
            raise NoAddress("the request cannot be read") from None
        if not isinstance(slot, int) or slot < 0 or {type(uri), type(username), type(password)} != {str}:
            raise NoAddress("the request cannot be read")
        return cls(slot, Target(uri, username, password))

    def line(self) -> bytes:
        """Return the request as it is sent."""
        return json.dumps({"slot": self.slot, "target": self.target}).encode() + b"\n"


def answer_of(address: Address | None) -> dict[str, Any]:
    """Return the host's answer; None: the task's connection leads to one of the host's own relays already."""
    if address is None:
        return {"is_local": True}
    return {"host": address.host, "port": address.port, "credentials": list(address.credentials)}


def ask(folder: Path, request: AddressRequest, timeout: float = ANSWER_SECONDS) -> Address | None:
    """Return the address for an upstream; None where the target is a relay's own address already.

    Raises NoAddress where the host refuses, or where none answers within so many seconds.
    """
    if is_refusing(folder):
        raise NoAddress("the driver host cannot serve at present")
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(timeout)
            sock.connect(str(folder / CONTROL_SOCKET))
            check_peer(sock)
            sock.sendall(request.line())
            with sock.makefile("rb") as answer:
                return _read(json.loads(answer.read(MOST_BYTES)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NoAddress(f"no driver host answers in {folder} ({type(error).__name__}: {error})") from None


def _read(answer: dict[str, Any]) -> Address | None:
    if "refused" in answer:
        raise NoAddress(answer["refused"])
    if answer.get("is_local"):
        return None
    return Address(answer["host"], answer["port"], Credentials(*answer["credentials"]))


class Peer(NamedTuple):
    """Who is at the other end of a Unix socket. ``pid`` 0: unknown, or in another namespace."""

    pid: int
    user: int


def peer_of(writer: asyncio.StreamWriter) -> Peer:
    """Return who has connected. macOS does not tell: there the folder's mode has to do."""
    if not hasattr(socket, "SO_PEERCRED"):
        return Peer(0, os.getuid())
    found = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, user, _ = struct.unpack("3i", found)
    return Peer(pid, user)
