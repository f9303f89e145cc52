"""A whole relay in a world of its own: the machines of clients and pool; a test plays servers, networks and time.

Nothing here decides what happens next: the methods of :class:`World` do, one step each, and the one who calls them in
whatever order is answered by the same promises. ``World.check`` looks at those that hold always, ``World.finish`` lets
everything come to its end and looks at the rest.
"""

import heapq
import itertools
import operator
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

from tests.worker_init.pure.model_server import INVALID, ModelServer, Stand, fields_of
from tests.worker_init.pure.reference import Found
from worker_init import actions as act
from worker_init.bolt import Scanner, Tag, body_of, message
from worker_init.bounds import READ_AHEAD
from worker_init.client import Client, Verdict
from worker_init.client_table import State
from worker_init.errors import EXHAUSTED, UNREACHABLE, ProtocolViolation, UpstreamFailure
from worker_init.handshake import INTERCHANGEABLE, LOGON, MAGIC, Version, offers_of
from worker_init.known_servers import KnownServers
from worker_init.known_servers import Server as KnownServer
from worker_init.packstream import pack
from worker_init.pool_actions import (
    Abort,
    AskTable,
    Check,
    Close,
    Emptied,
    Grant,
    Limits,
    Link,
    Note,
    Open,
    Refuse,
    Settle,
    WakeAt,
)
from worker_init.pool_machine import PoolMachine
from worker_init.pool_states import ConnectionState
from worker_init.routing import Route
from worker_init.spool import Spool
from worker_init.upstream import cut_noop

ADDRESS = "127.0.0.1:7687"
SEED = "seed:7687"
VERSION = Version(5, 8)
VERSIONS = (*INTERCHANGEABLE, Version(5, 4), Version(5, 0), Version(4, 4))
RIGHT = {"scheme": "basic", "principal": "u", "credentials": "right"}
WRONG = RIGHT | {"credentials": "wrong"}
_MANIFEST = b"\x00\x00\x01\xff"


def opening(version: Version) -> bytes:
    """Return what a client says first that speaks one version."""
    return MAGIC + bytes((0, 0, version.minor, version.major)) + bytes(12)


def manifest(version: Version) -> bytes:
    """Return what one says that asks for a manifest, and chooses before it has read it."""
    return MAGIC + _MANIFEST + bytes(12) + bytes((0, 0, version.minor, version.major, 0))


OPENING = opening(VERSION)
_UNAUTHORIZED = UpstreamFailure("Neo.ClientError.Security.Unauthorized", "no")
_RESET = body_of(message(Tag.RESET))
_TELEMETRY = body_of(message(Tag.TELEMETRY, 1))
_REFUSALS = (UNREACHABLE, EXHAUSTED)
# What a client may hold of the relay's memory in these worlds, in bytes: what it may have sent ahead and a slice more.
_MOST_HELD = READ_AHEAD + 256 * 1024


def _fours(data: bytes | bytearray) -> list[bytes]:
    return [bytes(data[at:at + 4]) for at in range(0, len(data), 4)]


class Messages:
    """The messages in a stream. The scanner in it has a reference of its own: see test_scanner.py."""

    def __init__(self) -> None:
        self._scanner = Scanner()
        self._open = b""
        self.rest = b""

    @property
    def between_messages(self) -> bool:
        return self._scanner.between_messages

    def feed(self, data: bytes) -> list[Found]:
        """Return the messages that ended in this block; ``rest`` is what came behind them."""
        found = []
        self.rest = data
        for tag, start, stop, _, last in self._scanner.feed(data):
            self._open += self._scanner.block[start:stop]
            if last:
                found.append(Found(tag, body_of(self._open), self._open))
                self._open = b""
                self.rest = self._scanner.block[stop:]
        return found


class Clock:
    """Virtual time, and what is to be called when."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._calls: list[tuple[float, int, list[Callable[[], None]]]] = []
        self._count = itertools.count()

    def call_at(self, at: float, what: Callable[[], None]) -> list[Callable[[], None]]:
        """Call this at a time; clearing what is returned cancels it."""
        handle = [what]
        heapq.heappush(self._calls, (max(at, self.now), next(self._count), handle))
        return handle

    def pass_to(self, until: float) -> bool:
        """Go on to the next call if it is due by then; whether there was one."""
        while self._calls and not self._calls[0][2]:
            heapq.heappop(self._calls)
        if not self._calls or self._calls[0][0] > until:
            self.now = max(self.now, until)
            return False
        at, _, handle = heapq.heappop(self._calls)
        self.now = max(self.now, at)
        handle.pop()()
        return True


class Facts:
    """What clients' machines are told of the relay. ``now`` tells the time."""

    address = ADDRESS
    logon_timeout = 15.0
    offers_unseen = offers_of(None)
    patches: frozenset[str] = frozenset()

    def __init__(self, *, is_routed: bool, recv_timeout: float | None, now: Callable[[], float] = lambda: 0.0) -> None:
        self.spool: Spool[Client] = Spool(64 * 1024 * 1024)
        self.is_routed = is_routed
        self.recv_timeout = recv_timeout
        self.known = KnownServers()
        self._now = now

    def learn(self, address: str, version: Version) -> None:
        """Note what a member says of itself."""
        self.known.learn(address, KnownServer(version, "Neo4j/model", {}), self._now())

    @property
    def offers(self) -> tuple[Version, ...] | None:
        oldest = self.known.oldest(self._now())
        return offers_of(oldest.version) if oldest else None

    def greeting(self, _: Version) -> bytes | None:
        return b"\xb1\x70\xa2" + pack("server") + pack("Neo4j/model") + pack("connection_id") if self.offers else None

    def judge(self, token: dict[str, Any]) -> Verdict:
        return Verdict(None) if token.get("credentials") == "right" else Verdict(_UNAUTHORIZED, 0.5)


class Server:
    """One connection to a server that keeps to the protocol, unless the test has it die, or fall silent."""

    def __init__(self, world: "World", link: Link) -> None:
        self.world = world
        self.link = link
        self.version = link.place.version or world.members[link.place.address]
        self.model = ModelServer(self.version)
        self.scanner = Messages()
        self.requests: deque[Found] = deque()
        # What it has said and the relay has not read.
        self.said = bytearray()
        self.is_silent = self.is_dead = self.end_was_read = self.is_paused = self.is_full = False
        # What the pool waits for: called with the answer's tag and body.
        self.asked: Callable[[int, bytes], None] | None = None
        self.answers = Messages()
        self.cut_noop = b""
        self.holder: Peer | None = None
        self.leases = 0

    def take(self, data: bytes) -> None:
        """Take what the relay writes."""
        if not self.is_dead:
            self.requests.extend(self.scanner.feed(data))

    def work(self) -> None:
        """Answer one request."""
        if self.requests and not (self.is_silent or self.is_dead):
            request = self.requests.popleft()
            if request.tag == Tag.GOODBYE:
                self.die()
                return
            answer = self.model.answer(request.tag, request.body)
            self.said += b"".join(answer.messages)
            if answer.closes:
                self.die()

    def fill(self, *, full: bool) -> None:
        """Take no more for now, or again."""
        if full is not self.is_full and not self.is_dead:
            self.is_full = full
            if holder := self.holder:
                holder.tell(lambda: holder.machine.server_full(full=full))

    def die(self) -> None:
        """Close the connection: what has been said arrives, then the end."""
        self.is_dead = True

    def babble(self, data: bytes) -> None:
        """Say what is no answer to anything, and be of no use from then on."""
        if not self.is_dead:
            self.said += data
            self.is_silent = self.world.may_refuse = True
            if self.holder:
                self.holder.mislead()

    def die_early(self) -> None:
        """Close it without a reason."""
        self.world.may_refuse = True
        self.die()

    def fall_silent(self) -> None:
        """Answer nothing from now on."""
        self.world.may_refuse = True
        self.is_silent = True
        if self.holder:
            self.holder.excuse = self.holder.excuse or "its server is silent"
            self.holder.must_close = False

    def say_noop(self) -> None:
        """Send a NOOP, between two messages."""
        if not (self.is_dead or self.said):
            self.said += bytes(2)

    def deliver(self, size: int) -> None:
        """Let the relay read so many bytes, and then the end if there is one."""
        if self.end_was_read or self.is_paused or self.link.state is ConnectionState.GONE:
            return
        data = bytes(self.said[:size])
        del self.said[:size]
        if data:
            self._hand_over(data)
        elif self.is_dead and not self.said:
            self.end_was_read = True
            self.world.lost(self)

    def ask(self, wire: bytes, then: Callable[[int, bytes], None]) -> None:
        """Have the pool ask something."""
        self.answers = Messages()
        self.asked = then
        self.take(wire)

    def _answer(self, data: bytes) -> None:
        asked = self.asked
        try:
            found = self.answers.feed(data)
        except ProtocolViolation:
            found = [Found(0, b"", b"")]
        if found and asked:
            self.asked = None
            self.cut_noop = cut_noop(self.answers.rest)
            asked(found[0].tag if len(found) == 1 else 0, found[0].body)

    def _hand_over(self, data: bytes) -> None:
        """Do as worker_init.upstream.Connection does: half a NOOP is left for the next read."""
        data, self.cut_noop = self.cut_noop + data, b""
        holder = self.holder
        if holder:
            holder.tell(lambda: holder.machine.server_sent(data))
        elif self.asked:
            self._answer(data)
        elif data.strip(b"\0"):
            self.world.pool.spoke(self.link, self.world.clock.now)
            self.world.act()
        else:
            self.cut_noop = cut_noop(data)


class Peer:
    """A client: its driver, its wire, its machine, and the shell between machine and world."""

    def __init__(self, world: "World", number: int, version: Version) -> None:
        self.world = world
        self.number = number
        self.version = version
        self.machine = Client(world.facts, f"peer-{number}")
        self.machine.wake = lambda: world.soon(self.go_on)
        self.link: Link | None = None
        self.timers: dict[act.Timer, list[Callable[[], None]]] = {}
        # What the driver has written and the relay has not read, what the relay has written and the driver has not.
        self.outgoing = bytearray()
        self.incoming = bytearray()
        self.is_reading = True
        self.is_full = self.is_closing = self.is_over = self.has_left = self.is_paused = False
        self._is_performing = False
        # What it has asked for and not been answered: tag and body of each.
        self.owed: deque[tuple[int, bytes]] = deque()
        self.oracle = ModelServer(version)
        self.is_refused = False
        # Why its connection may end, where it may.
        self.excuse = ""
        # It has sent what is not Bolt; its server has.
        self.is_wild = self.is_misled = False
        # It has sent what closes every connection, once what came before is answered.
        self.must_close = False
        self._head = bytearray()
        self._scanner = Messages()
        self.marks = 0
        self.rows: list[Found] = []
        self.was_offered = False
        self.perform()

    # The driver

    def mark(self) -> str:
        """Return a mark for a query that nobody else has."""
        self.marks += 1
        return f"{self.number}-{self.marks}"

    def write(self, data: bytes) -> None:
        """Write bytes that are answered with nothing."""
        self.outgoing += data

    def ask(self, tag: int, *fields: Any, raw: bytes | None = None) -> None:
        """Write a request."""
        wire = raw or message(Tag(tag), *fields)
        self.outgoing += wire
        if tag != Tag.GOODBYE:
            self.owed.append((tag, body_of(wire)))

    def log_on(self, hello: dict[str, Any], token: dict[str, Any]) -> None:
        """Write what says who it is: one message before Bolt 5.1, two since."""
        if self.version < LOGON:
            self.ask(Tag.HELLO, hello | token)
        else:
            self.ask(Tag.HELLO, hello)
            self.ask(Tag.LOGON, token)

    @property
    def has_logged_on(self) -> bool:
        """Whether that was answered."""
        return not {Tag.HELLO, Tag.LOGON} & {tag for tag, _ in self.owed}

    def spoil(self, data: bytes, why: str, *, must_close: bool = False) -> None:
        """Write what is not Bolt: the relay may close from here on, once what came before is answered."""
        self.outgoing += data
        is_served = not (self.is_misled or (self.link and self.link.handle.is_silent))
        self.must_close = self.must_close or (must_close and is_served)
        self.excuse = self.excuse or why
        self.is_wild = True

    def deliver(self, size: int) -> None:
        """Let the relay read so many bytes, or the end."""
        if self.is_paused or self.is_closing or self.is_over:
            return
        data = bytes(self.outgoing[:size])
        del self.outgoing[:size]
        if data:
            self.tell(lambda: self.machine.client_sent(data))
        elif self.has_left:
            self.end()

    def leave(self) -> None:
        """Go, with whatever is on the way."""
        self.has_left = True

    def notice_end(self) -> None:
        """Let the relay see that the client is gone, in front of what it has not read."""
        if self.has_left and not self.is_over:
            self.outgoing.clear()
            self.end()

    def end(self) -> None:
        """Tell the machine of the end, once."""
        if not self.is_over:
            self.is_over = True
            self.tell(self.machine.client_ended)
            for timer in self.timers.values():
                timer.clear()
            self.timers.clear()

    def stop_reading(self) -> None:
        """Read nothing from now on."""
        self.is_reading = False

    def read(self) -> None:
        """Read all that the relay has written, and go on reading."""
        self.is_reading = True
        data = bytes(self.incoming)
        self.incoming.clear()
        self._understand(data)
        if self.is_full:
            self.is_full = False
            if self.is_closing:
                self.world.soon(self.end)
            else:
                self.tell(lambda: self.machine.client_full(full=False))

    def _understand(self, data: bytes) -> None:
        if not self.was_offered:
            self._head += data
            size = 4 if self._head[:4] != _MANIFEST else 6 + 4 * (self._head + b"\0")[4]
            if len(self._head) < max(size, 4):
                return
            self.was_offered = True
            offered = bytes(self._head[:4])
            wanted = bytes((0, 0, self.version.minor, self.version.major))
            if offered == bytes(4) or (offered == _MANIFEST and wanted not in _fours(self._head[5:size - 1])):
                self.excuse = self.excuse or "no version"
                self.world.require(self.world.may_differ(self.version), f"{self}: was not offered its version")
            elif offered not in (_MANIFEST, wanted):
                self.world.fault(f"{self}: offered {offered!r}")
            data = bytes(self._head[size:])
        try:
            for found in self._scanner.feed(data):
                self._answered(found)
        except ProtocolViolation as violation:
            self.world.require(self.is_wild, f"{self}: {violation}")

    def _answered(self, found: Found) -> None:
        if found.tag == Tag.RECORD:
            self.rows.append(found)
            return
        rows, self.rows = self.rows, []
        if self.is_wild:
            # Whatever is said to it now, it has no claim.
            self.owed.clear()
            return
        if not self.owed:
            self.world.fault(f"{self}: an answer to nothing, {Tag(found.tag).name}")
            return
        tag, body = self.owed.popleft()
        if why := self._difference(tag, body, rows, found):
            self.world.fault(f"{self}: {Tag(tag).name} was answered with {why}")

    def _difference(self, tag: int, body: bytes, rows: list[Found], found: Found) -> str:
        """Return how an answer differs from what a server would have said directly; nothing if it does not."""
        shown = f"{Tag(found.tag).name} {fields_of(found.body)} behind {len(rows)} rows"
        if tag in (Tag.HELLO, Tag.LOGON, Tag.LOGOFF):
            return self._difference_at_the_door(tag, body, found, shown)
        if self.is_refused:
            # What is malformed is ignored as well, by the relay: a server would say each time that it is.
            expected_tag = Tag.SUCCESS if body == _RESET else Tag.IGNORED
            self.is_refused = body != _RESET
            return "" if found.tag == expected_tag and not rows else f"{shown} after a refusal"
        if self.oracle.stand is Stand.READY and self._code(found) in _REFUSALS:
            self.is_refused = True
            is_for_the_relay = body == _TELEMETRY
            return "" if self.world.may_refuse and not is_for_the_relay else f"{shown}, and nobody had a reason"
        return self._difference_from_a_server(tag, body, rows, found, shown)

    def _difference_from_a_server(self, tag: int, body: bytes, rows: list[Found], found: Found, shown: str) -> str:
        answer = self.oracle.answer(tag, body)
        if answer.closes:
            self.excuse = self.excuse or "out of place"
        if tag == Tag.ROUTE and found.tag == Tag.SUCCESS:
            servers = fields_of(found.body)[0]["rt"]["servers"]
            return "" if {server["addresses"][0] for server in servers} == {ADDRESS} else shown
        expected = b"".join(answer.messages)
        is_same = b"".join(row.raw for row in rows) + found.raw == expected
        return "" if is_same else f"{shown}; directly {expected!r}"

    def _difference_at_the_door(self, tag: int, body: bytes, found: Found, shown: str) -> str:
        if found.tag == Tag.SUCCESS:
            right = fields_of(body)[0].get("credentials", "right") == "right" if body[0] & 0x0F else True
            return "" if right else shown
        may_fail = self.excuse or tag == Tag.HELLO or self.oracle.stand is not Stand.READY or self.is_refused
        self.excuse = self.excuse or "turned away"
        if not may_fail:
            return f"{shown}, and nothing was wrong"
        code = self._code(found)
        allowed = {Tag.HELLO: {*_REFUSALS, INVALID, _UNAUTHORIZED.code}, Tag.LOGON: {_UNAUTHORIZED.code, INVALID},
                   Tag.LOGOFF: {INVALID}}
        is_ignored = found.tag == Tag.IGNORED and (self.is_refused or self.oracle.stand is Stand.FAILED)
        return "" if code in allowed[Tag(tag)] or is_ignored else shown

    @staticmethod
    def _code(found: Found) -> str:
        said = fields_of(found.body)[0] if found.tag == Tag.FAILURE else {}
        return str(said.get("neo4j_code") or said.get("code") or "")

    def break_down(self) -> None:
        """Have the shell find an error of the machine's own, and end it."""
        if not self.is_over:
            self.excuse = self.excuse or "broken"
            self.tell(self.machine.broken)

    # The shell, as worker_init.session has it

    def __repr__(self) -> str:
        return f"peer {self.number} ({self.machine.state.name}, owed {len(self.owed)}, {self.excuse or 'no excuse'})"

    def tell(self, what: Callable[[], None]) -> None:
        """Tell the machine something and do what it wants done."""
        self.world.inputs += 1
        what()
        self.perform()

    def perform(self) -> None:
        """Do what there is to do, in order."""
        if self._is_performing:
            return
        self._is_performing = True
        try:
            while actions := self.machine.actions:
                self.machine.actions = []
                for action in actions:
                    self.world.counts[type(action).__name__] += 1
                    getattr(self, f"_do_{type(action).__name__.lower()}")(action)
        finally:
            self._is_performing = False

    def go_on(self) -> None:
        """Run what was left for the loop's next turn."""
        self.tell(self.machine.go_on)

    def granted(self, link: Link) -> None:
        """Take a connection from the pool."""
        self.world.require(self.link is None, f"{self}: a second connection")
        self.link = link
        server: Server = link.handle
        self.world.require(server.holder is None, f"{self}: a connection of another's")
        server.holder = self
        if server.is_silent:
            self.mislead()
        if self.machine.state is not State.CHECKING and server.version == self.machine.version:
            self.world.expected_leases += 1
        if link.place.version is None:
            self.world.facts.learn(link.place.address, server.version)
        self.tell(lambda: self.machine.granted(server.version))

    def mislead(self) -> None:
        """Note that its server breaks the protocol."""
        self.excuse = self.excuse or "its server is silent, or babbles"
        self.is_misled = self.is_wild = True
        self.must_close = False

    def refused(self, failure: UpstreamFailure) -> None:
        """Note that there is none."""
        self.tell(lambda: self.machine.refused(failure))

    def server_known(self, failure: UpstreamFailure | None) -> None:
        """Note what the server speaks."""
        self.tell(lambda: self.machine.server_known(failure))

    def lost(self) -> None:
        """Note that the connection is gone."""
        self.excuse = self.excuse or "its server was lost"
        self.tell(self.machine.server_lost)

    def _let_go(self) -> Link | None:
        link, self.link = self.link, None
        if link:
            link.handle.holder = None
            self.world.require(not link.handle.is_paused or link.handle.end_was_read, f"{self}: left it paused")
        return link

    def _do_toclient(self, action: act.ToClient) -> None:
        if self.is_closing or self.is_over or self.has_left:
            return
        self.incoming += action.data
        if self.is_reading:
            self._understand(bytes(self.incoming))
            self.incoming.clear()
        elif len(self.incoming) > 200 and not self.is_full:
            self.is_full = True
            self.tell(lambda: self.machine.client_full(full=True))

    def _do_toserver(self, action: act.ToServer) -> None:
        if self.has_left:
            self._gone()
        elif self.link:
            if self.is_over:
                self.world.fault(f"{self}: wrote for a client that had ended")
            self.link.handle.take(action.data)

    def _gone(self) -> None:
        self.end()
        self._do_abort(act.Abort())

    def _do_borrow(self, action: act.Borrow) -> None:
        newest = self.world.facts.known.newest
        version = None if newest is None or newest <= self.machine.version else self.machine.version
        link = self.world.pool.lend(self, action.route, self.world.clock.now, must_check=action.must_check,
                                    version=version)
        self.world.act()
        if link:
            self.granted(link)
        else:
            self.machine.waits()

    def _do_abandon(self, _: act.Abandon) -> None:
        self.world.pool.abandon(self, self.world.clock.now)
        self.world.act()

    def _do_giveback(self, _: act.GiveBack) -> None:
        if link := self._let_go():
            server: Server = link.handle
            is_clean = server.model.stand in (Stand.READY, Stand.GONE) and not server.requests and not server.said
            self.world.require(is_clean or server.is_dead or self.is_misled,
                               f"{self}: gave back a server that is {server.model.stand}")
            self.world.require(server.scanner.between_messages, f"{self}: gave back within a message")
            self.world.pool.give_back(link, self.world.clock.now)
            self.world.act()

    def _do_resetandgiveback(self, _: act.ResetAndGiveBack) -> None:
        if link := self._let_go():
            self.world.require(link.handle.scanner.between_messages, f"{self}: reset within a message")
            self.world.pool.reset(link, self.world.clock.now)
            self.world.act()

    def _do_discard(self, _: act.Discard) -> None:
        if link := self._let_go():
            link.handle.is_paused = False
            self.world.pool.discard(link, self.world.clock.now)
            self.world.act()

    def _do_askserver(self, _: act.AskServer) -> None:
        self.world.ask_server(self)

    def _do_began(self, _: act.Began) -> None:
        self.world.leases += 1

    def _do_failed(self, action: act.Failed) -> None:
        if self.link:
            self.world.pool.failed(action.code, self.link, self.world.clock.now)
            self.world.act()

    def _do_pauseclient(self, _: act.PauseClient) -> None:
        self.world.require(not self.is_paused, f"{self}: paused twice")
        self.is_paused = True

    def _do_resumeclient(self, _: act.ResumeClient) -> None:
        self.world.require(self.is_paused, f"{self}: resumed twice")
        self.is_paused = False

    def _do_pauseserver(self, _: act.PauseServer) -> None:
        if self.link:
            self.link.handle.is_paused = True

    def _do_resumeserver(self, _: act.ResumeServer) -> None:
        if self.link:
            self.link.handle.is_paused = False

    def _do_turnaway(self, action: act.TurnAway) -> None:
        self.world.turned_away[action.why] += 1
        if "log on within" in action.why or "stopped within" in action.why or "did not read" in action.why:
            self.excuse = self.excuse or action.why
        if "the server now speaks" in action.why:
            self.world.require(self.world.may_differ(self.version), f"{self}: {action.why}")
            self.excuse = self.excuse or action.why

    def _do_report(self, action: act.Report) -> None:
        if not self.is_misled:
            self.world.fault(f"{self}: {action.why}")

    def _do_wake(self, action: act.Wake) -> None:
        for machine in action.clients:
            machine.wake()

    def _do_starttimer(self, action: act.StartTimer) -> None:
        self._do_stoptimer(act.StopTimer(action.timer))
        if not self.is_over:
            self.timers[action.timer] = self.world.clock.call_at(
                self.world.clock.now + action.seconds, lambda: self._timer_ended(action.timer))

    def _do_stoptimer(self, action: act.StopTimer) -> None:
        if running := self.timers.pop(action.timer, None):
            running.clear()

    def _timer_ended(self, timer: act.Timer) -> None:
        self.timers.pop(timer, None)
        self.tell(lambda: self.machine.timer_ended(timer))

    def _do_comeback(self, _: act.ComeBack) -> None:
        self.world.soon(self.go_on)

    def _do_close(self, _: act.Close) -> None:
        if not (self.is_closing or self.is_over):
            self.is_closing = True
            if not self.is_full:
                self.world.soon(self.end)

    def _do_abort(self, _: act.Abort) -> None:
        self.is_closing = True
        self.world.soon(self.end)


class World:
    """One relay, its clients, its upstream and its time. ``members`` are the servers, and the newest that each speaks.

    The first of them leads; ``choose`` picks one of those that are equally good.
    """

    def __init__(self, *, is_routed: bool = False, recv_timeout: float | None = None,
                 members: dict[str, Version] | None = None,
                 choose: Callable[[Sequence[Any]], Any] = operator.itemgetter(0), **limits: Any) -> None:
        defaults = {"max_size": 3, "acquisition_timeout": 60.0, "max_lifetime": 3600.0, "idle_timeout": 300.0,
                    "liveness_check": 60.0}
        self.clock = Clock()
        self.members = members or {SEED: VERSION}
        # What its servers speak may not be what a client was offered.
        self._has_differed = len({*self.members.values()}) > 1
        self.facts = Facts(is_routed=is_routed, recv_timeout=recv_timeout, now=lambda: self.clock.now)
        self.pool = PoolMachine(Limits(**(defaults | limits)), SEED, is_routed=is_routed, answer_seconds=15.0,
                                choose=choose)
        self.peers: list[Peer] = []
        self.servers: list[Server] = []
        self.opening: list[Link] = []
        self.faults: list[str] = []
        self.turned_away: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        # What was put into the machines: events of clients, servers, pool and time.
        self.inputs = 0
        self.expected_leases = self.leases = self.opened = 0
        # Whether something has gone wrong for which a client may be refused a connection.
        self.may_refuse = limits.get("acquisition_timeout", 60.0) < 60.0
        self.has_emptied = False
        self._soon: deque[Callable[[], None]] = deque()
        self._is_acting = False
        self._asking: list[Peer] = []
        self._timer: list[Callable[[], None]] = []

    def fault(self, what: str) -> None:
        self.faults.append(what)

    def require(self, holds: object, what: str) -> None:
        if not holds:
            self.fault(what)

    # The event loop

    def soon(self, what: Callable[[], None]) -> None:
        """Call this in the loop's next turn."""
        self._soon.append(what)

    @property
    def is_busy(self) -> bool:
        """Whether something is due in the loop's next turn."""
        return bool(self._soon)

    def turn(self) -> None:
        """Call what is due in this turn."""
        due, self._soon = self._soon, deque()
        for what in due:
            what()

    # The relay, as worker_init.relay and worker_init.pool have it

    def ask_server(self, peer: Peer) -> None:
        self._asking.append(peer)
        if len(self._asking) == 1:
            link = self.pool.lend(self, Route(read_only=True, anywhere=True), self.clock.now)
            self.act()
            if link:
                self.granted(link)

    def granted(self, link: Link) -> None:
        self.facts.learn(link.place.address, link.handle.version)
        self.pool.give_back(link, self.clock.now)
        self.act()
        self._tell_asking(None)

    def refused(self, failure: UpstreamFailure) -> None:
        self._tell_asking(failure)

    def _tell_asking(self, failure: UpstreamFailure | None) -> None:
        asking, self._asking = self._asking, []
        for peer in asking:
            peer.server_known(failure)

    def act(self) -> None:
        """Carry out what the pool has decided."""
        self.inputs += 1
        if self._is_acting:
            return
        self._is_acting = True
        try:
            while self.pool.actions:
                action = self.pool.actions.popleft()
                self.counts[type(action).__name__] += 1
                self._act_on(action)
        finally:
            self._is_acting = False

    def _act_on(self, action: Any) -> None:
        getattr(self, f"_do_{type(action).__name__.lower()}")(action)

    @staticmethod
    def _do_grant(action: Grant) -> None:
        action.borrower.granted(action.link)

    @staticmethod
    def _do_refuse(action: Refuse) -> None:
        action.borrower.refused(action.failure)

    def _do_open(self, action: Open) -> None:
        self.opening.append(action.link)

    def _do_check(self, action: Check) -> None:
        action.link.handle.ask(message(Tag.RESET), lambda tag, _: self._checked(action.link, tag))

    def _do_asktable(self, action: AskTable) -> None:
        database, _ = action.key
        action.link.handle.ask(message(Tag.ROUTE, {}, [], {}), lambda tag, _: self._routed(action.link, tag, database))

    def _do_settle(self, _: Settle) -> None:
        """Do as the shell: what has come is read in the next turn, an end is told of in the one after it."""
        self.soon(lambda: self.soon(lambda: self.soon(self._settled)))

    def _do_wakeat(self, action: WakeAt) -> None:
        self._timer.clear()
        self._timer = self.clock.call_at(action.at, self._tick)

    def _do_emptied(self, _: Emptied) -> None:
        self.has_emptied = True

    def _do_note(self, action: Note) -> None:
        self.require(action.level < 40, f"pool: {action.text}")

    def _checked(self, link: Link, tag: int) -> None:
        if tag == Tag.SUCCESS:
            self.pool.answered(link, self.clock.now)
        else:
            self.pool.check_failed(link, "no SUCCESS", self.clock.now)
        self.act()

    def _routed(self, link: Link, tag: int, database: str | None) -> None:
        if tag not in (Tag.SUCCESS, Tag.FAILURE):
            self.pool.check_failed(link, "neither SUCCESS nor FAILURE", self.clock.now)
            self.act()
            return
        everybody = [*self.members]
        roles = [{"role": role, "addresses": each} for role, each in (
            ("ROUTE", everybody), ("READ", everybody[1:] or everybody), ("WRITE", everybody[:1]))]
        self.pool.routed(link, {"ttl": 300.0, "db": database or "home", "servers": roles}, self.clock.now)
        self.act()

    def _do_close(self, action: Close) -> None:
        server: Server = action.link.handle
        holder, server.holder, server.asked = server.holder, None, None
        server.take(message(Tag.GOODBYE))
        server.is_paused = False
        server.die()
        if action.was_lent and holder:
            holder.link = None
            holder.lost()

    def _do_abort(self, action: Abort) -> None:
        link = action.link
        if link in self.opening:
            self.opening.remove(link)
            self.soon(lambda: None)
        if link.handle:
            link.handle.said.clear()
            link.handle.is_paused = False
            link.handle.die()

    def lost(self, server: Server) -> None:
        """Let the relay know of the end of an upstream connection."""
        holder = server.holder
        if holder:
            holder.lost()
        self.pool.lost(server.link, self.clock.now)
        self.act()

    def _settled(self) -> None:
        self.pool.settled(self.clock.now)
        self.act()

    def _tick(self) -> None:
        self.pool.tick(self.clock.now)
        self.act()

    # Steps

    def join(self, version: Version = VERSION) -> Peer:
        """Have a client of a version connect."""
        peer = Peer(self, len(self.peers), version)
        self.peers.append(peer)
        return peer

    def open(self, at: int = 0) -> None:
        """Have one of the connections that are being opened come about."""
        if self.opening:
            at %= len(self.opening)
            place = self.opening[at].place
            if place.version and place.version > self.members[place.address]:
                self.fail_to_open(at)
                return
            link = self.opening.pop(at)
            server = Server(self, link)
            self.servers.append(server)
            self.opened += 1
            self.pool.opened(link, server, self.clock.now)
            self.act()

    def fail_to_open(self, at: int = 0) -> None:
        """Have one of them fail."""
        if self.opening:
            self.may_refuse = True
            link = self.opening.pop(at % len(self.opening))
            self.pool.open_failed(link, UpstreamFailure(UNREACHABLE, "nobody listens"), self.clock.now)
            self.act()

    def may_differ(self, version: Version) -> bool:
        """Whether a client of this version may be told that the server does not speak it."""
        return self._has_differed or self.may_refuse or version not in offers_of(min(self.members.values()))

    def upgrade(self, address: str, version: Version) -> None:
        """Start a member again with a newer version: its connections end."""
        self._has_differed = True
        self.members[address] = max(version, self.members[address])
        for server in self.living:
            if server.link.place.address == address:
                server.die_early()

    def stop(self, *, at_once: bool) -> None:
        """Have the host stop: nobody new is served from when it closes."""
        self.may_refuse = True
        self.pool.drain(self.clock.now)
        self.act()
        if at_once:
            self.pool.close(self.clock.now)
            self.act()

    def pass_time(self, seconds: float) -> None:
        """Let time pass, with whatever is due on the way."""
        until = self.clock.now + seconds
        for _ in range(10_000):
            if self.is_busy:
                self.turn()
            elif not self.clock.pass_to(until):
                return
        self.fault("the loop never comes to rest")

    @property
    def living(self) -> list[Server]:
        """The upstream connections whose end has not been read."""
        return [server for server in self.servers if not server.end_was_read
                and server.link.state is not ConnectionState.GONE]

    # What holds always

    def check(self) -> None:
        """Look at what holds at any time. Raises AssertionError."""
        self.require(self.pool.counters.own_faults == 0, "the pool met an event that its tables do not know")
        self.require(len([*self.pool.links]) <= self.pool.limits.max_size, "more connections than max_size")
        self.require(self.leases == self.expected_leases, f"{self.leases} leases counted of {self.expected_leases}")
        for peer in self.peers:
            if peer.machine.held > _MOST_HELD:
                self.fault(f"{peer}: holds {peer.machine.held} bytes")
            if peer.machine.state >= State.CLOSING and not (peer.is_closing or peer.is_over):
                self.fault(f"{peer}: its end has begun, and nobody closes it")
            if peer.machine.is_paused is not peer.is_paused and not (peer.is_over or peer.is_closing):
                self.fault(f"{peer}: paused or not?")
        assert not self.faults, self.faults

    # The end

    def finish(self) -> None:
        """Let everything that is still there be answered, have all clients leave, and look at what is left."""
        self._calm(lambda: any((peer.owed or peer.must_close) and not (
            peer.is_over or peer.is_closing) for peer in self.peers))
        for peer in self.peers:
            is_closed = peer.is_closing or peer.is_over
            if not (peer.has_left or peer.excuse):
                self.require(not is_closed, f"{peer}: was closed without a reason")
                self.require(is_closed or not peer.owed, f"{peer}: was never answered")
            self.require(is_closed or peer.excuse or not peer.is_paused, f"{peer}: is paused at the end")
            self.require(is_closed or not peer.must_close, f"{peer}: was not closed")
            peer.leave()
            peer.notice_end()
        self._calm(lambda: bool(self.pool.in_use or self.pool.waiting))
        self.require(not self.pool.in_use, f"still lent: {self.pool!r}")
        self.require(not self.pool.waiting, f"still waiting: {self.pool!r}")
        self.require(self.facts.spool.total == 0, "the spool is not empty")
        self.require(all(peer.is_over and not peer.machine.held for peer in self.peers), "a client is left")
        self.require(not any(peer.timers for peer in self.peers), "a timer of a client that is gone")
        self.require(not any(server.is_paused for server in self.living), "a connection is paused that nobody has")
        self.stop(at_once=True)
        self._calm(lambda: bool([*self.pool.links]))
        self.require(not [*self.pool.links], f"left after the end: {[*self.pool.links]}")
        self.require(self.has_emptied, "the drain was never over")
        self.check()

    def _calm(self, goes_on: Callable[[], bool]) -> None:
        """Let everything happen that is under way, with nothing going wrong."""
        for _ in range(4000):
            for peer in self.peers:
                peer.read()
                peer.deliver(1_000_000)
                peer.notice_end()
            while self.opening:
                self.open()
            for server in self.living:
                server.fill(full=False)
                while server.requests and not (server.is_silent or server.is_dead):
                    server.work()
                server.deliver(1_000_000)
                server.deliver(1_000_000)
            if self.is_busy:
                self.turn()
            elif goes_on():
                self.pass_time(0.5)
            else:
                return
        self.pass_time(0)
