"""A client's machine without a relay: facts that are made up, and what the machine wants done."""

from typing import Any

from worker_init.actions import Action, ToClient, ToServer
from worker_init.bolt import Scanner, Tag, body_of, message
from worker_init.client import Client, Verdict
from worker_init.client_table import State
from worker_init.errors import UpstreamFailure
from worker_init.handshake import MAGIC, Version
from worker_init.packstream import pack
from worker_init.spool import Spool

VERSION = Version(5, 8)
OPENING = MAGIC + b"\x00\x00\x08\x05" + b"\x00" * 12
PASSWORD = "right"
HELLO = message(Tag.HELLO, {"user_agent": "x"})
RUN = message(Tag.RUN, "RETURN 1", {}, {})
PULL = message(Tag.PULL, {"n": -1})
BEGIN = message(Tag.BEGIN, {})
COMMIT = message(Tag.COMMIT)
RESET = message(Tag.RESET)
ROUTE = message(Tag.ROUTE, {}, [], {})
GOODBYE = message(Tag.GOODBYE)
SUCCESS = message(Tag.SUCCESS, {})
FAILURE = message(Tag.FAILURE, {"neo4j_code": "Neo.ClientError.Statement.SyntaxError"})
UNREACHABLE = UpstreamFailure("Neo.TransientError.General.DatabaseUnavailable", "away")


def logon(password: str = PASSWORD) -> bytes:
    return message(Tag.LOGON, {"scheme": "basic", "principal": "x", "credentials": password})


class MadeUp:
    """Facts that a test says."""

    address = "127.0.0.1:7688"
    logon_timeout = 15.0

    def __init__(self, *, offers: tuple[Version, ...] | None = (VERSION,), is_routed: bool = False,
                 recv_timeout: float | None = None, room: int = 1000, patches: frozenset[str] = frozenset()) -> None:
        self.offers = offers
        self.offers_unseen = (VERSION,)
        self.is_routed = is_routed
        self.recv_timeout = recv_timeout
        self.patches = patches
        self.spool: Spool[Client] = Spool(room)

    def greeting(self, _: Version) -> bytes | None:
        return b"\xb1\x70\xa1" + pack("connection_id") if self.offers else None

    def judge(self, token: dict[str, Any]) -> Verdict:
        if token.get("credentials") == PASSWORD:
            return Verdict(None)
        return Verdict(UpstreamFailure("Neo.ClientError.Security.Unauthorized", "no"), 2.0)


def client(*sent: bytes, **facts: Any) -> Client:
    """Return a client that has sent this; what was to be done for it has been done."""
    made = Client(MadeUp(**facts), "test")
    for block in sent:
        made.client_sent(block)
    made.actions.clear()
    return made


def ready(*, hello: bytes = HELLO, **facts: Any) -> Client:
    """Return a client that has logged on."""
    made = client(OPENING, hello + logon(), **facts)
    assert made.state is State.READY
    return made


def leased(*sent: bytes, **facts: Any) -> Client:
    """Return a client that has a connection for what it has sent."""
    made = ready(**facts)
    made.client_sent(b"".join(sent))
    made.granted(VERSION)
    return made


def taken(machine: Client) -> list[Action]:
    """Return what is to be done, and have it done."""
    actions, machine.actions = machine.actions, []
    return actions


def kinds(machine: Client) -> list[str]:
    """Return what is to be done, by name."""
    return [type(action).__name__ for action in taken(machine)]


def to_client(actions: list[Action]) -> list[int]:
    """Return the tags of the messages that go to the client."""
    return tags(b"".join(action.data for action in actions if isinstance(action, ToClient)))


def to_server(actions: list[Action]) -> bytes:
    """Return what goes to the server."""
    return b"".join(action.data for action in actions if isinstance(action, ToServer))


def tags(wire: bytes) -> list[int]:
    """Return the tags of messages."""
    return [piece.tag for piece in Scanner().feed(wire) if piece.last]


def bodies(wire: bytes) -> list[bytes]:
    """Return the bodies of messages."""
    scanner, found, whole = Scanner(), [], b""
    for piece in scanner.feed(wire):
        whole += scanner.block[piece.start:piece.stop]
        if piece.last:
            found.append(body_of(whole))
            whole = b""
    return found
