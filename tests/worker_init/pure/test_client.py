"""A client's machine: what it wants done for what happens. No sockets, no clock."""

from collections.abc import Callable

import pytest

from tests.worker_init.pure.scripted import (
    BEGIN,
    COMMIT,
    FAILURE,
    GOODBYE,
    HELLO,
    OPENING,
    PULL,
    RESET,
    ROUTE,
    RUN,
    SUCCESS,
    UNREACHABLE,
    VERSION,
    bodies,
    client,
    kinds,
    leased,
    logon,
    ready,
    taken,
    to_client,
    to_server,
)
from worker_init.actions import (
    Abandon,
    Abort,
    Borrow,
    Close,
    ComeBack,
    Discard,
    GiveBack,
    PauseClient,
    PauseServer,
    Report,
    ResetAndGiveBack,
    ResumeClient,
    ResumeServer,
    StartTimer,
    StopTimer,
    Timer,
    ToClient,
    ToServer,
    Wake,
)
from worker_init.bolt import Tag, body_of, message
from worker_init.bounds import (
    LARGEST_ANSWERED,
    LARGEST_BEFORE_LOGON,
    MOST_AHEAD,
    MOST_MESSAGES,
    READ_AHEAD,
    STALL_SECONDS,
    UNREAD_SECONDS,
    WRITTEN_AT_ONCE,
)
from worker_init.client import Client, failure_message
from worker_init.client_table import State
from worker_init.handshake import MAGIC, Version
from worker_init.packstream import unpack_map
from worker_init.routing import Route

MANIFEST = MAGIC + b"\x00\x00\x01\xff" + b"\x00" * 12
LOGOFF = message(Tag.LOGOFF)
TELEMETRY = message(Tag.TELEMETRY, 1)
UNKNOWN = b"\x00\x02\xb0\x77\x00\x00"
FILTERS = message(Tag.HELLO, {"notifications_minimum_severity": "OFF"})


def test_a_query_goes_out_as_it_came_and_its_answer_ends_the_lease() -> None:
    machine = ready()
    machine.client_sent(RUN + PULL)
    assert [type(action) for action in taken(machine)] == [Borrow]
    machine.granted(VERSION)
    assert to_server(taken(machine)) == RUN + PULL
    machine.server_sent(SUCCESS + SUCCESS)
    assert taken(machine) == [ToClient(SUCCESS + SUCCESS), GiveBack()]
    assert machine.state is State.READY


def test_a_transaction_keeps_its_connection() -> None:
    machine = leased(BEGIN)
    for sent in (RUN + PULL, COMMIT):
        machine.server_sent(SUCCESS if sent == RUN + PULL else SUCCESS * 2)
        assert machine.state is State.LEASED
        machine.client_sent(sent)
    taken(machine)
    machine.server_sent(SUCCESS)
    assert taken(machine)[-1] == GiveBack()


# What has been sent and has happened, and what is left to do when the client goes.
DEATHS: dict[str, tuple[Callable[[], Client], list[object]]] = {
    "within the handshake": (lambda: client(OPENING[:7]), []),
    "while the server is asked": (lambda: client(OPENING, offers=None), []),
    "while it chooses a version": (lambda: client(MANIFEST), []),
    "before HELLO": (lambda: client(OPENING), []),
    "within HELLO": (lambda: client(OPENING + HELLO[:4]), []),
    "before LOGON": (lambda: client(OPENING + HELLO), []),
    "with a wrong password": (lambda: client(OPENING + HELLO + logon("wrong")), []),
    "when it has logged on": (ready, []),
    "within a query": (lambda: sent(ready(), RUN[:9]), [Abandon()]),
    "within a query that is read": (lambda: sent(ready(is_routed=True), RUN[:9]), []),
    "while it waits": (lambda: sent(ready(), RUN + PULL), [Abandon()]),
    "while it waits for a check": (lambda: sent(ready(), RESET), [Abandon()]),
    "while it waits for a table": (lambda: sent(ready(), ROUTE), [Abandon()]),
    "within a query on its way": (lambda: leased(RUN[:9]), [Discard()]),
    "with a query at the server": (lambda: leased(RUN + PULL), [Discard()]),
    "with a table asked for": (lambda: leased(ROUTE), [Discard()]),
    "in a transaction": (lambda: answered(leased(BEGIN), SUCCESS), [ResetAndGiveBack()]),
    "in a paused stream": (lambda: answered(leased(RUN), SUCCESS), [ResetAndGiveBack()]),
    "after a failure": (lambda: answered(leased(RUN), FAILURE), [ResetAndGiveBack()]),
    "when it was refused": (lambda: refused(sent(ready(), RUN + PULL)), []),
    "after GOODBYE": (lambda: sent(ready(), GOODBYE), []),
}


def sent(machine: Client, data: bytes) -> Client:
    machine.client_sent(data)
    return machine


def answered(machine: Client, block: bytes) -> Client:
    machine.server_sent(block)
    return machine


def refused(machine: Client) -> Client:
    machine.refused(UNREACHABLE)
    return machine


@pytest.mark.parametrize(("alive", "left"), DEATHS.values(), ids=DEATHS)
def test_a_client_that_dies_leaves_nothing_behind_and_has_no_effect(alive: Callable[[], Client],
                                                                    left: list[object]) -> None:
    machine = alive()
    taken(machine)
    machine.client_ended()
    assert taken(machine) == left
    assert machine.state is State.CLOSED
    machine.go_on()
    machine.client_sent(RUN + PULL)
    machine.client_ended()
    assert taken(machine) == []
    assert machine.state is State.CLOSED
    assert machine.held == machine.queued == machine.facts.spool.total == 0


@pytest.mark.parametrize(("alive", "left"), DEATHS.values(), ids=DEATHS)
def test_an_error_of_this_package_costs_its_client_alone(alive: Callable[[], Client], left: list[object]) -> None:
    machine = alive()
    taken(machine)
    machine.broken()
    assert taken(machine) == [*left, Abort()]
    assert machine.held == 0


def test_an_error_of_this_package_after_the_end_still_closes_the_connection() -> None:
    machine = ready()
    machine.client_ended()
    machine.broken()
    assert taken(machine) == [Abort()]


# Case 02 of those that failed: found in the handler of a connection that others had by then.
@pytest.mark.parametrize("wrong", [UNKNOWN, HELLO, message(Tag.ROUTE, {}, ["x" * LARGEST_ANSWERED], {})],
                         ids=["an unknown message", "HELLO", "ROUTE of more than 1 MB"])
def test_what_is_sent_wrongly_behind_a_query_has_its_turn_after_the_answer(wrong: bytes) -> None:
    machine = leased(RUN + PULL + wrong)
    while ComeBack() in taken(machine):
        machine.go_on()
    assert machine.state is State.ANSWERING
    machine.server_sent(SUCCESS * 2)
    assert taken(machine) == [ToClient(SUCCESS * 2), GiveBack(), ComeBack()]
    machine.go_on()
    names = kinds(machine)
    assert [name for name in names if name in ("TurnAway", "Close", "Discard", "ToServer")] == ["TurnAway", "Close"]


# Case 03: raised while others were being refused, who were then forgotten.
def test_what_is_sent_wrongly_behind_a_query_that_is_refused_is_found_later() -> None:
    machine = sent(ready(), RUN + UNKNOWN)
    taken(machine)
    machine.refused(UNREACHABLE)
    assert to_client(taken(machine)) == [Tag.FAILURE]
    machine.go_on()
    assert kinds(machine)[0] == "TurnAway"


def test_nothing_that_comes_behind_a_wrong_message_is_looked_at() -> None:
    machine = sent(ready(), UNKNOWN + RUN)
    assert machine.state is State.CLOSING
    assert machine.queued == 0


@pytest.mark.parametrize("out_of_place", [HELLO, logon(), message(Tag.LOGOFF)])
def test_what_begins_something_else_within_a_transaction_ends_the_client(out_of_place: bytes) -> None:
    machine = answered(leased(BEGIN), SUCCESS)
    taken(machine)
    machine.client_sent(out_of_place)
    actions = taken(machine)
    assert actions[0] == ResetAndGiveBack()
    assert to_client(actions) == [Tag.FAILURE]
    assert Close() in actions


def test_a_route_within_a_transaction_is_for_the_server_to_answer() -> None:
    machine = answered(leased(BEGIN), SUCCESS)
    taken(machine)
    machine.client_sent(ROUTE)
    assert to_server(taken(machine)) == ROUTE
    machine.server_sent(message(Tag.IGNORED))
    assert to_client(taken(machine)) == [Tag.IGNORED]


def test_goodbye_within_a_transaction_ends_it() -> None:
    machine = answered(leased(BEGIN), SUCCESS)
    taken(machine)
    machine.client_sent(GOODBYE)
    assert taken(machine)[:2] == [ResetAndGiveBack(), Close()]


def test_a_client_that_waits_is_answered_in_order_when_it_is_refused() -> None:
    machine = sent(ready(), RUN + PULL + RESET + RUN)
    taken(machine)
    machine.refused(UNREACHABLE)
    machine.go_on()
    actions = taken(machine)
    assert to_client(actions) == [Tag.FAILURE, Tag.IGNORED, Tag.SUCCESS]
    assert any(isinstance(action, Borrow) for action in actions)


@pytest.mark.parametrize("ignored", [RUN, PULL, COMMIT, ROUTE, HELLO, logon(), LOGOFF, TELEMETRY],
                         ids=["RUN", "PULL", "COMMIT", "ROUTE", "HELLO", "LOGON", "LOGOFF", "TELEMETRY"])
def test_after_a_refusal_everything_is_ignored_until_reset(ignored: bytes) -> None:
    machine = refused(sent(ready(), RUN))
    machine.go_on()
    taken(machine)
    machine.client_sent(ignored)
    assert (to_client(taken(machine)), machine.state) == ([Tag.IGNORED], State.REFUSED)
    machine.client_sent(RESET)
    assert (to_client(taken(machine)), machine.state) == ([Tag.SUCCESS], State.READY)


@pytest.mark.parametrize(("behind", "answers", "after"), [
    (LOGOFF, 2, State.LOGGING_ON), (ROUTE, 2, State.WAITING_TO_ROUTE), (TELEMETRY, 3, State.READY),
    (RESET, 3, State.READY)], ids=["LOGOFF", "ROUTE", "TELEMETRY", "RESET"])
def test_what_comes_behind_a_query_that_waits_has_its_turn_after_it(behind: bytes, answers: int, after: State) -> None:
    machine = sent(ready(), RUN + PULL)
    taken(machine)
    machine.client_sent(behind)
    assert (kinds(machine), machine.state) == ([], State.WAITING)
    machine.granted(VERSION)
    machine.server_sent(SUCCESS * answers)
    machine.go_on()
    assert machine.state is after


@pytest.mark.parametrize("behind", [RUN, COMMIT, ROUTE, HELLO, logon(), LOGOFF, TELEMETRY, RESET, GOODBYE, UNKNOWN])
@pytest.mark.parametrize("is_routed", [False, True])
@pytest.mark.parametrize("waiting", [RUN + PULL, RUN, ROUTE, RESET, LOGOFF + logon("wrong")],
                         ids=["a query and more", "a query", "ROUTE", "RESET", "a wrong LOGON"])
def test_nothing_is_done_for_what_comes_behind_something_that_waits(
        waiting: bytes, is_routed: bool, behind: bytes) -> None:
    machine = sent(ready(is_routed=is_routed), waiting)
    taken(machine)
    before, queued = machine.state, machine.queued
    machine.client_sent(behind)
    assert set(kinds(machine)) <= {"PauseClient"}
    assert (machine.state, machine.queued) == (before, queued + 1)


@pytest.mark.parametrize("behind", [BEGIN, ROUTE, HELLO, logon(), LOGOFF, GOODBYE, UNKNOWN])
@pytest.mark.parametrize("asked", [RUN + PULL, ROUTE], ids=["a query", "ROUTE"])
def test_what_the_server_does_not_answer_has_its_turn_after_what_it_does(asked: bytes, behind: bytes) -> None:
    machine = leased(asked, is_routed=True)
    taken(machine)
    machine.client_sent(behind)
    assert set(kinds(machine)) <= {"PauseClient"}
    assert machine.queued == 1
    machine.server_sent(SUCCESS * asked.count(b"\xb1\x3f") + SUCCESS)
    taken(machine)
    machine.go_on()
    assert (machine.queued, [*kinds(machine)] != []) == (0, True)


@pytest.mark.parametrize("behind", [RUN, COMMIT, RESET, TELEMETRY])
def test_nothing_goes_to_the_server_behind_a_route_before_it_is_answered(behind: bytes) -> None:
    machine = leased(ROUTE)
    taken(machine)
    machine.client_sent(behind)
    assert (kinds(machine), machine.queued) == ([], 1)


@pytest.mark.parametrize("is_answered", [False, True])
@pytest.mark.parametrize("asked", [RUN, PULL, COMMIT, RESET, TELEMETRY])
def test_what_is_asked_in_a_transaction_goes_to_its_server(asked: bytes, is_answered: bool) -> None:
    machine = leased(BEGIN)
    if is_answered:
        machine.server_sent(SUCCESS)
    taken(machine)
    machine.client_sent(asked)
    assert taken(machine) == [ToServer(asked)]
    assert machine.state is State.ANSWERING


def test_a_second_begin_in_a_transaction_is_for_the_server_to_answer() -> None:
    machine = answered(leased(BEGIN, is_routed=True), SUCCESS)
    taken(machine)
    machine.client_sent(BEGIN)
    assert taken(machine) == [ToServer(BEGIN)]


@pytest.mark.parametrize("behind", [RUN, PULL, ROUTE, HELLO, logon(), LOGOFF, TELEMETRY, RESET, GOODBYE])
def test_nothing_is_done_for_what_comes_behind_a_query_that_is_still_read(behind: bytes) -> None:
    large = message(Tag.RUN, "RETURN $x", {"x": [[]] * 50_000}, {})
    machine = sent(ready(is_routed=True), large + behind)
    states = {machine.state}
    while ComeBack() in taken(machine):
        machine.go_on()
        states.add(machine.state)
    assert states == {State.READING, State.WAITING}
    assert machine.queued == 1


@pytest.mark.parametrize("asked", [RUN + PULL, RESET, ROUTE])
def test_a_connection_of_a_newer_version_is_given_back_for_one_of_the_clients_own(asked: bytes) -> None:
    machine = sent(ready(), asked)
    before = taken(machine)
    machine.granted(Version(6, 1))
    assert taken(machine) == [GiveBack(), *before]
    machine.granted(VERSION)
    assert not isinstance(taken(machine)[-1], Borrow)


@pytest.mark.parametrize("asked", [RUN + PULL, RESET, ROUTE])
def test_a_connection_of_an_older_version_is_not_used(asked: bytes) -> None:
    machine = sent(ready(), asked)
    taken(machine)
    machine.granted(Version(5, 7))
    assert kinds(machine)[:3] == ["GiveBack", "TurnAway", "Close"]


@pytest.mark.parametrize("asked", [RUN, ROUTE])
def test_a_server_that_is_at_fault_costs_one_lease(asked: bytes) -> None:
    machine = leased(asked)
    taken(machine)
    machine.server_sent(SUCCESS * 2)
    assert [type(action) for action in taken(machine)] == [Report, Discard, Abort]


def test_a_server_that_answers_nothing_that_was_asked_costs_one_lease() -> None:
    machine = answered(leased(BEGIN), SUCCESS)
    taken(machine)
    machine.server_sent(SUCCESS)
    assert [type(action) for action in taken(machine)] == [Report, Discard, Abort]
    assert machine.state is State.CLOSED


@pytest.mark.parametrize("query", [RUN[:9], message(Tag.RUN, "x" * 3 * WRITTEN_AT_ONCE, {}, {})])
def test_nobody_gets_a_connection_with_half_a_message_on_it(query: bytes) -> None:
    machine = ready(is_routed=len(query) > 9)
    machine.client_sent(query)
    while ComeBack() in taken(machine):
        machine.go_on()
    machine.granted(VERSION)
    taken(machine)
    machine.server_sent(FAILURE)
    actions = taken(machine)
    assert to_client(actions) == [Tag.FAILURE]
    assert Discard() in actions
    assert Close() in actions


@pytest.mark.parametrize("odd", [message(Tag.RESET, {}), message(Tag.TELEMETRY), message(Tag.TELEMETRY, 99)])
def test_what_is_not_as_it_should_be_is_for_the_server_to_answer(odd: bytes) -> None:
    machine = leased(odd)
    assert to_server(taken(machine)) == odd
    machine.server_sent(FAILURE)
    assert machine.state is State.LEASED


@pytest.mark.parametrize("alive", [lambda: leased(RUN), lambda: leased(ROUTE),
                                   lambda: answered(leased(BEGIN), SUCCESS)], ids=["ANSWERING", "ROUTING", "LEASED"])
def test_a_lost_connection_breaks_the_clients_own(alive: Callable[[], Client]) -> None:
    machine = alive()
    taken(machine)
    machine.server_lost()
    assert kinds(machine)[:2] == ["Discard", "Close"]


# Time

def test_a_client_that_does_not_log_on_is_turned_away() -> None:
    machine = client(OPENING + HELLO)
    machine.timer_ended(Timer.LOGON)
    assert kinds(machine)[:2] == ["TurnAway", "Close"]


def test_a_wrong_password_is_answered_after_a_while() -> None:
    machine = client(OPENING + HELLO)
    machine.client_sent(logon("wrong"))
    assert {StartTimer(Timer.PENALTY, 2.0), StopTimer(Timer.LOGON)} <= {*taken(machine)}
    machine.timer_ended(Timer.PENALTY)
    actions = taken(machine)
    assert to_client(actions) == [Tag.FAILURE]
    assert Close() in actions


def test_a_client_that_waits_gets_a_sign_of_life_in_time() -> None:
    machine = sent(ready(recv_timeout=10.0), RUN)
    machine.waits()
    assert StartTimer(Timer.NOOP, 5.0) in taken(machine)
    machine.timer_ended(Timer.NOOP)
    assert taken(machine) == [StartTimer(Timer.NOOP, 5.0), ToClient(b"\x00\x00")]
    machine.granted(VERSION)
    taken(machine)
    machine.timer_ended(Timer.NOOP)
    assert taken(machine) == []


def test_a_client_whose_query_was_held_gets_signs_of_life_until_the_server_has_taken_it() -> None:
    """Directly it would still be sending, without a limit; here it has sent all, and waits for the first answer."""
    machine = sent(ready(hello=FILTERS, recv_timeout=10.0), message(Tag.RUN, "RETURN $x", {"x": "y" * 2_000_000}, {}))
    while Borrow(Route(), must_check=False) not in (actions := taken(machine)):
        assert ComeBack() in actions
        machine.go_on()
    machine.granted(VERSION)
    assert StartTimer(Timer.NOOP, 5.0) in taken(machine)
    machine.server_full(full=True)
    for _ in range(3):
        machine.timer_ended(Timer.NOOP)
        assert taken(machine)[-2:] == [StartTimer(Timer.NOOP, 5.0), ToClient(b"\x00\x00")]
    machine.server_full(full=False)
    machine.go_on()
    while to_server(taken(machine)):
        machine.go_on()
    machine.timer_ended(Timer.NOOP)
    assert taken(machine) == [], "from here on it is for the server to say that it lives"


def test_no_sign_of_life_goes_into_an_answer_that_has_begun() -> None:
    machine = sent(ready(hello=FILTERS, recv_timeout=10.0), message(Tag.RUN, "RETURN $x", {"x": "y" * 2_000_000}, {}))
    while Borrow(Route(), must_check=False) not in taken(machine):
        machine.go_on()
    machine.granted(VERSION)
    machine.server_full(full=True)
    machine.server_sent(FAILURE[:10])
    taken(machine)
    machine.timer_ended(Timer.NOOP)
    assert taken(machine) == []


def test_a_client_that_stops_within_a_message_has_its_time() -> None:
    machine = leased(RUN[:9])
    assert StartTimer(Timer.STALL, STALL_SECONDS) in taken(machine)
    machine.client_sent(RUN[9:10])
    machine.timer_ended(Timer.STALL)
    assert taken(machine)[-1] == StartTimer(Timer.STALL, STALL_SECONDS)
    machine.timer_ended(Timer.STALL)
    assert kinds(machine)[:3] == ["Discard", "TurnAway", "Close"]


def test_a_client_that_may_not_send_does_not_stall() -> None:
    machine = leased(RUN[:9])
    machine.server_full(full=True)
    for _ in range(3):
        machine.timer_ended(Timer.STALL)
    assert machine.state is State.ANSWERING


def test_a_client_that_does_not_read_has_its_time() -> None:
    machine = leased(RUN + PULL)
    taken(machine)
    machine.client_full(full=True)
    assert taken(machine) == [StartTimer(Timer.UNREAD, UNREAD_SECONDS), PauseServer()]
    machine.timer_ended(Timer.UNREAD)
    assert kinds(machine)[:3] == ["ResumeServer", "Discard", "TurnAway"]


def test_a_client_that_does_not_read_the_last_is_cut_off() -> None:
    machine = sent(ready(), GOODBYE)
    assert isinstance(taken(machine)[-1], StartTimer)
    machine.timer_ended(Timer.LINGER)
    assert taken(machine) == [Abort()]


@pytest.mark.parametrize("gone", [
    lambda: client(OPENING + HELLO + logon("wrong")), lambda: client(OPENING + HELLO), ready,
    lambda: leased(RUN[:9], recv_timeout=10.0)])
@pytest.mark.parametrize("timer", [timer for timer in Timer if timer is not Timer.LINGER])
def test_a_timer_that_runs_on_has_no_effect_when_the_client_goes(gone: Callable[[], Client], timer: Timer) -> None:
    machine = gone()
    machine.client_sent(UNKNOWN + GOODBYE)
    machine.timer_ended(Timer.PENALTY) if machine.state is State.DELAYED else machine.timer_ended(Timer.UNREAD)
    assert machine.state is State.CLOSING
    taken(machine)
    machine.timer_ended(timer)
    assert taken(machine) == []


# Bounds

def test_a_client_that_logs_on_may_send_a_large_query_behind_it() -> None:
    machine = client(OPENING)
    machine.client_sent(HELLO + logon() + message(Tag.RUN, "x" * 100_000, {}, {}))
    assert machine.state is State.WAITING


@pytest.mark.parametrize("before", [OPENING, OPENING + HELLO], ids=["before HELLO", "before LOGON"])
@pytest.mark.parametrize("block", [b"\x00\x00", HELLO[:3]], ids=["NOOPs", "bytes"])
def test_a_client_that_has_not_logged_on_may_send_so_much(before: bytes, block: bytes) -> None:
    machine = client(before)
    flood = block * (LARGEST_BEFORE_LOGON // len(block))
    machine.client_sent(flood)
    assert machine.held <= LARGEST_BEFORE_LOGON
    machine.client_sent(block * 100)
    assert machine.state is State.CLOSING
    assert machine.held == 0


def test_while_the_server_is_asked_a_client_may_send_no_more_than_that() -> None:
    machine = client(OPENING, offers=None)
    machine.client_sent(bytes(LARGEST_BEFORE_LOGON))
    assert [name for name in kinds(machine) if name in ("TurnAway", "Close")] == ["TurnAway", "Close"]


@pytest.mark.parametrize("block", [bytes(10_000), RESET * 100, RUN + PULL], ids=["NOOPs", "messages", "queries"])
def test_a_client_that_waits_may_send_so_much_ahead(block: bytes) -> None:
    machine = sent(ready(), RUN + PULL)
    for _ in range(2 * READ_AHEAD // len(block) + 2 * MOST_AHEAD):
        machine.client_sent(block)
        if machine.is_paused:
            break
    assert machine.is_paused
    assert machine.held <= READ_AHEAD + len(block)
    assert machine.queued <= MOST_AHEAD + 200


def test_a_client_that_reads_nothing_is_not_read_from() -> None:
    machine = ready()
    machine.client_full(full=True)
    assert PauseClient() in taken(machine)
    machine.client_sent(message(Tag.TELEMETRY, 1) * 10)
    assert taken(machine) == []
    machine.client_full(full=False)
    machine.go_on()
    actions = taken(machine)
    assert ResumeClient() in actions
    assert len(to_client(actions)) == 10


def test_many_messages_are_not_handled_in_one_step() -> None:
    machine = ready()
    machine.client_sent(message(Tag.TELEMETRY, 1) * 3 * MOST_MESSAGES)
    answers = []
    for turn in range(4):
        actions = taken(machine)
        answers += to_client(actions)
        assert len(answers) <= (turn + 1) * MOST_MESSAGES
        if ComeBack() in actions:
            machine.go_on()
    assert len(answers) == 3 * MOST_MESSAGES


def test_a_server_that_reads_nothing_holds_its_client_back() -> None:
    machine = leased(RUN[:9])
    taken(machine)
    machine.server_full(full=True)
    assert taken(machine) == [PauseClient()]
    machine.server_full(full=False)
    assert taken(machine) == [ResumeClient()]


def test_a_client_that_does_not_read_gives_its_connection_back_as_it_was() -> None:
    machine = leased(RUN + PULL)
    machine.client_full(full=True)
    taken(machine)
    machine.server_sent(SUCCESS * 2)
    assert taken(machine)[:3] == [ToClient(SUCCESS * 2), ResumeServer(), GiveBack()]


# Queries that have to be read

def test_filters_are_added_to_a_query_and_nothing_else_is_changed() -> None:
    machine = ready(hello=FILTERS)
    query = message(Tag.RUN, "RETURN $x", {"x": [1, {"y": "z" * 70_000}]}, {"db": "neo4j", "tx_metadata": {"a": [1]}})
    machine.client_sent(query + PULL)
    while ComeBack() in taken(machine):
        machine.go_on()
    machine.granted(VERSION)
    found, pull = bodies(to_server(taken(machine)))
    expected = bodies(query)[0]
    at = expected.rindex(b"\xa2\x82db")
    assert found[:at] == expected[:at]
    assert unpack_map(found, at)[0] == unpack_map(expected, at)[0] | {"notifications_minimum_severity": "OFF"}
    assert pull == bodies(PULL)[0]


def test_the_filters_of_a_query_itself_are_kept() -> None:
    machine = ready(hello=FILTERS)
    query = message(Tag.BEGIN, {"notifications_minimum_severity": "WARNING"})
    machine.client_sent(query)
    machine.granted(VERSION)
    assert bodies(to_server(taken(machine))) == bodies(query)


def test_a_query_says_where_it_goes() -> None:
    machine = ready(is_routed=True)
    machine.client_sent(message(Tag.RUN, "RETURN 1", {}, {"mode": "r", "db": "x", "bookmarks": ["b"], "imp_user": "u"}))
    assert taken(machine) == [Borrow(Route(True, "x", ("b",), "u"), must_check=False)]


UNREADABLE = {
    "an unknown marker": b"\xb3\x10\x81x\xa1\x81y\xdf\xa0", "extras that are no map": b"\xb3\x10\x81x\xa0\x90",
    "a key that is a list": b"\xb3\x10\x81x\xa0\xa1\x91\x01\x01", "too short": b"\xb3\x10\x81x",
    "BEGIN without a map": b"\xb1\x11\x01"}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_goes_on_for_the_server_to_answer(body: bytes) -> None:
    machine = ready(is_routed=True)
    wire = len(body).to_bytes(2, "big") + body + b"\x00\x00"
    machine.client_sent(wire)
    assert taken(machine) == [Borrow(Route(), must_check=False)]
    machine.granted(VERSION)
    assert to_server(taken(machine)) == wire


def test_a_query_in_a_transaction_need_not_be_read() -> None:
    machine = leased(BEGIN, is_routed=True)
    machine.server_sent(SUCCESS)
    taken(machine)
    machine.client_sent(RUN[:9])
    assert to_server(taken(machine)) == RUN[:9]


def test_a_second_transaction_waits_for_the_end_of_the_first_where_it_has_to_be_read() -> None:
    machine = leased(BEGIN, is_routed=True)
    machine.client_sent(COMMIT + BEGIN)
    assert to_server(taken(machine)).endswith(COMMIT)
    machine.server_sent(SUCCESS * 2)
    assert taken(machine)[-2:] == [GiveBack(), ComeBack()]
    machine.go_on()
    assert [type(action) for action in taken(machine)] == [Borrow]


def test_a_query_that_is_too_large_to_be_read_ends_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker_init.query.LARGEST_READ", 1000)
    machine = ready(is_routed=True)
    machine.client_sent(message(Tag.RUN, "x" * 1100, {}, {})[:1050])
    assert [name for name in kinds(machine) if name in ("TurnAway", "Close", "Borrow")] == ["TurnAway", "Close"]
    assert machine.held == 0


def large(values: int) -> bytes:
    return message(Tag.RUN, "RETURN 1", {"x": [[]] * values}, {"mode": "r"})


_WHAT_COUNTS = ("Borrow", "ToClient", "GiveBack", "ResetAndGiveBack", "Discard", "TurnAway", "Close", "Abort")


def told(machine: Client, *, until: type) -> list[str]:
    """Return what is to be done, in turn after turn, up to something; where there is no further turn, up to there."""
    done: list[str] = []
    while ComeBack in (actions := [type(action) for action in taken(machine)]) and until not in actions:
        done += [action.__name__ for action in actions]
        machine.go_on()
    return done + [action.__name__ for action in actions]


@pytest.mark.parametrize(("is_routed", "values"), [(False, 1), (True, 1), (True, 50_000)],
                         ids=["passed on", "read", "read in several turns"])
@pytest.mark.parametrize("wrong", [UNKNOWN, b"\x00\x01\xb0\x00\x00"], ids=["no such message", "no message"])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_query_is_answered_before_what_is_wrong_behind_it(is_routed: bool, values: int, wrong: bytes,
                                                            at_once: bool) -> None:
    machine = ready(is_routed=is_routed)
    query = large(values)
    for block in (query + wrong,) if at_once else (query, wrong):
        machine.client_sent(block)
    assert not {"TurnAway", "Close"} & {*told(machine, until=Borrow)}
    machine.granted(VERSION)
    machine.go_on()
    assert body_of(to_server(taken(machine))) == body_of(query)
    machine.server_sent(SUCCESS)
    assert [name for name in told(machine, until=Close) if name in _WHAT_COUNTS] == [
        "ToClient", "ResetAndGiveBack", "TurnAway", "Close"]


@pytest.mark.parametrize("opening", [OPENING + message(Tag.HELLO, 1), OPENING + HELLO + message(Tag.LOGON, 1)],
                         ids=["HELLO", "LOGON"])
def test_a_message_that_is_wrong_in_front_of_what_is_no_message_ends_the_client_once(opening: bytes) -> None:
    machine = client()
    machine.client_sent(opening + UNKNOWN)
    done = kinds(machine)
    assert (done.count("TurnAway"), done.count("Close"), machine.state) == (1, 1, State.CLOSING)


def test_large_parameters_are_read_in_steps() -> None:
    machine = ready(is_routed=True)
    machine.client_sent(large(300_000))
    turns = 0
    while ComeBack() in (actions := taken(machine)):
        machine.go_on()
        turns += 1
    assert turns > 5
    assert actions[0] == Borrow(Route(read_only=True), must_check=False)


def test_large_queries_are_sent_as_the_server_takes_them() -> None:
    machine = ready(is_routed=True)
    query = message(Tag.RUN, "RETURN 1", {"x": "y" * 3 * WRITTEN_AT_ONCE}, {})
    machine.client_sent(query + PULL)
    while ComeBack() in taken(machine):
        machine.go_on()
    machine.granted(VERSION)
    out = [to_server(taken(machine))]
    assert WRITTEN_AT_ONCE <= len(out[0]) < 2 * WRITTEN_AT_ONCE
    machine.server_full(full=True)
    machine.go_on()
    assert to_server(taken(machine)) == b""
    machine.server_full(full=False)
    for _ in range(5):
        machine.go_on()
        out.append(to_server(taken(machine)))
    assert bodies(b"".join(out)) == bodies(query + PULL)
    assert machine.facts.spool.total == 0


def test_all_clients_share_the_room_for_queries_that_are_read() -> None:
    first, second = ready(is_routed=True), ready(is_routed=True)
    second.facts.spool = first.facts.spool
    for machine in (first, second):
        machine.client_sent(message(Tag.RUN, "R", {"x": "y" * 2000}, {})[:1500])
    assert not first.is_paused
    assert second.is_paused
    taken(first)
    first.client_ended()
    assert taken(first) == [Wake((second,))]
    second.go_on()
    assert not second.is_paused


# Routing tables

def test_a_routing_table_names_the_relay_alone() -> None:
    machine = leased(ROUTE)
    taken(machine)
    answer = message(Tag.SUCCESS, {"rt": {"ttl": 300, "servers": [{"addresses": ["far:7687"], "role": "WRITE"}]}})
    for at in range(0, len(answer), 10):
        machine.server_sent(answer[at:at + 10])
    said, given_back = taken(machine)
    assert isinstance(said, ToClient)
    assert given_back == GiveBack()
    table = unpack_map(bodies(said.data)[0], 2)[0]["rt"]
    assert table["ttl"] == 300
    assert {address for server in table["servers"] for address in server["addresses"]} == {"127.0.0.1:7688"}


def test_what_follows_a_routing_table_waits_for_it() -> None:
    machine = leased(ROUTE + RUN + PULL)
    assert to_server(taken(machine)) == ROUTE
    machine.server_sent(message(Tag.SUCCESS, {"rt": {}}))
    machine.go_on()
    assert [type(action) for action in taken(machine)][-1] is Borrow


def test_the_version_is_agreed_once_the_server_is_known() -> None:
    machine = client(OPENING, offers=None)
    machine.client_sent(HELLO)
    machine.facts.offers = (VERSION,)  # type: ignore[misc]
    machine.server_known(None)
    said = next(action for action in taken(machine) if isinstance(action, ToClient))
    assert said.data.startswith(b"\x00\x00\x08\x05")
    assert to_client([ToClient(said.data[4:])]) == [Tag.SUCCESS]


@pytest.mark.parametrize(("proposal", "said"), [(b"\x00\x00\x08\x05", {"advertised_address": "127.0.0.1:7688"}),
                                                (b"\x00\x00\x07\x05", {})])
def test_the_answer_to_logon_is_that_of_its_version(proposal: bytes, said: dict[str, str]) -> None:
    machine = client(OPENING[:4] + proposal + bytes(12) + HELLO, offers=(Version(5, 8), Version(5, 7)))
    machine.client_sent(logon())
    (welcome,) = (action for action in taken(machine) if isinstance(action, ToClient))
    assert unpack_map(bodies(welcome.data)[0], 2)[0] == said


OLD = Version(4, 4)


def hello(password: str, **fields: object) -> bytes:
    return message(Tag.HELLO, {"scheme": "basic", "principal": "x", "credentials": password, **fields})


def old_client(said: bytes, **facts: object) -> Client:
    machine = client(OPENING[:4] + b"\x00\x00\x04\x04" + bytes(12), offers=(OLD,), **facts)
    machine.client_sent(said)
    return machine


# Case 08: servers of Neo4j 4.4 and 5.0 were connected to, and every client was refused.
def test_an_old_client_says_who_it_is_with_hello() -> None:
    machine = old_client(hello("right", patch_bolt=["utc"]), patches=frozenset(("utc",)))
    assert machine.state is State.READY
    assert to_client(taken(machine)) == [Tag.SUCCESS]


def test_an_old_client_with_a_wrong_password_is_told_in_its_own_words() -> None:
    machine = old_client(hello("wrong"))
    assert {StartTimer(Timer.PENALTY, 2.0), StopTimer(Timer.LOGON)} <= {*taken(machine)}
    machine.timer_ended(Timer.PENALTY)
    (said,) = (action for action in taken(machine) if isinstance(action, ToClient))
    assert set(unpack_map(bodies(said.data)[0], 2)[0]) == {"code", "message"}


@pytest.mark.parametrize("asked", [{}, {"patch_bolt": "utc"}, {"patch_bolt": [[], {}]}])
def test_an_old_client_that_does_not_know_what_was_added_is_turned_away(asked: dict[str, object]) -> None:
    assert "TurnAway" in kinds(old_client(hello("right", **asked), patches=frozenset(("utc",))))


@pytest.mark.parametrize(("version", "keys"), [
    (Version(5, 8), {"neo4j_code", "message", "gql_status", "description", "diagnostic_record"}),
    (Version(5, 4), {"code", "message"})])
def test_a_failure_is_that_of_its_version(version: Version, keys: set[str]) -> None:
    assert set(unpack_map(bodies(failure_message(UNREACHABLE, version))[0], 2)[0]) == keys


def test_a_server_that_cannot_be_reached_is_named_after_hello() -> None:
    machine = client(OPENING, offers=None)
    machine.server_known(UNREACHABLE)
    machine.client_sent(HELLO)
    actions = taken(machine)
    assert b"away" in b"".join(action.data for action in actions if isinstance(action, ToClient))
    assert Close() in actions


def test_a_client_that_is_turned_away_is_counted_once() -> None:
    machine = client(OPENING)
    for block in (RUN, UNKNOWN, HELLO):
        machine.client_sent(block)
    assert kinds(machine).count("TurnAway") == 1


@pytest.mark.parametrize("alive", [
    lambda: client(OPENING[:7]), lambda: client(OPENING, offers=None), lambda: client(MANIFEST),
    lambda: client(OPENING), lambda: client(OPENING + HELLO), lambda: client(OPENING + HELLO + logon("wrong")), ready,
    lambda: sent(ready(is_routed=True), RUN[:9]), lambda: sent(ready(), RUN), lambda: sent(ready(), ROUTE),
    lambda: sent(ready(), RESET), lambda: leased(RUN), lambda: leased(ROUTE), lambda: answered(leased(BEGIN), SUCCESS),
    lambda: refused(sent(ready(), RUN))],
    ids=["OPENING", "ASKING", "CHOOSING", "GREETING", "LOGGING_ON", "DELAYED", "READY", "READING", "WAITING",
         "WAITING_TO_ROUTE", "CHECKING", "ANSWERING", "ROUTING", "LEASED", "REFUSED"])
def test_a_client_that_is_overdue_is_turned_away_and_counted_in_every_state(
        alive: Callable[[], Client], request: pytest.FixtureRequest) -> None:
    machine = alive()
    assert machine.state.name == request.node.callspec.id
    taken(machine)
    machine.timer_ended(Timer.UNREAD)
    done = kinds(machine)
    assert (done.count("TurnAway"), done.count("Close"), machine.state) == (1, 1, State.CLOSING)


@pytest.mark.parametrize("wrong", [RUN, COMMIT, ROUTE, RESET, TELEMETRY, LOGOFF, UNKNOWN, "the other"])
@pytest.mark.parametrize("is_routed", [False, True])
@pytest.mark.parametrize(("opening", "other"), [(OPENING, logon()), (OPENING + HELLO, HELLO)],
                         ids=["HELLO is due", "LOGON is due"])
def test_whatever_comes_before_logon_ends_the_client_and_is_counted(
        opening: bytes, other: bytes, is_routed: bool, wrong: bytes | str) -> None:
    machine = client(opening, is_routed=is_routed)
    machine.client_sent(other if isinstance(wrong, str) else wrong)
    done = kinds(machine)
    assert (done.count("TurnAway"), done.count("Close"), machine.state) == (1, 1, State.CLOSING)


@pytest.mark.parametrize("alive", [
    lambda: client(OPENING), lambda: client(OPENING + HELLO), ready, lambda: answered(leased(BEGIN), SUCCESS),
    lambda: refused(sent(ready(), RUN))], ids=["GREETING", "LOGGING_ON", "READY", "LEASED", "REFUSED"])
def test_goodbye_closes_the_connection_and_nobody_is_turned_away(alive: Callable[[], Client]) -> None:
    machine = alive()
    machine.go_on()
    taken(machine)
    machine.client_sent(GOODBYE)
    done = kinds(machine)
    assert (done.count("TurnAway"), done.count("Close"), machine.state) == (0, 1, State.CLOSING)


@pytest.mark.parametrize("query", [RUN, BEGIN])
def test_a_client_that_has_logged_off_may_ask_for_nothing(query: bytes) -> None:
    machine = sent(ready(is_routed=True), LOGOFF)
    taken(machine)
    machine.client_sent(query)
    actions = taken(machine)
    assert (to_client(actions), actions.count(Close()), machine.state) == ([Tag.FAILURE], 1, State.CLOSING)


@pytest.mark.parametrize("opening", [OPENING[:7], MANIFEST, OPENING, OPENING + HELLO])
def test_a_client_that_is_late_is_counted_wherever_it_stands(opening: bytes) -> None:
    machine = client(opening)
    machine.timer_ended(Timer.LOGON)
    assert kinds(machine).count("TurnAway") == 1


@pytest.mark.parametrize("wrong", [b"\x00\x00\x09\x09\x00", b"\xff" * 40])
def test_a_client_that_chooses_what_was_not_offered_is_turned_away(wrong: bytes) -> None:
    machine = client(MANIFEST)
    assert machine.state is State.CHOOSING
    machine.client_sent(wrong)
    assert (kinds(machine).count("TurnAway"), machine.state) == (1, State.CLOSING)


def test_nothing_goes_out_that_was_not_sent() -> None:
    machine = leased(RUN)
    assert [action for action in taken(machine) if isinstance(action, ToServer)] == [ToServer(RUN)]
