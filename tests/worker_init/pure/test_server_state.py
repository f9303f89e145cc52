"""When a lease may end, and which answers a server may give."""

from collections.abc import Iterable

import pytest

from worker_init.bolt import Tag, message
from worker_init.errors import ServerFault
from worker_init.server_state import SERVER_TABLE, Answer, ServerMachine, ServerState


def answer_of(tag: Tag, **metadata: object) -> bytes:
    return message(tag, metadata)


def told(*exchange: object) -> ServerMachine:
    """Replay requests (tags) and summaries (a tag with its metadata)."""
    server = ServerMachine()
    for step in exchange:
        if isinstance(step, tuple):
            server.answer(step[0], answer_of(step[0], **step[1]))
        else:
            assert isinstance(step, Tag)
            server.request(step)
    return server


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
    server = told(Tag.RUN, Tag.PULL, OK)
    server.answer(Tag.SUCCESS, answer_of(Tag.SUCCESS, plan={"has_more": True}))
    assert server.state is ServerState.READY


SURPRISES = {
    "an answer to nothing": (OK,),
    "a second answer": (Tag.RUN, OK, OK),
    "rows of no query": (Tag.PULL, OK),
    "a commit of no transaction": (Tag.COMMIT, OK),
    "a query within a stream": (Tag.RUN, OK, Tag.RUN, OK),
    "success after a failure": (Tag.RUN, FAILED, Tag.PULL, OK),
    "a row as an answer": (Tag.RUN, (Tag.RECORD, {})),
    "a request as an answer": (Tag.RUN, (Tag.HELLO, {})),
}


@pytest.mark.parametrize("exchange", SURPRISES.values(), ids=SURPRISES)
def test_a_server_that_answers_what_it_cannot_is_at_fault(exchange: Iterable[object]) -> None:
    with pytest.raises(ServerFault):
        told(*exchange)


def test_the_table_knows_a_failure_and_a_reset_in_every_state() -> None:
    for state in ServerState:
        assert SERVER_TABLE[state, Tag.RUN, Answer.FAILED] is ServerState.FAILED
        assert SERVER_TABLE[state, Tag.RUN, Answer.IGNORED] is state
        assert SERVER_TABLE[state, Tag.RESET, Answer.DONE] is ServerState.READY


STATES = {ServerState.READY: (), ServerState.STREAMING: (Tag.RUN, OK), ServerState.TRANSACTION: (Tag.BEGIN, OK),
          ServerState.FAILED: (Tag.RUN, FAILED)}
REQUESTS = (Tag.RUN, Tag.BEGIN, Tag.COMMIT, Tag.ROLLBACK, Tag.PULL, Tag.DISCARD, Tag.RESET, Tag.TELEMETRY, Tag.ROUTE)


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("state", STATES)
def test_whatever_fails_leaves_the_server_failed_and_what_is_ignored_changes_nothing(
        state: ServerState, request_: Tag) -> None:
    assert told(*STATES[state]).state is state
    assert told(*STATES[state], request_, FAILED).state is ServerState.FAILED
    assert told(*STATES[state], request_, IGNORED).state is state


@pytest.mark.parametrize("state", STATES)
def test_a_reset_makes_the_server_ready_and_what_is_asked_aside_changes_nothing(state: ServerState) -> None:
    assert told(*STATES[state], Tag.RESET, OK).state is ServerState.READY
    for aside in (Tag.TELEMETRY, Tag.ROUTE):
        assert told(*STATES[state], aside, OK).state is state


def test_results_within_a_transaction_leave_it_open() -> None:
    for rows in (Tag.PULL, Tag.DISCARD):
        for last in (MORE, OK):
            assert told(Tag.BEGIN, OK, Tag.RUN, OK, rows, last).state is ServerState.TRANSACTION
        assert told(Tag.RUN, OK, rows, MORE).state is ServerState.STREAMING
