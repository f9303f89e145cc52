"""How a task asks its driver host for the address of an upstream: a line of JSON each way, over the control socket.

A request holds a password. So the socket is in a folder that no other user can enter, the host answers only its own
user, and neither side logs what it has read.
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
# A restarted host answers after a second or two. A host that does not answer must not hold up a task.
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
    """Return the host's answer. None means that the task's connection already leads to one of the host's own relays."""
    if address is None:
        return {"is_local": True}
    return {"host": address.host, "port": address.port, "credentials": list(address.credentials)}


def ask(folder: Path, request: AddressRequest, timeout: float = ANSWER_SECONDS) -> Address | None:
    """Return the address for an upstream, or None if the target is already a relay's own address.

    Raises NoAddress if the host refuses, or if no host answers within ``timeout`` seconds.
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
    """The process at the other end of a Unix socket. ``pid`` is 0 if it is unknown or in another namespace."""

    pid: int
    user: int


def peer_of(writer: asyncio.StreamWriter) -> Peer:
    """Return the process that has connected. macOS does not say; there the folder's mode is the only protection."""
    if not hasattr(socket, "SO_PEERCRED"):
        return Peer(0, os.getuid())
    found = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, user, _ = struct.unpack("3i", found)
    return Peer(pid, user)
