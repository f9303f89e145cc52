"""What a client may be offered, and what is agreed."""

import pytest

from worker_init.errors import ProtocolViolation
from worker_init.handshake import MAGIC, REFUSAL, Negotiation, Version, offers_of

MANIFEST = MAGIC + b"\x00\x00\x01\xff\x00\x08\x08\x05\x00\x02\x04\x04\x00\x00\x00\x03"
OFFERS = offers_of(Version(6, 1))


def test_a_manifest_lets_the_client_choose() -> None:
    negotiation = Negotiation()
    for byte in MANIFEST:
        negotiation.feed(bytes((byte,)))
    assert negotiation.wants_offers
    assert negotiation.answer(OFFERS) == b"\x00\x00\x01\xff\x04\x00\x00\x01\x06\x00\x00\x00\x06\x00\x00\x08\x05" \
                                         b"\x00\x00\x07\x05\x00"
    negotiation.feed(b"\x00\x00\x00\x06\x00HELLO")
    assert negotiation.version == (6, 0)
    assert negotiation.rest == b"HELLO"


def test_a_client_without_manifest_gets_the_newest_that_fits() -> None:
    negotiation = Negotiation()
    negotiation.feed(MAGIC + b"\x00\x08\x08\x05" + b"\x00" * 12 + b"HELLO")
    assert negotiation.answer(OFFERS) == b"\x00\x00\x08\x05"
    assert (negotiation.version, negotiation.rest) == ((5, 8), b"HELLO")


def test_an_older_client_is_refused() -> None:
    negotiation = Negotiation()
    negotiation.feed(MAGIC + b"\x00\x04\x04\x05\x00\x02\x04\x04" + b"\x00" * 8)
    assert negotiation.answer(OFFERS) == REFUSAL
    assert negotiation.refused


def test_a_choice_that_was_not_offered_is_refused() -> None:
    negotiation = Negotiation()
    negotiation.feed(MANIFEST + b"\x00\x00\x04\x04\x00")
    negotiation.answer(OFFERS)
    assert negotiation.refused


def test_other_protocols_are_noticed_at_once() -> None:
    with pytest.raises(ProtocolViolation):
        Negotiation().feed(b"GET")


@pytest.mark.parametrize(("upstream", "offered"), [
    (Version(6, 1), ["6.1", "6.0", "5.8", "5.7"]), (Version(5, 8), ["5.8", "5.7"]), (Version(5, 7), ["5.7"]),
    (Version(5, 4), ["5.4"]), (Version(5, 0), ["5.0"]),
    (Version(4, 4), ["4.4"]), (Version(4, 3), []), (None, ["6.1", "6.0", "5.8", "5.7"])])
def test_a_client_is_offered_what_its_upstream_can_serve(upstream: Version | None, offered: list[str]) -> None:
    assert [str(version) for version in offers_of(upstream)] == offered
