"""Random lives of a relay in its world: what clients, servers, networks and time do next is drawn."""

import random
from collections.abc import Callable

from tests.worker_init.pure.model_server import query
from tests.worker_init.pure.relay_world import (
    OPENING,
    RIGHT,
    SEED,
    VERSIONS,
    WRONG,
    Peer,
    Server,
    World,
    manifest,
    opening,
)
from worker_init.bolt import Tag, chunked, message
from worker_init.handshake import INTERCHANGEABLE, LOGON, Version, offers_of

SIZES = (1, 2, 3, 5, 17, 100, 1000, 20_000, 200_000)


class Life:
    """One world, and what happens in it. ``steps`` counts what was put into the machines."""

    def __init__(self, rnd: random.Random) -> None:
        self.rnd = rnd
        self.is_calm = rnd.random() < 0.3
        is_routed = rnd.random() < 0.4
        self.world = World(
            is_routed=is_routed, members=self._members(rnd, is_routed=is_routed), choose=rnd.choice,
            recv_timeout=rnd.choice([None, None, 4.0]),
            max_size=rnd.choice([1, 1, 2, 3, 50]),
            acquisition_timeout=60.0 if self.is_calm else rnd.choice([1.0, 20.0]),
            max_lifetime=rnd.choice([0.5, 3600.0]), idle_timeout=rnd.choice([0.05, 2.0, 300.0]),
            liveness_check=rnd.choice([0.001, 0.5, 60.0]))
        self.steps = 0

    @staticmethod
    def _members(rnd: random.Random, *, is_routed: bool) -> dict[str, Version]:
        """Return one server, or a cluster; one that is being upgraded has more than one version."""
        newest = rnd.choice(VERSIONS)
        members = {SEED: newest}
        if is_routed:
            versions = INTERCHANGEABLE if newest in INTERCHANGEABLE and rnd.random() < 0.2 else (newest,)
            members |= {f"member-{number}:7687": rnd.choice(versions) for number in range(rnd.randrange(3))}
        return members

    # What clients do

    def version(self) -> Version:
        """Return what a client speaks: mostly something that the server does."""
        oldest = min(self.world.members.values())
        return self.rnd.choice(offers_of(oldest) if self.rnd.random() < 0.95 else VERSIONS)

    def join(self) -> None:
        """Have a client connect and say who it is."""
        if len(self.world.peers) >= 8:
            return
        peer = self.world.join(self.version())
        if self.rnd.random() < 0.03:
            no_bolt = self.rnd.choice([b"\x16\x03\x01\x02\x00", OPENING[:3] + b"\x18" + bytes(16)])
            peer.spoil(no_bolt, "no Bolt", must_close=True)
            return
        peer.write(self.rnd.choice([opening] * 4 + [manifest])(peer.version))
        if self.rnd.random() < 0.05:
            self.too_early(peer)
        if self.rnd.random() < 0.02:
            peer.spoil(message(Tag.GOODBYE), "goodbye", must_close=True)
        hello: dict[str, object] = {"user_agent": "x"}
        if self.rnd.random() < 0.3:
            hello["notifications_minimum_severity"] = "OFF"
        token = RIGHT
        if self.rnd.random() < 0.05:
            peer.excuse = "wrong credentials"
            token = WRONG
        if peer.version >= LOGON and self.rnd.random() < 0.05:
            peer.ask(Tag.HELLO, hello)
            self.too_early(peer)
            peer.ask(Tag.LOGON, token)
        else:
            peer.log_on(hello, token)

    def too_early(self, peer: Peer) -> None:
        """Have a client send what has no place before it has logged on."""
        tag = self.rnd.choice([Tag.RUN, Tag.BEGIN, Tag.PULL, Tag.COMMIT, Tag.TELEMETRY, Tag.RESET, Tag.ROUTE,
                               Tag.LOGOFF])
        fields = {Tag.RUN: ("x", {}, {}), Tag.ROUTE: ({}, [], {}), Tag.TELEMETRY: (1,), Tag.PULL: ({"n": 1},),
                  Tag.BEGIN: ({},)}
        peer.spoil(message(tag, *fields.get(tag, ())), f"{tag.name} before LOGON", must_close=True)

    def talk(self, peer: Peer) -> None:
        """Have a client write something that makes sense, or nearly."""
        self.rnd.choice([self.auto_commit, self.auto_commit, self.transaction, self.transaction, self.aside, self.odd,
                         self.unfinished if not self.is_calm else self.aside])(peer)
        if self.rnd.random() < 0.3:
            peer.ask(Tag.RESET)

    def extras(self) -> dict[str, object]:
        return {"mode": self.rnd.choice("rw")} if self.rnd.random() < 0.5 else {}

    def run(self, peer: Peer, *, how: str = "ok") -> int:
        batches = self.rnd.choice([1, 1, 2, 3])
        text = query(peer.mark(), self.rnd.choice([0, 1, 1, 5, 40]), batches, how)
        # Until it has logged on, a client may send 64 KiB at most.
        size = self.rnd.choice([0, 0, 10, 300, 20_000, 70_000]) if peer.has_logged_on else 10
        peer.ask(Tag.RUN, text, {"p": "x" * size}, self.extras())
        return batches

    def pull(self, peer: Peer, batches: int) -> None:
        for _ in range(batches):
            peer.ask(self.rnd.choice([Tag.PULL, Tag.PULL, Tag.DISCARD]), {"n": -1})

    def how(self) -> str:
        return self.rnd.choice(["ok", "ok", "ok", "ok", "fails", "fails_late"])

    def auto_commit(self, peer: Peer) -> None:
        how = self.how()
        batches = self.run(peer, how=how)
        if self.rnd.random() < 0.9:
            self.pull(peer, batches)
        else:
            peer.ask(Tag.RESET)
        if how != "ok":
            peer.ask(Tag.RESET)

    def transaction(self, peer: Peer) -> None:
        peer.ask(Tag.BEGIN, {"mark": peer.mark()} | self.extras())
        how = "ok"
        for _ in range(self.rnd.randint(0, 3)):
            how = self.how()
            batches = self.run(peer, how=how)
            if self.rnd.random() < 0.8:
                self.pull(peer, batches)
        peer.ask(self.rnd.choice([Tag.COMMIT, Tag.COMMIT, Tag.ROLLBACK, Tag.RESET]))
        peer.ask(Tag.RESET)

    def aside(self, peer: Peer) -> None:
        kind = self.rnd.choice(["telemetry", "route", "reset", "again", "noop"])
        if kind == "telemetry":
            peer.ask(Tag.TELEMETRY, 1)
        elif kind == "route":
            peer.ask(Tag.ROUTE, {}, [], {})
        elif kind == "reset":
            peer.ask(Tag.RESET)
        elif kind == "again" and peer.version >= LOGON:
            peer.ask(Tag.LOGOFF)
            peer.ask(Tag.LOGON, RIGHT)
        else:
            peer.write(bytes(2 * self.rnd.randint(1, 30)))

    def odd(self, peer: Peer) -> None:
        """Have a client break the rules, now and then."""
        if self.is_calm or self.rnd.random() < 0.7:
            return
        kind = self.rnd.choice(["state", "state", "door", "malformed", "malformed", "garbage", "cut", "unknown",
                                "goodbye"])
        if kind == "state":
            peer.excuse = peer.excuse or "out of place"
            tag = self.rnd.choice([Tag.PULL, Tag.COMMIT, Tag.BEGIN, Tag.DISCARD, Tag.TELEMETRY, Tag.RUN, Tag.ROUTE])
            peer.ask(tag, *{Tag.COMMIT: (), Tag.RUN: (query(peer.mark()), {}, {}), Tag.ROUTE: ({}, [], {})}.get(
                tag, ({"n": -1},)))
        elif kind == "door":
            peer.excuse = peer.excuse or "out of place"
            peer.ask(*self.rnd.choice([(Tag.HELLO, {}), (Tag.LOGON, RIGHT)]))
        elif kind == "malformed":
            tag = self.rnd.choice([Tag.RUN, Tag.BEGIN, Tag.PULL, Tag.COMMIT, Tag.TELEMETRY, Tag.RESET, Tag.ROUTE])
            peer.ask(tag, *{Tag.COMMIT: (1,), Tag.RESET: (1,)}.get(tag, ()))
        elif kind == "garbage":
            peer.spoil(self.rnd.randbytes(self.rnd.randint(1, 300)), "garbage")
        elif kind == "cut":
            peer.excuse = peer.excuse or "cut"
            peer.ask(Tag.RUN, raw=chunked(b"\xb3\x10\x81x\xa1\x81"))
        elif kind == "unknown":
            peer.spoil(b"\x00\x02\xb0\x77\x00\x00", "an unknown message", must_close=not peer.is_wild)
        else:
            peer.excuse = peer.excuse or "goodbye"
            peer.ask(Tag.GOODBYE)

    def unfinished(self, peer: Peer) -> None:
        """Have a client leave a transaction open, and go on with it later or not."""
        peer.ask(Tag.BEGIN, {"mark": peer.mark()} | self.extras())
        if self.rnd.random() < 0.5:
            self.pull(peer, self.run(peer))
        peer.excuse = peer.excuse or "may begin again in a transaction"

    # What happens

    def step(self) -> None:
        """Have one thing happen that can happen."""
        rnd, world = self.rnd, self.world
        self.steps += 1
        kind = rnd.random()
        if kind < 0.9:
            rnd.choice(self.usual() or [self.join])()
        elif kind < 0.93 or not world.peers:
            self.join()
        elif kind < 0.96:
            world.pass_time(rnd.choice([0.0, 0.001, 0.01]))
        else:
            rnd.choice(self.rare())()
        world.check()

    def usual(self) -> list[Callable[[], None]]:
        """Return what can happen now, each side as likely as the other."""
        rnd, world = self.rnd, self.world
        can: list[Callable[[], None]] = []
        if sending := [peer for peer in world.peers if peer.outgoing and not (peer.is_paused or peer.is_closing)]:
            can += [lambda: rnd.choice(sending).deliver(rnd.choice(SIZES))] * 2
        if idle := [peer for peer in world.peers if not (peer.is_over or peer.has_left or peer.is_closing)
                    and len(peer.owed) < 40 and len(peer.outgoing) < 40_000]:
            can.append(lambda: self.talk(rnd.choice(idle)))
        living = world.living
        if asked := [server for server in living if server.requests and not (server.is_silent or server.is_dead)]:
            can += [lambda: rnd.choice(asked).work()] * 2
        if saying := [server for server in living if (server.said or server.is_dead) and not server.is_paused]:
            can += [lambda: rnd.choice(saying).deliver(rnd.choice(SIZES))] * 2
        if gone := [peer for peer in world.peers if peer.has_left and not peer.is_over]:
            can.append(lambda: rnd.choice(gone).deliver(rnd.choice(SIZES)))
        if world.is_busy:
            can.append(world.turn)
        if world.opening:
            can.append(lambda: world.open(rnd.randrange(8)))
        return can

    def rare(self) -> list[Callable[[], None]]:
        """Return what happens seldom; in a calm life, only what no client may notice."""
        peer = self.rnd.choice(self.world.peers)
        calm: list[Callable[[], None]] = [
            peer.stop_reading, peer.read, peer.read, peer.leave, peer.notice_end, peer.notice_end,
            lambda: self.world.pool.close_idle(self.world.clock.now),
            lambda: self.world.pool.reconnect(self.world.clock.now), self.world.act]
        if not self.is_calm:
            if self.rnd.random() < 0.05:
                calm.append(lambda: self.world.stop(at_once=self.rnd.random() < 0.5))
            if self.rnd.random() < 0.2:
                calm.append(self.upgrade)
            calm += [self.much_time, peer.break_down, lambda: self.world.fail_to_open(self.rnd.randrange(8))]
        if self.world.servers:
            server = self.rnd.choice(self.world.servers)
            calm.append(server.say_noop)
            if not self.is_calm:
                calm += [server.die_early, lambda: self.fall_silent(server), lambda: self.babble(server),
                         lambda: server.fill(full=True), lambda: server.fill(full=False)]
        return calm

    def upgrade(self) -> None:
        """Have a member start again with another version of those that clients can have from it."""
        address = self.rnd.choice([*self.world.members])
        if self.world.members[address] in INTERCHANGEABLE:
            self.world.upgrade(address, self.rnd.choice(INTERCHANGEABLE))

    def fall_silent(self, server: Server) -> None:
        if self.rnd.random() < 0.3:
            server.fall_silent()

    def babble(self, server: Server) -> None:
        if self.rnd.random() < 0.3:
            server.babble(self.rnd.choice([b"\x00\x02\xb0\x7e\x00\x00" * 50, b"\x00\x01\xb0\x00\x00",
                                           b"\x00\x03\xb1\x7f\xc7\x00\x00", self.rnd.randbytes(40)]))

    def much_time(self) -> None:
        for each in self.world.peers:
            each.excuse = each.excuse or "time"
        self.world.pass_time(self.rnd.choice([0.5, 2.0, 20.0, 100.0, 1000.0]))

    def live(self, steps: int) -> None:
        """Have so many things happen, and then everything come to its end."""
        for _ in range(steps):
            self.step()
        self.world.finish()
