"""A relay's machines together, in virtual time: whatever comes in whatever order, clients are served as directly."""

import random
from functools import partial

from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.worker_init.pure.model_server import query
from tests.worker_init.pure.relay_life import SIZES, Life
from tests.worker_init.pure.relay_world import OPENING, RIGHT, Peer, World
from worker_init.bolt import Tag


@given(seed=st.integers(0, 2**32))
def test_random_lives(seed: int) -> None:
    Life(random.Random(seed)).live(200)


class Relay(RuleBasedStateMachine):
    """The same world, with steps that Hypothesis draws, so that what it finds gets short."""

    @initialize(is_routed=st.booleans(), max_size=st.integers(1, 3), recv_timeout=st.sampled_from([None, 4.0]),
                liveness_check=st.sampled_from([0.001, 60.0]))
    def begin(self, is_routed: bool, max_size: int, recv_timeout: float | None, liveness_check: float) -> None:
        self.world = World(is_routed=is_routed, max_size=max_size, recv_timeout=recv_timeout,
                           liveness_check=liveness_check)

    def peer(self, number: int) -> Peer:
        return self.world.peers[number % len(self.world.peers)]

    @rule(filters=st.booleans())
    def join(self, filters: bool) -> None:
        if len(self.world.peers) < 5:
            peer = self.world.join()
            peer.write(OPENING)
            peer.ask(Tag.HELLO, {"notifications_minimum_severity": "OFF"} if filters else {})
            peer.ask(Tag.LOGON, RIGHT)

    @precondition(lambda self: self.world.peers)
    @rule(number=st.integers(0, 4), rows=st.integers(0, 3), batches=st.integers(1, 2),
          how=st.sampled_from(["ok", "fails", "fails_late"]), size=st.sampled_from([0, 10, 20_000]))
    def auto_commit(self, number: int, rows: int, batches: int, how: str, size: int) -> None:
        peer = self.peer(number)
        if len(peer.outgoing) > 20_000:
            return      # 64 KiB are too much until it has logged on
        peer.ask(Tag.RUN, query(peer.mark(), rows, batches, how), {"p": "x" * size}, {})
        for _ in range(batches):
            peer.ask(Tag.PULL, {"n": -1})
        peer.ask(Tag.RESET)

    @precondition(lambda self: self.world.peers)
    @rule(number=st.integers(0, 4), runs=st.integers(0, 2), end=st.sampled_from([Tag.COMMIT, Tag.ROLLBACK, Tag.RESET]))
    def transaction(self, number: int, runs: int, end: Tag) -> None:
        peer = self.peer(number)
        peer.ask(Tag.BEGIN, {"mark": peer.mark()})
        for _ in range(runs):
            peer.ask(Tag.RUN, query(peer.mark()), {}, {})
            peer.ask(Tag.PULL, {"n": -1})
        peer.ask(end)

    @precondition(lambda self: self.world.peers)
    @rule(number=st.integers(0, 4), what=st.sampled_from(["reset", "telemetry", "route", "again"]))
    def aside(self, number: int, what: str) -> None:
        peer = self.peer(number)
        if what == "again":
            peer.ask(Tag.LOGOFF)
            peer.ask(Tag.LOGON, RIGHT)
        else:
            tag = Tag[what.upper()]
            peer.ask(tag, *{Tag.TELEMETRY: (1,), Tag.ROUTE: ({}, [], {})}.get(tag, ()))

    @precondition(lambda self: self.world.peers)
    @rule(number=st.integers(0, 4), size=st.sampled_from(SIZES))
    def client_sends(self, number: int, size: int) -> None:
        self.peer(number).deliver(size)

    @precondition(lambda self: self.world.servers)
    @rule(number=st.integers(0, 4), size=st.sampled_from(SIZES))
    def server_sends(self, number: int, size: int) -> None:
        server = self.world.servers[number % len(self.world.servers)]
        if server in self.world.living:
            server.work()
            server.deliver(size)

    @precondition(lambda self: self.world.servers)
    @rule(number=st.integers(0, 4), full=st.booleans())
    def server_is_full(self, number: int, full: bool) -> None:
        self.world.servers[number % len(self.world.servers)].fill(full=full)

    @precondition(lambda self: self.world.servers)
    @rule(number=st.integers(0, 4))
    def server_dies(self, number: int) -> None:
        self.world.servers[number % len(self.world.servers)].die_early()

    @precondition(lambda self: self.world.opening)
    @rule(succeeds=st.sampled_from([True, True, True, False]))
    def connection_opens(self, succeeds: bool) -> None:
        (self.world.open if succeeds else self.world.fail_to_open)()

    @precondition(lambda self: self.world.peers)
    @rule(number=st.integers(0, 4), reads=st.booleans())
    def client_reads(self, number: int, reads: bool) -> None:
        peer = self.peer(number)
        (peer.read if reads else peer.stop_reading)()

    @precondition(lambda self: self.world.peers)
    @rule(number=st.integers(0, 4), is_noticed=st.booleans())
    def client_leaves(self, number: int, is_noticed: bool) -> None:
        peer = self.peer(number)
        peer.leave()
        if is_noticed:
            peer.notice_end()

    @precondition(lambda self: self.world.is_busy)
    @rule()
    def loop_turns(self) -> None:
        self.world.turn()

    @rule(seconds=st.sampled_from([0.0, 0.1, 3.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @invariant()
    def promises_hold(self) -> None:
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.finish()


TestRelay = Relay.TestCase
TestRelay.settings = settings(stateful_step_count=50)


def one_task(world: World, rnd: random.Random) -> Peer:
    """Have a client run a transaction in one of the ways in which they end, until it has all answers."""
    peer = world.join()
    peer.write(OPENING)
    peer.ask(Tag.HELLO, {})
    peer.ask(Tag.LOGON, RIGHT)
    in_transaction = rnd.random() < 0.5
    if in_transaction:
        peer.ask(Tag.BEGIN, {})
    peer.ask(Tag.RUN, query(peer.mark(), 3), {}, {})
    peer.ask(Tag.PULL, {"n": -1})
    if in_transaction and rnd.random() < 0.5:
        peer.ask(Tag.COMMIT)
    for _ in range(10_000):
        if not peer.owed:
            return peer
        rnd.choice([lambda: peer.deliver(rnd.choice(SIZES)), world.open, world.turn,
                    *(server.work for server in world.servers)])()
        for server in world.living:
            server.deliver(rnd.choice(SIZES))
    raise AssertionError("never answered")


@given(st.integers(0, 2**32), st.booleans())
@example(1_712_552_572, False)
def test_one_task_at_a_time_uses_one_connection(seed: int, is_routed: bool) -> None:
    """The next task may ask before the relay has read how the one before it ended, in whatever way that was."""
    rnd = random.Random(seed)
    world = World(is_routed=is_routed, max_size=100)
    for _ in range(12):
        peer = one_task(world, rnd)
        peer.leave()
        if rnd.random() < 0.5:
            peer.notice_end()
        else:
            # Two turns of the loop later, behind the first request of the next one.
            world.soon(partial(world.soon, peer.notice_end))
    world.finish()
    assert world.opened <= 1
