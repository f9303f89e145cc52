"""Random lives of a pool: whatever comes, in whatever order, its promises hold."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker_init.pure.pool_world import SEED, World, refusal, table
from worker_init.handshake import INTERCHANGEABLE, OLDEST, Version
from worker_init.pool_states import ConnectionState, PoolState
from worker_init.routing import ANYWHERE, Route

C = ConnectionState
MEMBERS = (SEED, "one:7687", "two:7687")
ROUTES = (Route(), Route(read_only=True, database="neo4j"), Route(database="other"), Route(impersonated="alice"),
          ANYWHERE)


class Life:
    """One pool, with borrowers and servers that do what a random number says."""

    def __init__(self, seed: int, *, is_routed: bool, max_size: int) -> None:
        self.rnd = random.Random(seed)
        self.world = World(is_routed=is_routed, max_size=max_size, acquisition_timeout=self.rnd.choice([3.0, 60.0]),
                           max_lifetime=self.rnd.choice([5.0, 3600.0]), idle_timeout=self.rnd.choice([2.0, 300.0]),
                           liveness_check=self.rnd.choice([0.001, 60.0]))
        # None is the newest that both sides know. Each version has connections of its own.
        self.versions: list[Version | None] = [None, None, *self.rnd.sample([*INTERCHANGEABLE, OLDEST], 2)]
        self.names = 0
        self.waiting: set[str] = set()
        self.leases = 0

    def lend(self) -> None:
        self.names += 1
        name = str(self.names)
        self.waiting.add(name)
        self.world.lend(name, self.rnd.choice(ROUTES), must_check=self.rnd.random() < 0.1,
                        version=self.rnd.choice(self.versions))

    def end_lease(self) -> None:
        if self.world.granted:
            name = self.rnd.choice([*self.world.granted])
            self.rnd.choice([self.world.give_back, self.world.give_back, self.world.leave, self.world.discard])(name)

    def abandon(self) -> None:
        if self.waiting:
            name = self.rnd.choice(sorted(self.waiting))
            self.waiting.discard(name)
            self.world.abandon(name)

    def connect(self) -> None:
        if self.world.opening:
            at = self.rnd.randrange(len(self.world.opening))
            if self.rnd.random() < 0.7:
                self.world.open(at)
            else:
                self.world.fail(at=at)

    def answer(self) -> None:
        self.world.checking[:] = [link for link in self.world.checking if link.state in (C.CHECKING, C.RESETTING)]
        self.world.asking[:] = [ask for ask in self.world.asking if ask.link.state is C.ROUTING]
        if self.world.checking and self.rnd.random() < 0.9:
            self.world.answer(self.rnd.randrange(len(self.world.checking)))
        elif self.world.checking:
            self.world.machine.check_failed(self.world.checking.pop(), "nonsense", self.world.now)
        if self.world.asking and self.rnd.random() < 0.8:
            database, user = self.world.asking[-1].key
            who = self.rnd.sample(MEMBERS, 2)
            self.world.route(table(routers=(SEED,), readers=tuple(who), writers=tuple(who[:self.rnd.choice([0, 1, 1])]),
                                   database=database or f"home of {user}", ttl=self.rnd.choice([0.0, 1.0, 300.0])), -1,
                             routes_itself=self.rnd.random() < 0.5)
        elif self.world.asking:
            self.world.machine.route_failed(self.world.asking.pop().link, refusal(), self.world.now)

    def lose(self) -> None:
        links = [link for link in self.world.machine.links if link.state not in (C.OPENING, C.BROKEN)]
        if links:
            link = self.rnd.choice(links)
            if link in self.world.ending:
                self.world.ending.remove(link)
            self.world.lose(link)

    def fail(self) -> None:
        if self.world.granted:
            code = self.rnd.choice(["Neo.ClientError.Cluster.NotALeader", "Neo.ClientError.Security.TokenExpired",
                                    "Neo.TransientError.General.DatabaseUnavailable"])
            self.world.machine.failed(code, self.rnd.choice([*self.world.granted.values()]), self.world.now)

    def pass_time(self) -> None:
        self.world.tick(self.rnd.choice([0.001, 0.5, 2.0, 10.0, 70.0]))

    def step(self) -> None:
        steps: list[Callable[[], None]] = [self.lend, self.end_lease, self.connect, self.answer]
        rare = [self.abandon, self.lose, self.fail, self.pass_time, self.world.close_idle]
        rare += [self.world.reconnect, self.world.pause, self.world.resume, self.world.resume]
        self.rnd.choice(rare if self.rnd.random() < 0.15 else steps)()
        self.world.collect()
        if self.rnd.random() < 0.8:
            self.world.settle()
        if self.rnd.random() < 0.8:
            self.world.end()
        self.check()

    def check(self) -> None:
        world, machine = self.world, self.world.machine
        assert not world.served & {*world.refused}, "nobody is told both"
        self.waiting -= world.served | {*world.refused}
        assert machine.counters.own_faults == 0, world.notes
        assert len([*machine.links]) <= machine.limits.max_size
        assert machine.waiting == len(self.waiting)
        assert len({*world.granted.values()}) == len(world.granted), "one connection has one borrower"
        assert all(link.state in (C.LENT, C.BROKEN, C.CLOSING, C.GONE) for link in world.granted.values())
        if machine.state is PoolState.PAUSED:
            assert machine.count(C.IDLE) == 0, "nobody may use it, and the server is to be left alone"
        if machine.waiting:
            assert world.wake_at < float("inf"), "somebody waits, and nobody will look after it"

    def finish(self) -> None:
        """Let everything be answered and end: nobody waits, nothing is lent, nothing is left."""
        self.world.resume()
        for _ in range(2000):
            self.world.settle()
            self.connect()
            self.answer()
            self.end_lease()
            self.world.end()
            self.world.collect()
            self.check()
            if not (self.waiting or self.world.granted):
                break
            self.world.tick(0.1)
        assert not self.waiting
        self.world.machine.drain(self.world.now)
        self.world.machine.close(self.world.now)
        self.world.collect()
        self.world.end()
        assert [*self.world.machine.links] == []
        assert self.world.machine.counters.own_faults == 0


@pytest.mark.parametrize("is_routed", [False, True])
@given(seed=st.integers(0, 2**32), max_size=st.integers(1, 4))
def test_random_lives(is_routed: bool, seed: int, max_size: int) -> None:
    life = Life(seed, is_routed=is_routed, max_size=max_size)
    for _ in range(150):
        life.step()
    life.finish()


@given(seed=st.integers(0, 2**32))
def test_one_task_at_a_time_uses_one_connection(seed: int) -> None:
    """Each task ends in a way that keeps its connection; its end and the start of the next may be swapped."""
    rnd, world = random.Random(seed), World(max_size=100, idle_timeout=1e6, max_lifetime=1e6)
    before: str | None = None
    for number in range(30):
        before = next_task(world, rnd, str(number), before)
        answer_all(world)
        world.tick(rnd.choice([0.0, 0.1, 30.0, 70.0]), answers=True)
    assert world.opened == 1


def next_task(world: World, rnd: random.Random, name: str, before: str | None) -> str | None:
    """Let one task end and the next begin; return the next, if it lives to have a connection."""
    steps: list[Callable[[], object]] = [lambda: world.lend(name)]
    if before:
        end, task = rnd.choice([world.give_back, world.leave]), before
        steps.insert(rnd.choice([0, 0, 1]), lambda: end(task))
    for step in steps:
        step()
        if rnd.random() < 0.3:
            answer_all(world)
    world.settle()
    if name not in world.granted and rnd.random() < 0.3:
        world.abandon(name)
        return None
    while world.opening:
        world.open()
    answer_all(world)
    assert name in world.granted
    return name


def answer_all(world: World) -> None:
    while world.checking:
        world.answer()
