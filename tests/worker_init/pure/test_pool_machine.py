"""What the pool promises, tried on its machine: who gets a connection, what is opened and closed for it, and when."""

import itertools
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker_init.pure.pool_world import SEED, World, refusal, table
from worker_init.errors import EXHAUSTED, UNREACHABLE
from worker_init.handshake import Version
from worker_init.pool_actions import Link
from worker_init.pool_machine import CHECK_SECONDS
from worker_init.pool_states import ConnectionState, PoolState
from worker_init.routing import ANYWHERE, Route

C = ConnectionState
ONE, TWO, THREE = "one:7687", "two:7687", "three:7687"
CLUSTER = table(routers=(ONE, TWO, THREE), readers=(TWO, THREE), writers=(ONE,))
READ, WRITE = Route(read_only=True, database="neo4j"), Route(database="neo4j")


# One task at a time, one connection

def gives_back(world: World, name: str) -> None:
    world.give_back(name)


def leaves_and_is_reset(world: World, name: str) -> None:
    world.leave(name)
    world.answer()


WAYS_TO_END = {"its transaction ends": gives_back, "it is reset behind": leaves_and_is_reset,
               "RESET is not answered yet": World.leave}


@pytest.mark.parametrize("first", WAYS_TO_END)
@pytest.mark.parametrize("second", WAYS_TO_END)
@pytest.mark.parametrize("order", ["end, then start", "start read before the end"])
def test_tasks_one_after_the_other_use_one_connection(first: str, second: str, order: str) -> None:
    world = World()
    world.lend("task 0")
    world.open()
    ways = itertools.cycle((WAYS_TO_END[first], WAYS_TO_END[second]))
    for number in range(1, 7):
        before, name = f"task {number - 1}", f"task {number}"
        if order == "end, then start":
            next(ways)(world, before)
            world.lend(name)
        else:
            world.lend(name)
            next(ways)(world, before)
        world.settle()
        while world.checking:
            world.answer()
        assert name in world.granted
    assert world.opened == 1
    assert not world.opening


def test_what_has_come_for_an_earlier_task_says_nothing_of_the_next_one() -> None:
    """The next one's predecessor may have ended unread after that."""
    world = World()
    world.ready()
    world.lend("first")
    world.lend("second")
    world.give_back("first")
    assert "second" in world.granted
    world.lend("third")
    world.settle_earlier()
    assert not world.opening
    world.give_back("second")
    assert "third" in world.granted
    world.settle()
    assert world.opened == 1


def test_a_task_that_ends_while_its_connection_is_opened_leaves_it_to_the_next() -> None:
    world = World()
    world.lend("gone")
    world.abandon("gone")
    world.lend("next")
    world.settle()
    assert len(world.opening) == 1
    assert world.open() is world.granted["next"]


def test_a_task_that_ends_during_a_check_leaves_the_connection_to_the_next() -> None:
    world = World()
    link, = world.ready()
    world.tick(61)
    world.answer()
    world.tick(61)
    world.lend("gone")
    world.abandon("gone")
    world.lend("next")
    assert [world.answer(), world.opened] == [link, 1]
    assert world.granted["next"] is link


def test_a_reset_that_is_not_answered_is_waited_for_no_longer_than_a_check_takes() -> None:
    world = World()
    link, = world.ready()
    world.lend("first")
    world.leave("first")
    world.lend("next")
    world.tick(4.9)
    assert not world.opening
    world.tick(0.2)
    assert link.state is C.CLOSING
    assert len(world.opening) == 1


def test_two_tasks_at_once_have_two_connections() -> None:
    world = World()
    world.ready()
    world.lend("first")
    world.lend("second")
    assert not world.opening, "first all that has come is read"
    world.settle()
    world.open()
    assert world.granted["first"] is not world.granted["second"]


# In turn

def test_who_waits_is_served_in_turn() -> None:
    world = World(max_size=1)
    world.ready()
    for name in "abcd":
        world.lend(name)
        world.settle()
    for name, following in itertools.pairwise("abcd"):
        assert following not in world.granted
        world.give_back(name)
        assert following in world.granted
    assert world.opened == 1


def test_who_comes_while_others_wait_does_not_overtake_them() -> None:
    world = World(max_size=1)
    world.ready()
    world.lend("a")
    world.leave("a")
    world.lend("b")
    assert world.lend("c") is None
    world.answer()
    assert "b" in world.granted
    assert "c" not in world.granted


def test_what_was_granted_to_one_who_is_gone_goes_to_the_next() -> None:
    """The grant and the client's end are in one turn of the event loop."""
    world = World(max_size=1)
    world.ready()
    world.lend("holder")
    world.lend("gone")
    world.lend("next")
    world.machine.give_back(world.granted.pop("holder"), world.now)
    world.machine.abandon("gone", world.now)
    world.collect()
    assert [*world.granted] == ["next"]


# A server that takes no more

def test_a_failed_attempt_costs_only_that_attempt() -> None:
    world = World(max_size=100)
    world.ready()
    for name in "abc":
        world.lend(name)
    world.settle()
    world.fail()
    world.fail()
    assert world.refused == {}
    assert world.machine.state is PoolState.UP
    world.give_back("a")
    world.give_back("b")
    assert "c" in world.granted
    assert world.machine.counters.errors == 2


def test_a_server_that_takes_no_more_is_asked_once_a_second() -> None:
    world = World(max_size=100)
    world.ready()
    world.lend("holder")
    for number in range(10):
        world.lend(str(number))
    world.settle()
    while world.opening:
        world.fail()
    for number in range(10, 20):
        world.lend(str(number))
        world.settle()
    assert not world.opening
    world.tick(1.01)
    assert len(world.opening) == 1, "one, however many wait"
    world.fail()
    assert not world.opening
    world.tick(1.01)
    world.open()
    assert "0" in world.granted
    assert len(world.opening) == 19, "it takes more again"


def test_a_server_that_took_no_more_is_not_asked_again_and_again_while_an_answer_is_due() -> None:
    world = World(max_size=100)
    world.ready()
    for name in ("holder", "a", "b"):
        world.lend(name)
    world.settle()
    world.fail()
    world.fail()
    world.tick(1.01)
    world.machine.tick(world.now)
    world.collect()
    assert len(world.opening) == 1
    assert world.wake_at > world.now, "nothing is to be done until then"


def test_a_server_without_a_thread_for_a_transaction_is_asked_for_connections_less_and_less_often() -> None:
    """It takes a connection while one of its threads is free, and then refuses the transaction on it."""
    world = World(max_size=100, acquisition_timeout=1e6)
    world.ready()
    world.lend("holder")
    for pause in (1, 2, 4, 8, 16, 32, 60, 60):
        refused_a_thread(world)
        world.lend("waits")
        world.settle()
        assert not world.opening
        world.tick(pause - 0.01)
        assert not world.opening
        world.tick(0.02)
        assert len(world.opening) == 1
        world.abandon("waits")
        world.fail()
    world.tick(200)
    refused_a_thread(world)
    world.lend("waits")
    world.settle()
    world.tick(1.01)
    assert len(world.opening) == 1, "it has been quiet for long"


def refused_a_thread(world: World) -> None:
    """Let the server refuse a transaction, and close the connection on which it has."""
    world.tick(1.01)
    world.lend("one more")
    world.settle()
    link = world.open()
    world.machine.failed(EXHAUSTED, link, world.now)
    world.lose(link)
    world.discard("one more")


def test_a_server_without_a_thread_refuses_nobody_who_waits() -> None:
    world = World(max_size=100)
    world.ready()
    link = world.lend("holder")
    assert link
    world.lend("waits")
    world.machine.failed(EXHAUSTED, link, world.now)
    world.lose(link)
    world.discard("holder")
    assert not world.refused
    world.open()
    assert "waits" in world.granted




def test_who_waits_is_refused_once_no_connection_lives_and_none_can_be_opened() -> None:
    world = World(max_size=2)
    for name in "abcd":
        world.lend(name)
    world.fail("first")
    assert world.refused == {}, "another attempt is under way"
    world.fail("second")
    assert {name: str(failure) for name, failure in world.refused.items()} == dict.fromkeys("abcd", "second")
    assert world.machine.state is PoolState.DOWN
    assert world.machine.last_error == f"{UNREACHABLE}: second"


def test_who_comes_after_a_failure_has_an_attempt_of_its_own() -> None:
    world = World()
    world.lend("a")
    world.fail()
    world.lend("b")
    world.open()
    assert "b" in world.granted
    assert world.machine.state is PoolState.UP


def test_a_lent_connection_that_is_lost_is_replaced_at_once() -> None:
    """Also within the second in which a server that takes no more is not asked."""
    world = World()
    link, = world.ready()
    world.lend("holder")
    world.lend("waits")
    world.settle()
    world.fail()
    world.lose(link)
    world.discard("holder")
    assert "waits" in world.refused, "it has seen the failure, and nothing lives"
    world.lend("next")
    assert len(world.opening) == 1


# What is said to who waited too long

def test_the_reason_says_that_all_are_in_use() -> None:
    world = World(max_size=1)
    world.ready()
    world.lend("holder")
    world.lend("waits")
    world.tick(60)
    assert world.refused["waits"].code == EXHAUSTED
    assert "1 of at most 1 are in use" in str(world.refused["waits"])
    assert "WORKER_INIT_MAX_SIZE" in str(world.refused["waits"])


def test_the_reason_says_that_opening_was_under_way() -> None:
    world = World()
    world.lend("waits")
    world.tick(60)
    assert world.refused["waits"].code == UNREACHABLE
    assert "1 opening" in str(world.refused["waits"])
    assert "MAX_SIZE" not in str(world.refused["waits"])


def test_the_reason_says_what_the_last_attempt_came_to() -> None:
    world = World(max_size=10)
    world.ready()
    world.lend("holder")
    world.lend("waits")
    world.settle()
    for _ in range(60):
        world.tick(1)
        while world.opening:
            world.fail("no more room")
    assert "no more room" in str(world.refused["waits"])
    assert world.machine.counters.timeouts == 1


# Idle connections

def test_what_was_used_last_is_used_first() -> None:
    world = World()
    first, second = world.ready(2)
    assert world.lend("a") is second
    assert world.lend("b") is first


@pytest.mark.parametrize("limit", ["idle_timeout", "max_lifetime"])
def test_an_idle_connection_is_closed_in_time(limit: str) -> None:
    world = World(idle_timeout=100.0) if limit == "idle_timeout" else World(max_lifetime=100.0)
    link, = world.ready()
    world.tick(99, answers=True)
    assert link.state is C.IDLE, "a check does not make it younger, nor used"
    world.tick(1.5)
    assert world.said_goodbye == [link]


def test_an_old_connection_is_not_lent_again() -> None:
    world = World(max_lifetime=10.0)
    link, = world.ready()
    world.lend("a")
    world.now += 11
    world.give_back("a")
    assert world.said_goodbye == [link]
    assert world.lend("b") is None


def test_a_silent_connection_is_found_before_a_task_meets_it() -> None:
    world = World()
    link, = world.ready()
    world.tick(60)
    assert world.checking == [link]
    world.tick(5)
    assert link.state is C.CLOSING
    assert not world.opening, "nobody has asked for one"


def test_silent_connections_cost_one_check_whatever_their_number() -> None:
    world = World(max_size=10)
    links = world.ready(5)
    world.now += 200
    world.lend("a")
    world.tick(5)
    assert {link.state for link in links} == {C.CLOSING}
    assert len(world.opening) == 1


def test_a_check_that_is_answered_is_not_repeated_for_a_while() -> None:
    world = World()
    link, = world.ready()
    world.tick(60)
    world.answer()
    world.tick(59)
    assert world.lend("a") is link


def test_who_asks_for_a_check_gets_one_even_if_the_connection_was_just_used() -> None:
    world = World()
    link, = world.ready()
    assert world.lend("a", must_check=True) is None
    assert world.checking == [link]
    world.answer()
    assert world.granted["a"] is link


def test_the_end_of_an_idle_connection_is_noticed_and_forgotten() -> None:
    world = World()
    link, = world.ready()
    world.lose(link)
    assert [*world.machine.links] == []
    assert world.lend("a") is None
    assert len(world.opening) == 1


def test_closed_connections_count_until_their_end_was_seen() -> None:
    world = World(max_size=1)
    world.ready()
    world.lend("a")
    world.discard("a")
    world.lend("b")
    assert not world.opening
    world.end()
    assert len(world.opening) == 1


def test_a_goodbye_that_is_not_taken_ends_in_a_reset_of_the_connection() -> None:
    world = World()
    link, = world.ready()
    world.machine.close_idle(world.now)
    world.collect()
    world.ending.clear()
    world.tick(5)
    assert world.ending == [link]


def test_expired_credentials_spoil_every_connection_from_before() -> None:
    world = World()
    world.ready(2)
    world.lend("a")
    world.machine.failed("Neo.ClientError.Security.TokenExpired", world.granted["a"], world.now)
    world.collect()
    world.give_back("a")
    assert len(world.said_goodbye) == 2
    world.end()
    assert [*world.machine.links] == []


# Versions of Bolt

OLD = Version(5, 8)


def test_each_client_gets_a_connection_of_its_version() -> None:
    world = World(max_size=2)
    world.lend("new")
    world.lend("old", version=OLD)
    world.settle()
    while world.opening:
        world.open()
    assert [world.granted[name].place.version for name in ("new", "old")] == [None, OLD]
    for name, version in (("old", OLD), ("new", None)) * 2:
        if name in world.granted:
            world.give_back(name)
        world.lend(name, version=version)
    assert [world.granted[name].place.version for name in ("new", "old")] == [None, OLD]
    assert world.opened == 2


def test_the_size_is_that_of_all_versions_together() -> None:
    world = World(max_size=1)
    world.ready()
    world.lend("old", version=OLD)
    world.settle()
    assert not world.opening
    assert len(world.said_goodbye) == 1, "the idle connection of another version gives way"
    world.end()
    assert world.open().place.version == OLD
    world.lend("new")
    world.settle()
    assert not world.opening
    world.give_back("old")
    world.end()
    world.open()
    assert "new" in world.granted


# The end

def test_a_drain_ends_with_the_last_lease() -> None:
    world = World(max_size=1)
    world.ready()
    world.lend("a")
    world.lend("b")
    world.machine.drain(world.now)
    world.collect()
    assert not world.has_emptied
    world.give_back("a")
    assert not world.has_emptied
    world.give_back("b")
    assert len(world.said_goodbye) == 1
    assert world.has_emptied


def test_a_drain_with_nothing_to_wait_for_ends_at_once() -> None:
    world = World()
    world.ready()
    world.machine.drain(world.now)
    world.collect()
    assert world.has_emptied


def test_a_drain_serves_who_waits_for_a_connection_to_be_opened() -> None:
    world = World()
    world.lend("a")
    world.machine.drain(world.now)
    world.collect()
    world.open()
    world.give_back("a")
    assert world.has_emptied


def test_closing_refuses_who_waits_and_closes_what_is_lent() -> None:
    world = World(max_size=1)
    link, = world.ready()
    world.lend("a")
    world.lend("b")
    world.machine.close(world.now)
    world.collect()
    assert "is closed" in str(world.refused["b"])
    assert world.said_goodbye == [link]
    world.lend("c")
    assert "is closed" in str(world.refused["c"])
    world.give_back("a")
    world.end()
    assert [*world.machine.links] == []
    assert world.machine.counters.own_faults == 0


def test_a_connection_that_is_ready_after_the_end_is_closed() -> None:
    world = World()
    world.lend("a")
    link = world.opening[0]
    world.machine.close(world.now)
    world.machine.opened(link, "too late", world.now)
    world.collect()
    assert world.ending == [link]
    assert world.machine.counters.own_faults == 0


# Clusters

def cluster(**limits: float) -> World:
    """Return a world whose routing table is known; the connection that it was asked over is not idle any more."""
    world = World(is_routed=True, **limits)
    world.lend("first", READ)
    world.open()
    world.route(CLUSTER)
    world.end()
    world.open()
    world.give_back("first")
    return world


def test_a_transaction_reaches_a_member_that_serves_it() -> None:
    world = cluster()
    assert world.lend("reader", READ)
    assert world.granted["reader"].place.address in (TWO, THREE)
    world.lend("writer", WRITE)
    assert world.open().place.address == ONE
    assert world.granted["writer"].place.address == ONE


def test_connections_stay_in_the_pool_for_the_next_transaction() -> None:
    world = cluster()
    for number in range(10):
        for route in (READ, WRITE):
            world.lend(f"{number}", route)
            if world.opening:
                world.open()
            world.give_back(f"{number}")
    assert world.opened == 3        # the seed, one reader, the leader
    assert sorted(link.place.address for link in world.machine.links) == [ONE, TWO]


def test_readers_are_used_evenly_by_those_who_read_at_the_same_time() -> None:
    world = cluster(max_size=4)
    for name in "abcd":
        world.lend(name, READ)
        world.settle()
    while world.opening:
        world.open()
    assert sorted(link.place.address for link in world.granted.values()) == [THREE, THREE, TWO, TWO]


def test_the_size_is_that_of_all_members_together() -> None:
    world = cluster(max_size=1)
    assert world.lend("reader", READ)
    world.lend("writer", WRITE)
    world.settle()
    assert not world.opening
    reader = world.give_back("reader")
    assert world.said_goodbye[-1] is reader, "it gives way"
    assert not world.opening
    world.end()
    assert world.open().place.address == ONE
    assert "writer" in world.granted


def test_reads_need_no_leader() -> None:
    world = World(is_routed=True)
    world.lend("reader", READ)
    world.open()
    world.route(table(routers=(SEED,), readers=(SEED,), writers=()))
    assert "reader" in world.granted
    world.lend("writer", WRITE)
    world.settle()
    while world.opening:
        world.open()
    world.route(table(routers=(SEED,), readers=(SEED,), writers=()))
    assert "leads the database neo4j" in str(world.refused["writer"])


def test_what_needs_no_member_in_particular_needs_no_routing_table() -> None:
    world = World(is_routed=True)
    world.lend("asks", ANYWHERE)
    assert world.open().place.address == SEED
    assert "asks" in world.granted
    assert not world.asking


def test_a_table_is_asked_for_once_for_all_who_need_it() -> None:
    world = World(is_routed=True)
    for name in "abc":
        world.lend(name, READ)
    assert len(world.opening) == 1
    world.open()
    assert len(world.asking) == 1
    world.route(table(readers=(SEED,)))
    world.settle()
    while world.opening:
        world.open()
    assert set(world.granted) == set("abc")


def test_a_router_that_does_not_answer_stops_nobody_who_has_a_table() -> None:
    """The driver would hold its lock for as long."""
    world = cluster(max_size=5)
    world.lend("other", Route(read_only=True, database="other"))
    assert len(world.asking) == 1
    world.lend("reader", READ)
    world.settle()
    if world.opening:
        world.open()
    assert "reader" in world.granted
    world.tick(15)
    world.settle()
    assert world.opening, "the next router is asked"
    world.open()
    world.route(table(routers=(ONE, TWO), readers=(TWO,), writers=(ONE,), database="other"), -1)
    while world.opening:
        world.open()
    assert "other" in world.granted


class Outage:
    """A pool of which every connection so far has fallen silent, as behind a load balancer; new ones are answered."""

    def __init__(self, rnd: random.Random, *, routed: bool) -> None:
        self.world = world = World(is_routed=routed, max_size=rnd.choice([4, 10]), liveness_check=60.0,
                                   idle_timeout=10_000.0)
        self.silent: set[Link] = set()
        for number in range(rnd.randint(1, 4)):
            self.lend(str(number), rnd.choice([READ, WRITE]))
        for name in [*world.granted]:
            world.tick(rnd.choice([0.0, 1.0, 30.0]))
            world.give_back(name)
        world.tick(rnd.choice([0.0, 1.0, 59.0, 300.0]), answers=True)
        world.now += rnd.choice([1.0, 5.0, 59.0, 200.0])
        self.silent = {*world.machine.links}

    def lend(self, name: str, route: Route, *, must_check: bool = False) -> float:
        """Return how long a task waits for its connection."""
        world, began = self.world, self.world.now
        world.lend(name, route, must_check=must_check)
        while name not in {*world.served, *world.refused}:
            world.settle()
            world.end()
            if not (self.opens() or self.routes() or self.answers()):
                world.tick(world.wake_at - world.now)
        assert name in world.served
        return world.now - began

    def opens(self) -> bool:
        return bool(self.world.opening) and bool(self.world.open())

    def routes(self) -> bool:
        ready = [at for at, ask in enumerate(self.world.asking) if ask.link.state is C.ROUTING
                 and ask.link not in self.silent]
        return bool(ready) and bool(self.world.route(CLUSTER, ready[0]))

    def answers(self) -> bool:
        ready = [at for at, link in enumerate(self.world.checking) if link.state is C.CHECKING
                 and link not in self.silent]
        return bool(ready) and bool(self.world.answer(ready[0]))


@given(seed=st.integers(0, 2**32), route=st.sampled_from([READ, WRITE, ANYWHERE]), must_check=st.booleans(),
       routed=st.booleans())
def test_silent_connections_cost_a_task_no_more_than_one_check(seed: int, route: Route, must_check: bool,
                                                               routed: bool) -> None:
    """However many there are, whatever is asked, and whether the routing table has expired.

    Only what has answered within the last second is taken to be alive without a check.
    """
    outage = Outage(random.Random(seed), routed=routed)
    assert outage.lend("task", route, must_check=must_check) <= CHECK_SECONDS


@pytest.mark.parametrize("age", [200, 400], ids=["valid table", "expired table"])
def test_a_member_that_was_found_silent_is_the_last_to_be_asked_again(age: int) -> None:
    """It may take no connections either. Who has waited for it already is not made to wait for that as well."""
    world = World(is_routed=True, max_size=10, idle_timeout=10_000.0)
    members = table(routers=(TWO, THREE), readers=(TWO, THREE), writers=(ONE,))
    world.lend("at two", READ)
    world.open()
    world.route(members)
    world.lend("at three", READ)
    world.settle()
    while world.opening:
        world.open()
    assert [world.granted[name].place.address for name in ("at two", "at three")] == [TWO, THREE]
    world.give_back("at three")
    world.give_back("at two")
    world.now += age
    world.lend("task", READ)
    assert [link.place.address for link in world.checking] == [TWO]
    world.tick(CHECK_SECONDS)
    world.end()
    assert [link.place.address for link in world.opening] == [THREE]


def test_a_table_that_has_expired_is_asked_for_again_over_an_idle_connection() -> None:
    world = cluster(idle_timeout=1000.0)
    world.tick(301, answers=True)
    assert world.lend("reader", READ) is None
    world.answer()
    assert len(world.asking) == 1
    assert not world.opening
    world.route(CLUSTER)
    assert "reader" in world.granted
    assert world.opened == 2


def test_a_leader_that_has_lost_its_office_is_asked_no_more() -> None:
    world = cluster()
    world.lend("writer", WRITE)
    world.open()
    world.machine.failed("Neo.ClientError.Cluster.NotALeader", world.granted["writer"], world.now)
    world.give_back("writer")
    world.lend("writer", WRITE)
    assert len(world.asking) == 1
    world.route(table(routers=(ONE, TWO, THREE), readers=(ONE, THREE), writers=(TWO,)))
    assert world.granted["writer"].place.address == TWO


def test_a_member_that_is_unavailable_is_left_alone_until_a_table_names_it() -> None:
    world = cluster()
    link = world.lend("reader", READ)
    assert link
    world.machine.failed("Neo.TransientError.General.DatabaseUnavailable", link, world.now)
    world.give_back("reader")
    world.lend("next", READ)
    assert world.open().place.address == THREE


def test_a_reader_that_cannot_be_reached_is_passed_over() -> None:
    world = cluster()
    for link in [*world.machine.links]:
        world.lose(link)
    world.lend("reader", READ)
    assert world.fail("black hole").place.address == TWO
    assert world.open().place.address == THREE
    assert "reader" in world.granted


def test_a_dead_leader_is_named_to_who_writes() -> None:
    world = cluster()
    world.lend("writer", WRITE)
    assert world.fail("connection refused").place.address == ONE
    world.route(CLUSTER)        # the table names it still
    assert "connection refused" in str(world.refused["writer"])
    world.lend("reader", READ)
    assert "reader" in world.granted


def test_each_router_is_asked_before_anybody_is_refused() -> None:
    world = cluster()
    for link in [*world.machine.links]:
        world.lose(link)
    world.now += 301
    world.lend("reader", READ)
    asked = []
    while world.opening:
        asked.append(world.fail("no answer").place.address)
    assert sorted(asked) == sorted([ONE, TWO, THREE, SEED])
    assert "no answer" in str(world.refused["reader"])


def test_a_database_that_does_not_exist_is_neo4js_own_failure() -> None:
    world = cluster()
    world.lend("reader", Route(read_only=True, database="nothing"))
    link = world.asking.pop().link
    failure = refusal("no such database")
    failure.code = "Neo.ClientError.Database.DatabaseNotFound"
    world.machine.route_failed(link, failure, world.now)
    world.collect()
    assert world.refused["reader"] is failure
    assert world.checking == [link], "RESET makes it READY again"
    world.answer()
    assert link.state is C.IDLE


@pytest.mark.parametrize("answer", [None, {}, {"servers": 1, "ttl": 1}, {"servers": [{"role": "READ"}], "ttl": 1},
                                    table(readers=()), table(routers=())])
def test_an_answer_that_is_no_table_is_a_failure_of_its_router(answer: object) -> None:
    world = World(is_routed=True)
    world.lend("reader", READ)
    world.open()
    world.route(answer)
    assert "routing table" in str(world.refused["reader"])


def test_each_user_has_a_home_database() -> None:
    world = World(is_routed=True, max_size=10)
    homes = {"alice": ONE, "bob": TWO}
    for user, member in homes.items():
        world.lend(user, Route(impersonated=user))
        world.settle()
        while world.opening:
            world.open()
        assert world.asking[0].key == (None, user)
        world.route(table(routers=(SEED,), readers=(member,), writers=(member,), database=f"home of {user}"))
        while world.opening:
            world.open()
    assert {user: world.granted[user].place.address for user in homes} == homes
    for user in homes:
        world.give_back(user)
        assert world.lend(user, Route(impersonated=user)), "it is known for a while"


def test_a_home_database_is_asked_for_each_time_where_the_server_does_not_correct_a_mistake() -> None:
    world = World(is_routed=True, max_size=10)
    for _ in range(2):
        world.lend("alice", Route(impersonated="alice"))
        while world.opening:
            world.open()
        assert len(world.asking) == 1
        world.route(table(database="home of alice"), routes_itself=False)
        world.give_back("alice")


def test_what_no_table_names_any_more_is_closed() -> None:
    world = cluster()
    reader = next(iter(world.machine.links))
    world.now += 301
    world.lend("reader", READ)
    world.answer()
    world.route(table(routers=(ONE,), readers=(ONE,), writers=(ONE,)))
    assert world.said_goodbye[-1] is reader
    world.end()
    world.open()
    assert world.granted["reader"].place.address == ONE


# Case 31: a line for each of 6,000 transactions that waited in vain.
def test_a_storm_of_transactions_that_wait_in_vain_is_one_line_a_minute() -> None:
    world = World(max_size=1, acquisition_timeout=10.0)
    world.ready()
    world.lend("holder")
    for turn in range(8):
        for number in range(100):
            world.lend(f"{turn} {number}")
        world.tick(10.0)
    assert world.machine.counters.timeouts == 800
    said = [note for note in world.notes if "became free" in note]
    assert len(said) == 2
    assert "and 599 more" in said[1]


# What is measured

def seconds_of(world: World) -> dict[str, tuple[int, float]]:
    """Return how often something was measured, and the seconds in all."""
    counters = world.machine.counters
    return {name: (sum(times.counts), round(times.sum, 6))
            for name, times in (("create", counters.create), ("wait", counters.wait), ("use", counters.use))}


@pytest.mark.parametrize("way", [World.give_back, World.leave, World.discard])
def test_it_is_measured_how_long_a_connection_was_opened_waited_for_and_used(
        way: Callable[[World, str], object]) -> None:
    world = World(max_size=1)
    world.lend("a")
    world.tick(2)
    world.open()
    world.lend("b")
    world.tick(5)
    way(world, "a")
    assert seconds_of(world) == {"create": (1, 2.0), "wait": (1 + (way is World.give_back), 2.0 + 5.0 * (
        way is World.give_back)), "use": (1, 5.0)}


def test_who_does_not_wait_is_counted_as_served_at_once() -> None:
    world = World()
    world.ready()
    world.tick(7)
    before = seconds_of(world)
    world.lend("a")
    world.tick(3)
    world.give_back("a")
    after = seconds_of(world)
    assert world.machine.counters.served_at_once == 1
    assert (after["wait"], after["use"]) == (before["wait"], (before["use"][0] + 1, before["use"][1] + 3.0))


def test_an_attempt_that_fails_or_is_given_up_is_no_connection_that_was_created() -> None:
    world = World()
    world.lend("a")
    world.tick(2)
    world.fail()
    world.lend("b")
    link, = world.opening
    world.machine.close(world.now)
    world.collect()
    world.machine.opened(link, "late", world.now)
    world.collect()
    assert seconds_of(world) == {"create": (0, 0), "wait": (0, 0), "use": (0, 0)}


# What the pool says of itself

def test_the_pool_says_what_it_last_knew_of_its_server() -> None:
    world = World()
    steps: list[Callable[[], object]] = [
        lambda: world.lend("a"), world.fail, lambda: world.lend("b"), world.fail, lambda: world.lend("c"), world.open,
        lambda: world.ready(2)]
    assert [state_after(world, step) for step in steps] == ["new", "down", "down", "down", "down", "up", "up"]


def state_after(world: World, step: Callable[[], object]) -> str:
    step()
    world.collect()
    return str(world.machine.state)


@pytest.mark.parametrize("before", ["new", "up", "down"])
def test_a_pool_that_is_closed_stays_so(before: str) -> None:
    world = World()
    if before == "up":
        world.ready()
    if before == "down":
        world.lend("refused")
        world.fail()
    assert str(world.machine.state) == before
    assert state_after(world, lambda: world.machine.close(world.now)) == "closed"
    world.lend("late")
    assert state_after(world, lambda: world.machine.drain(world.now)) == "closed"
    assert "late" in world.refused


@pytest.mark.parametrize("before", [PoolState.NEW, PoolState.UP, PoolState.DOWN])
def test_a_pool_that_drains_does_so_until_it_is_closed(before: PoolState) -> None:
    world = World()
    if before is PoolState.UP:
        world.ready()
    if before is PoolState.DOWN:
        world.lend("refused")
        world.fail()
    machine, now = world.machine, world.now
    assert machine.state is before
    steps: list[Callable[[], object]] = [
        lambda: machine.drain(now), lambda: machine.drain(now), lambda: machine.close(now), lambda: machine.drain(now)]
    assert [state_after(world, step) for step in steps] == ["draining", "draining", "closed", "closed"]


# What an operator asks for

def test_reconnect_closes_what_is_idle_now_and_what_is_lent_with_its_lease() -> None:
    world = World()
    world.ready(2)
    lent = world.lend("a")
    assert lent
    world.reconnect()
    assert [link.state for link in world.said_goodbye] == [C.CLOSING]
    assert str(lent.state) == "lent"
    assert world.give_back("a") is lent
    assert [*world.said_goodbye][-1] is lent
    world.end()
    assert [*world.machine.links] == []


@pytest.mark.parametrize("way", ["reset behind", "checked", "opened"])
def test_reconnect_also_ends_what_is_under_way_and_who_waits_for_it_gets_a_new_one(way: str) -> None:
    world = World()
    if way != "opened":
        world.ready()
    if way == "reset behind":
        world.lend("before")
        world.leave("before")
    world.lend("a", must_check=way == "checked")
    world.reconnect()
    assert not world.granted, "a connection from before served after"
    world.open() if way == "opened" else world.answer()
    assert not world.granted
    world.open()
    assert world.granted["a"].state is C.LENT
    assert len(world.said_goodbye) == 1


def test_reconnect_asks_the_cluster_again_who_leads() -> None:
    world = World(is_routed=True)
    has_table(world)
    world.lend("a", WRITE)
    world.open()
    assert not world.asking
    world.give_back("a")
    world.reconnect()
    world.lend("b", WRITE)
    world.open()
    assert [ask.key for ask in world.asking] == [("neo4j", None)]


def has_table(world: World) -> None:
    """Let a table be asked for, and the connection that has told it end."""
    world.lend("first", WRITE)
    world.open()
    world.route(table(routers=(SEED,), readers=(SEED,), writers=(SEED,)))
    world.give_back("first")
    world.close_idle()
    world.end()


def test_a_pause_opens_nothing_and_lends_nothing_until_it_is_resumed() -> None:
    world = World()
    world.ready()
    lent = world.lend("running")
    assert lent
    world.pause()
    assert str(lent.state) == "lent", "a transaction that runs goes on"
    for name in "abc":
        assert world.lend(name) is None
    world.settle()
    assert (world.opening, world.machine.waiting) == ([], 3)
    world.give_back("running")
    world.end()
    assert [*world.machine.links] == [], "the server is left alone"
    world.tick(30)
    assert (world.opening, world.refused) == ([], {})
    world.resume()
    assert len(world.opening) == 3
    assert str(world.machine.state) == "new"
    for name in "abc":
        world.open()
        assert name in world.granted, "in turn"


def test_a_pause_that_is_not_resumed_in_time_is_named_to_who_waited() -> None:
    world = World(acquisition_timeout=10.0)
    world.pause()
    world.lend("a")
    world.tick(9.9)
    assert not world.refused
    world.tick(0.2)
    assert world.refused["a"].code == EXHAUSTED
    assert world.refused["a"].message == (
        "the shared driver is paused (worker-driver pause), and was not resumed within 10 s "
        "(WORKER_INIT_ACQUISITION_TIMEOUT): 1 wait")


def test_what_failed_before_or_in_a_pause_does_not_count_for_the_server_behind_it() -> None:
    world = World()
    world.lend("a")
    world.pause()
    world.fail("the server is being maintained")
    assert "a" not in world.refused
    world.resume()
    world.open()
    assert "a" in world.granted


def test_an_attempt_that_ends_in_a_pause_gives_nobody_a_connection() -> None:
    world = World()
    world.lend("a")
    world.pause()
    world.open()
    assert "a" not in world.granted
    world.end()
    assert [*world.machine.links] == []


def test_a_pause_may_be_asked_for_twice_and_resumed_twice() -> None:
    world = World()
    for step, state in [(world.pause, "paused"), (world.pause, "paused"), (world.resume, "new"), (world.resume, "new")]:
        assert state_after(world, step) == state
    world.ready()
    assert state_after(world, world.resume) == "up"


def test_a_host_that_stops_in_a_pause_refuses_at_once_and_opens_nothing() -> None:
    world = World()
    world.ready()
    world.lend("running")
    world.pause()
    world.lend("a")
    world.machine.drain(world.now)
    world.collect()
    world.lend("b")
    assert {*world.refused} == {"a", "b"}
    emptied = [world.has_emptied]
    world.give_back("running")
    assert [*emptied, world.has_emptied] == [False, True]
    assert not world.opening


# Connections count until their end was read

def gone(world: World, link: Link) -> bool:
    """Read the end of a connection that is being closed; return whether nothing is left of it."""
    assert (str(link.state), link in world.machine.links) == ("closing", True)
    world.lose(link)
    return link.state is C.GONE and link not in world.machine.links and not world.machine.counters.own_faults


def test_a_connection_on_which_the_server_speaks_unasked_is_closed() -> None:
    world = World()
    link, = world.ready()
    world.machine.spoke(link, world.now)
    world.collect()
    assert gone(world, link)


@pytest.mark.parametrize("way", [World.give_back, World.leave, World.discard])
def test_a_lease_may_end_after_the_pool_has_closed_its_connection(way: Callable[[World, str], object]) -> None:
    world = World()
    link, = world.ready()
    world.lend("a")
    world.machine.close(world.now)
    world.collect()
    way(world, "a")
    assert gone(world, link)


@pytest.mark.parametrize("way", [World.give_back, World.leave, World.discard])
def test_a_lease_whose_connection_is_lost_ends_without_it(way: Callable[[World, str], object]) -> None:
    world = World()
    link, = world.ready()
    world.lend("a")
    world.lose(link)
    assert link.state is C.BROKEN
    way(world, "a")
    assert (link.state, [*world.machine.links], world.machine.counters.own_faults) == (C.GONE, [], 0)


def test_a_connection_that_does_not_answer_route_is_closed() -> None:
    world = World(is_routed=True)
    world.lend("a", Route(database="x"))
    world.open()
    link = world.asking[0].link
    world.tick(31)
    assert gone(world, link)


def opened_too_late(world: World, link: Link) -> None:
    world.machine.opened(link, "too late", world.now)


def failed_too_late(world: World, link: Link) -> None:
    world.machine.open_failed(link, refusal(), world.now)


@pytest.mark.parametrize("late", [opened_too_late, failed_too_late])
def test_an_attempt_that_was_cancelled_stays_so_however_it_ends(late: Callable[[World, Link], None]) -> None:
    world = World()
    world.lend("a")
    link = world.opening[0]
    world.machine.close(world.now)
    late(world, link)
    world.collect()
    world.end()
    assert (link.state, [*world.machine.links], world.machine.counters.own_faults) == (C.GONE, [], 0)


@pytest.mark.parametrize("way", [World.give_back, World.leave, World.discard])
def test_a_lease_may_end_after_its_connection_that_the_pool_closed(way: Callable[[World, str], object]) -> None:
    world = World()
    link, = world.ready()
    world.lend("a")
    world.machine.close(world.now)
    world.collect()
    world.end()
    way(world, "a")
    assert (link.state, [*world.machine.links], world.machine.counters.own_faults) == (C.GONE, [], 0)


def checking(world: World) -> Link:
    link, = world.ready()
    world.lend("a", must_check=True)
    return link


def resetting(world: World) -> Link:
    world.ready()
    world.lend("a")
    return world.leave("a")


def routing(world: World) -> Link:
    world.lend("a", Route(database="x"))
    world.open()
    return world.asking[0].link


def lent(world: World) -> Link:
    link, = world.ready()
    world.lend("a")
    return link


@pytest.mark.parametrize("at", [lambda world: world.ready()[0], checking, resetting, routing, lent])
def test_a_pool_that_closes_says_goodbye_on_every_connection_and_waits_for_its_end(at: Callable[[World], Link]) -> None:
    world = World(is_routed=at is routing)
    link = at(world)
    world.machine.close(world.now)
    world.collect()
    assert (world.said_goodbye, [*world.machine.links]) == ([link], [link])
    world.end()
    assert [*world.machine.links] == []
    assert world.machine.counters.own_faults == 0


@pytest.mark.parametrize("way", [World.give_back, World.leave, World.discard])
def test_a_pool_that_closes_has_nothing_to_close_where_the_server_has(way: Callable[[World, str], object]) -> None:
    world = World()
    link = lent(world)
    world.lose(link)
    world.machine.close(world.now)
    world.collect()
    assert (world.said_goodbye, [*world.machine.links]) == ([], [])
    way(world, "a")
    assert (link.state, [*world.machine.links], world.machine.counters.own_faults) == (C.GONE, [], 0)


def test_a_pool_that_closes_waits_for_what_is_being_closed() -> None:
    world = World()
    link = lent(world)
    world.discard("a")
    world.machine.close(world.now)
    world.collect()
    assert gone(world, link)


# What the pool last knew of its server, or was told

P = PoolState
SAYS: dict[str, Callable[[World, Link], None]] = {
    "a connection is open": lambda world, link: world.machine.opened(link, "a connection", world.now),
    "none can be opened": lambda world, link: world.machine.open_failed(link, refusal(), world.now),
    "pause": lambda world, _: world.machine.pause(world.now),
    "resume": lambda world, _: world.machine.resume(world.now),
    "drain": lambda world, _: world.machine.drain(world.now),
    "close": lambda world, _: world.machine.close(world.now)}


def with_an_attempt(state: PoolState) -> tuple[World, Link]:
    """Return a pool in this state, and a connection that is still being opened."""
    world = World()
    if state is P.UP:
        world.lose(lent(world))
        world.leave("a")
    if state is P.DOWN:
        world.lend("refused")
        world.fail()
    world.lend("b")
    world.settle()
    link = world.opening[0]
    if end := {P.PAUSED: "pause", P.DRAINING: "drain", P.CLOSED: "close"}.get(state):
        SAYS[end](world, link)
    assert world.machine.state is state
    return world, link


@pytest.mark.parametrize("said", SAYS)
@pytest.mark.parametrize("state", PoolState)
def test_a_pool_says_what_it_knows_until_it_drains(state: PoolState, said: str) -> None:
    world, link = with_an_attempt(state)
    SAYS[said](world, link)
    if said == "close" or state is P.CLOSED:
        expected = P.CLOSED
    elif said == "drain" or state is P.DRAINING:
        expected = P.DRAINING
    elif said == "resume":
        expected = P.NEW if state is P.PAUSED else state
    elif said == "pause" or state is P.PAUSED:
        expected = P.PAUSED
    else:
        expected = P.UP if said == "a connection is open" else P.DOWN
    assert world.machine.state is expected
    assert world.machine.counters.own_faults == 0
