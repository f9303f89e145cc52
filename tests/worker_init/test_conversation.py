"""When a lease may end, and what a client may be offered."""

import pytest

from worker_init.bolt import Tag, body_of, message
from worker_init.conversation import Conversation, State
from worker_init.errors import ProtocolViolation
from worker_init.handshake import MAGIC, REFUSAL, Negotiation, Version, offers_of


def body(tag: Tag, **metadata: object) -> bytes:
    return body_of(message(tag, metadata))


def told(*exchange: object) -> Conversation:
    """Replay requests (tags) and summaries (a tag with its metadata)."""
    conversation = Conversation()
    for step in exchange:
        if isinstance(step, tuple):
            conversation.summary(step[0], body(step[0], **step[1]))
        else:
            assert isinstance(step, Tag)
            conversation.request(step)
    return conversation


Summary = tuple[Tag, dict[str, object]]
OK: Summary = (Tag.SUCCESS, {})
FAILED: Summary = (Tag.FAILURE, {})
IGNORED: Summary = (Tag.IGNORED, {})
MORE: Summary = (Tag.SUCCESS, {"has_more": True})

OVER = {
    "an auto-commit query": (Tag.RUN, Tag.PULL, OK, OK),
    "a query in two batches": (Tag.RUN, Tag.PULL, OK, MORE, Tag.PULL, OK),
    "a discarded query": (Tag.RUN, OK, Tag.DISCARD, OK),
    "a transaction": (Tag.BEGIN, OK, Tag.RUN, Tag.PULL, OK, OK, Tag.COMMIT, OK),
    "a rolled back transaction": (Tag.BEGIN, OK, Tag.ROLLBACK, OK),
    "a failure that was reset": (Tag.RUN, Tag.PULL, FAILED, IGNORED, Tag.RESET, OK),
    "a reset in a transaction": (Tag.BEGIN, OK, Tag.RUN, Tag.RESET, IGNORED, OK),
}
NOT_OVER = {
    "a query whose rows are out": (Tag.RUN, Tag.PULL, OK),
    "a query with more rows": (Tag.RUN, Tag.PULL, OK, MORE),
    "a query that was not pulled": (Tag.RUN, OK),
    "an open transaction": (Tag.BEGIN, OK),
    "a transaction with its rows read": (Tag.BEGIN, OK, Tag.RUN, Tag.PULL, OK, OK),
    "a transaction in commit": (Tag.BEGIN, OK, Tag.COMMIT),
    "a failure": (Tag.RUN, Tag.PULL, FAILED, IGNORED),
    "a failed commit": (Tag.BEGIN, OK, Tag.COMMIT, FAILED),
}


@pytest.mark.parametrize("exchange", OVER.values(), ids=OVER)
def test_a_lease_ends_when_the_server_is_ready(exchange: tuple[object, ...]) -> None:
    assert told(*exchange).is_over


@pytest.mark.parametrize("exchange", NOT_OVER.values(), ids=NOT_OVER)
def test_a_lease_goes_on(exchange: tuple[object, ...]) -> None:
    assert not told(*exchange).is_over


def test_has_more_in_a_value_is_not_has_more() -> None:
    conversation = told(Tag.RUN, Tag.PULL, OK)
    conversation.summary(Tag.SUCCESS, body(Tag.SUCCESS, plan={"has_more": True}))
    assert conversation.state is State.READY


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
    (Version(5, 4), ["5.4"]), (Version(4, 4), []), (None, ["6.1", "6.0", "5.8", "5.7"])])
def test_a_client_is_offered_what_its_upstream_can_serve(upstream: Version | None, offered: list[str]) -> None:
    assert [str(version) for version in offers_of(upstream)] == offered
