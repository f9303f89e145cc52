"""The table of a client's machine is whole: who reads it knows what happens."""

from pathlib import Path

import pytest

from tests.worker_init.pure.scripted import client
from worker_init import client_diagram
from worker_init.client import Client
from worker_init.client_table import LEAVING, MEANING, TABLE, Do, Event, State
from worker_init.errors import Unforeseen

LENDING = {State.ANSWERING, State.ROUTING, State.LEASED}
ASKED_FOR = {State.WAITING, State.WAITING_TO_ROUTE, State.CHECKING}


@pytest.mark.parametrize("state", State)
def test_every_state_has_a_meaning_and_can_be_reached(state: State) -> None:
    assert MEANING[state]
    assert state is State.OPENING or any(row.to is state for rows in TABLE.values() for row in rows.values())


@pytest.mark.parametrize("state", State)
def test_a_client_can_die_in_every_state(state: State) -> None:
    assert TABLE[state][Event.ENDED].to is State.CLOSED
    assert TABLE[state][Event.BROKEN].to is State.CLOSED


@pytest.mark.parametrize("event", [Event.ENDED, Event.BROKEN, Event.OVERDUE, Event.GOODBYE, Event.VIOLATION])
def test_a_client_that_goes_lets_go_of_what_it_has(event: Event) -> None:
    for state, rows in TABLE.items():
        if event in rows and rows[event].to >= State.CLOSING:
            assert rows[event].do[:len(LEAVING[state])] == LEAVING[state]


def test_a_connection_is_let_go_of_wherever_there_is_one() -> None:
    assert {state for state, do in LEAVING.items() if do} == LENDING | ASKED_FOR
    assert all(LEAVING[state] == (Do.ABANDON,) for state in ASKED_FOR)
    assert LEAVING[State.LEASED] == (Do.RESET_AND_GIVE_BACK,)


@pytest.mark.parametrize("state", LENDING)
def test_every_way_out_of_a_lease_ends_it(state: State) -> None:
    for row in TABLE[state].values():
        ends = [do for do in row.do if do in (Do.GIVE_BACK, Do.RESET_AND_GIVE_BACK, Do.DISCARD)]
        assert len(ends) == (row.to not in LENDING)


@pytest.mark.parametrize("state", ASKED_FOR)
def test_every_way_out_of_waiting_abandons_it_or_has_a_connection(state: State) -> None:
    for event, row in TABLE[state].items():
        if row.to not in ASKED_FOR:
            assert (Do.ABANDON in row.do) == (event not in (Event.GRANTED, Event.UNFIT, Event.FAILED))


def test_a_client_that_is_gone_has_no_effect() -> None:
    assert set(TABLE[State.CLOSED]) == {Event.ENDED, Event.BROKEN}
    assert all(row.to is State.CLOSED and row.do in ((), (Do.ABORT,)) for row in TABLE[State.CLOSED].values())


@pytest.mark.parametrize("do", Do)
def test_everything_that_is_done_is_in_the_table_and_has_a_method(do: Do) -> None:
    assert any(do in row.do for rows in TABLE.values() for row in rows.values())
    assert callable(getattr(Client, f"_{do.name.lower()}"))


def test_every_message_has_a_row_wherever_messages_are_looked_at() -> None:
    messages = {event for event in Event if event <= Event.MORE}
    # Whose queries have to be read is known from LOGON on; where they have, they are read in every state but this.
    impossible = {State.GREETING: {Event.READ_QUERY}, State.READING: {Event.QUERY}}
    for state in State:
        if State.GREETING <= state < State.CLOSING:
            assert messages - TABLE[state].keys() == impossible.get(state, set()), state


def test_a_pair_that_is_not_there_cannot_pass_unseen() -> None:
    with pytest.raises(Unforeseen, match="FAILED in the state GREETING"):
        client(b"`\x60\xb0\x17\x00\x00\x08\x05" + bytes(12)).refused(None)  # type: ignore[arg-type]


def test_the_documentation_has_the_table() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "relay.md").read_text(encoding="utf-8")
    begin, end = "<!-- client: begin -->\n", "\n<!-- client: end -->"
    assert page.partition(begin)[2].partition(end)[0] == client_diagram.text()
