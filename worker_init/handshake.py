"""The server's side of Bolt's version negotiation: the four proposals and the manifest.

A relay can only offer what its upstream speaks. Bolt 5.7 to 6.1 differ in the values that they carry and in the version
itself, but not in the messages that the relay follows. So an upstream that speaks the newest of them serves clients of
each. Before 5.7 a FAILURE has another form, so such an upstream serves only its own version.
"""

from functools import cache
from typing import NamedTuple

from worker_init.errors import ProtocolViolation

MAGIC = b"\x60\x60\xb0\x17"
_OPENING_SIZE = 20
REFUSAL = b"\x00\x00\x00\x00"
MANIFEST = b"\x00\x00\x01\xff"
_LONGEST_CAPABILITIES = 10


class Version(NamedTuple):
    """A version of Bolt."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


# From newest to oldest. A client is never offered a version that is newer than its upstream's.
INTERCHANGEABLE = (Version(6, 1), Version(6, 0), Version(5, 8), Version(5, 7))
# Before this version, HELLO and LOGON are one message.
LOGON = Version(5, 1)
# ROUTE begins with 4.3, and failures that name a user with 4.4. Neo4j 4.4 is the oldest server that drivers support.
OLDEST = Version(4, 4)


def offers_of(upstream: Version | None) -> tuple[Version, ...]:
    """Return the versions that clients are offered over an upstream of this version; None if it is not known yet."""
    if upstream is None:
        return INTERCHANGEABLE
    if upstream in INTERCHANGEABLE:
        return INTERCHANGEABLE[INTERCHANGEABLE.index(upstream):]
    return (upstream,) if upstream >= OLDEST else ()


class Negotiation:
    """One client's negotiation: feed it bytes until ``version`` or ``refused`` is set.

    ``rest`` holds the bytes that the client sent after its part of the negotiation.
    """

    def __init__(self) -> None:
        self.version: Version | None = None
        self.refused = False
        self._buffer = b""
        self._offers: tuple[Version, ...] | None = None

    @property
    def wants_offers(self) -> bool:
        """Whether the proposals have arrived and ``answer`` must be called next."""
        return self._offers is None and len(self._buffer) >= _OPENING_SIZE

    @property
    def rest(self) -> bytes:
        """The bytes that the client sent after the negotiation, once the negotiation is over."""
        return self._buffer

    def feed(self, block: bytes) -> None:
        """Handle bytes that the client sent. Raises ProtocolViolation if they are not Bolt."""
        self._buffer += block
        if self._offers is not None and not (self.version or self.refused):
            self._read_choice(self._offers)
        elif self._offers is None and self._buffer[:4] != MAGIC[:len(self._buffer)]:
            raise ProtocolViolation("the peer does not speak Bolt")

    def answer(self, offers: tuple[Version, ...]) -> bytes:
        """Return the reply to the proposals. With a manifest, the client chooses."""
        opening, self._buffer = self._buffer[:_OPENING_SIZE], self._buffer[_OPENING_SIZE:]
        proposals = [opening[at:at + 4] for at in range(4, _OPENING_SIZE, 4)]
        self._offers = offers
        if MANIFEST in proposals and offers:
            self._read_choice(offers)
            return _manifest(offers)
        self.version = _chosen(proposals, offers)
        self.refused = self.version is None
        return bytes((0, 0, self.version.minor, self.version.major)) if self.version else REFUSAL

    def _read_choice(self, offers: tuple[Version, ...]) -> None:
        """Read four bytes of version, then capabilities as a number of variable length."""
        end = next((at for at in range(4, len(self._buffer)) if self._buffer[at] < 0x80), None)
        if end is None:
            if len(self._buffer) > 4 + _LONGEST_CAPABILITIES:
                raise ProtocolViolation("the client's capabilities do not end")
            return
        version = Version(self._buffer[3], self._buffer[2])
        self.refused = version not in offers
        self.version = None if self.refused else version
        self._buffer = self._buffer[end + 1:]


@cache
def _manifest(offers: tuple[Version, ...]) -> bytes:
    versions = b"".join(bytes((0, 0, offer.minor, offer.major)) for offer in offers)
    return MANIFEST + bytes((len(offers),)) + versions + b"\x00"


def _chosen(proposals: list[bytes], offers: tuple[Version, ...]) -> Version | None:
    """Return the newest offer in the first proposal that has one: a proposal is a range of minors."""
    for _, span, minor, major in proposals:
        fitting = [offer for offer in offers if offer.major == major and minor - span <= offer.minor <= minor]
        if fitting:
            return max(fitting)
    return None
