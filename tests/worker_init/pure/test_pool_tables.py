"""The pool's tables: each row is tried, a pair that is missing is a fault that is counted, the docs show them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.worker_init.pure.pool_world import SEED, World, refusal, table
from worker_init.diagram import mermaid
from worker_init.pool_actions import Link
from worker_init.pool_states import (
    CONNECTION_TABLE,
    POOL_TABLE,
    WAITER_TABLE,
    ConnectionEvent,
    ConnectionState,
    PoolEvent,
    PoolState,
    WaiterEvent,
    WaiterState,
)
from worker_init.routing import Route

C, E = ConnectionState, ConnectionEvent
DOCS = Path(__file__).parents[3] / "docs" / "relay.md"


def opening(world: World) -> Link:
    world.lend("a")
    return world.opening[0]


def idle(world: World) -> Link:
    return world.ready()[0]


def checking(world: World) -> Link:
    idle(world)
    world.lend("a", must_check=True)
    return world.checking[0]


def routing(world: World) -> Link:
    world.lend("a", Route(database="x"))
    world.open()
    return world.asking[0].link


def lent(world: World) -> Link:
    idle(world)
    link = world.lend("a")
    assert link
    return link


def resetting(world: World) -> Link:
    lent(world)
    return world.leave("a")


def broken(world: World) -> Link:
    link = lent(world)
    world.machine.lost(link, world.now)
    return link


def closing(world: World) -> Link:
    lent(world)
    return world.discard("a")


def gone(world: World) -> Link:
    link = closing(world)
    world.end()
    return link


MAKE: dict[ConnectionState, Callable[[World], Link]] = {
    C.OPENING: opening, C.IDLE: idle, C.CHECKING: checking, C.ROUTING: routing, C.LENT: lent, C.RESETTING: resetting,
    C.BROKEN: broken, C.CLOSING: closing, C.GONE: gone}

DO: dict[ConnectionEvent, Callable[[World, Link], object]] = {
    E.OPENED: lambda world, link: world.machine.opened(link, "a connection", world.now),
    E.OPEN_FAILED: lambda world, link: world.machine.open_failed(link, refusal(), world.now),
    E.LENT: lambda world, _: world.lend("b"),
    E.GIVEN_BACK: lambda world, link: world.machine.give_back(link, world.now),
    E.LEFT: lambda world, link: world.machine.reset(link, world.now),
    E.DISCARDED: lambda world, link: world.machine.discard(link, world.now),
    E.ASKED_ALIVE: lambda world, _: world.lend("b", must_check=True),
    E.ASKED_TABLE: lambda world, _: world.lend("b", Route(database="y")),
    E.ANSWERED: lambda world, link: world.machine.answered(link, world.now),
    E.ROUTED: lambda world, link: world.machine.routed(link, table(database="x"), world.now),
    E.REFUSED: lambda world, link: world.machine.route_failed(link, refusal(), world.now),
    E.FAILED: lambda world, link: world.machine.check_failed(link, "nonsense", world.now),
    E.SPOKE: lambda world, link: world.machine.spoke(link, world.now),
    E.RETIRED: lambda world, _: world.machine.close(world.now),
    E.LOST: lambda world, link: world.machine.lost(link, world.now),
}
# What the machine itself does to a connection, and never in another state.
BY_ITSELF = {E.LENT, E.ASKED_ALIVE, E.ASKED_TABLE, E.RETIRED}
# What follows at once, in the same step: who waits gets what is free.
AT_ONCE = {(C.OPENING, E.OPENED): C.LENT, (C.CHECKING, E.ANSWERED): C.LENT, (C.ROUTING, E.ROUTED): C.LENT}
# Both sides may see an end, and the server may speak on a connection that is closed already: neither is a fault.
EXPECTED_ANYWHERE = {(C.GONE, E.LOST), (C.CLOSING, E.SPOKE)}

ROWS = [(state, event, after) for state, row in CONNECTION_TABLE.items() for event, after in row.items()]
MISSING = [(state, event) for state in C for event in E if event not in CONNECTION_TABLE[state]
           and event not in BY_ITSELF and (state, event) not in EXPECTED_ANYWHERE]


def world_for(state: ConnectionState, event: ConnectionEvent) -> World:
    return World(is_routed=C.ROUTING is state or event is E.ASKED_TABLE, max_size=1)


@pytest.mark.parametrize(("state", "event", "after"), ROWS, ids=[f"{state} - {event}" for state, event, _ in ROWS])
def test_a_connection_goes_where_the_table_says(state: ConnectionState, event: ConnectionEvent,
                                                after: ConnectionState) -> None:
    world = world_for(state, event)
    if event is E.ASKED_TABLE:
        world.lend("first", Route(anywhere=True))
        world.open()
        link = world.give_back("first")
    else:
        link = MAKE[state](world)
    assert link.state is state
    DO[event](world, link)
    assert link.state is AT_ONCE.get((state, event), after)
    assert world.machine.counters.own_faults == 0
    assert (link in world.machine.links) == (link.state is not C.GONE)


@pytest.mark.parametrize(("state", "event"), MISSING, ids=[f"{state} - {event}" for state, event in MISSING])
def test_what_the_table_does_not_know_is_counted_and_closes_the_connection(state: ConnectionState,
                                                                          event: ConnectionEvent) -> None:
    world = world_for(state, event)
    link = MAKE[state](world)
    world.collect()
    world.notes.clear()
    for _ in range(2):
        DO[event](world, link)
        world.collect()
    assert world.machine.counters.own_faults >= 1
    assert link.state in (C.CLOSING, C.GONE)
    assert sum(f"'{state}'" in note and "fault of the relay" in note for note in world.notes) == 1
    world.end()
    assert link.state is C.GONE or state is C.OPENING


def test_every_state_of_a_connection_has_its_row() -> None:
    assert set(CONNECTION_TABLE) == set(C)
    assert set(WAITER_TABLE) == set(WaiterState)
    assert set(POOL_TABLE) == set(PoolState)


@pytest.mark.parametrize("state", PoolState)
@pytest.mark.parametrize("event", PoolEvent)
def test_the_pool_goes_where_the_table_says(state: PoolState, event: PoolEvent) -> None:
    assert set(POOL_TABLE[state]) == set(PoolEvent)
    ends = {PoolState.NEW: 0, PoolState.UP: 0, PoolState.DOWN: 0, PoolState.PAUSED: 1, PoolState.DRAINING: 2,
            PoolState.CLOSED: 3}
    after = POOL_TABLE[state][event]
    if state is PoolState.PAUSED and event is PoolEvent.RESUME:
        assert after is PoolState.NEW, "nothing is known of a server that somebody has worked at"
        return
    assert ends[after] >= ends[state], "what has ended does not begin again, and a pause ends with RESUME alone"
    wanted = {PoolEvent.CONNECTED: PoolState.UP, PoolEvent.UNREACHABLE: PoolState.DOWN, PoolEvent.RESUME: state,
              PoolEvent.PAUSE: PoolState.PAUSED, PoolEvent.DRAIN: PoolState.DRAINING,
              PoolEvent.CLOSE: PoolState.CLOSED}[event]
    assert after is (wanted if ends[wanted] >= ends[state] else state)


@pytest.mark.parametrize("state", PoolState)
@pytest.mark.parametrize("event", PoolEvent)
def test_a_real_pool_does_so_too(state: PoolState, event: PoolEvent) -> None:
    world = World(max_size=2)
    machine, now = world.machine, world.now
    waiting_to_be_opened(world, state)
    assert machine.state is state
    events: dict[PoolEvent, Callable[[], object]] = {
        PoolEvent.CONNECTED: world.open, PoolEvent.UNREACHABLE: world.fail, PoolEvent.PAUSE: world.pause,
        PoolEvent.RESUME: world.resume, PoolEvent.DRAIN: lambda: machine.drain(now),
        PoolEvent.CLOSE: lambda: machine.close(now)}
    events[event]()
    world.collect()
    assert machine.state is POOL_TABLE[state][event]
    assert machine.counters.own_faults == 0


def waiting_to_be_opened(world: World, state: PoolState) -> None:
    """Have a pool in a state, with an attempt to open a connection under way."""
    if state is PoolState.UP:
        world.ready()
        world.lend("holder")
    elif state is PoolState.DOWN:
        world.lend("refused")
        world.fail()
    world.lend("a")
    world.settle()
    attempts = [*world.opening]
    ways: dict[PoolState, Callable[[], None]] = {
        PoolState.PAUSED: world.pause, PoolState.DRAINING: lambda: world.machine.drain(world.now),
        PoolState.CLOSED: lambda: world.machine.close(world.now)}
    if state in ways:
        ways[state]()
    world.collect()
    # The attempt may have ended in the moment in which it was given up.
    world.opening[:] = attempts
    if state is PoolState.UP:
        world.machine.lost(world.granted["holder"], world.now)


ENDS = [(state, event) for state in (WaiterState.ASKING, WaiterState.WAITING) for event in WaiterEvent
        if event is not WaiterEvent.SETTLED]


@pytest.mark.parametrize(("state", "event"), ENDS, ids=[f"{state} - {event}" for state, event in ENDS])
def test_each_end_of_waiting_is_told_once(state: WaiterState, event: WaiterEvent) -> None:
    world = World(max_size=2)
    world.ready()
    world.lend("holder")
    world.lend("a")
    if state is WaiterState.WAITING:
        world.settle()
        assert len(world.opening) == 1
    for _ in range(2):
        if event is WaiterEvent.GRANTED:
            if "holder" in world.granted:
                world.give_back("holder")
        elif event is WaiterEvent.REFUSED:
            world.machine.close(world.now)
        elif event is WaiterEvent.TIMED_OUT:
            world.tick(60)
        else:
            world.abandon("a")
        world.collect()
    assert ("a" in world.granted) == (event is WaiterEvent.GRANTED)
    assert ("a" in world.refused) == (event in (WaiterEvent.REFUSED, WaiterEvent.TIMED_OUT))
    assert world.machine.waiting == 0
    assert world.machine.counters.own_faults == 0
    assert world.machine.counters.waits == 2        # the first connection was waited for as well


def test_a_borrower_that_asks_twice_is_a_fault_that_costs_nobody_anything() -> None:
    world = World()
    world.lend("a")
    world.lend("a")
    world.open()
    assert world.machine.counters.own_faults == 1
    assert world.granted["a"].place.address == SEED
    assert world.machine.waiting == 0


def test_the_documentation_shows_the_tables() -> None:
    shown = DOCS.read_text().split("<!-- pool: begin -->")[1].split("<!-- pool: end -->")[0]
    for diagram in (mermaid(CONNECTION_TABLE, C.OPENING), mermaid(WAITER_TABLE, WaiterState.ASKING),
                    mermaid(POOL_TABLE, PoolState.NEW)):
        assert diagram in shown, f"docs/relay.md should have, between its marks:\n{diagram}"
