"""A pool's machine in a world of its own: time, servers and borrowers are played by the test."""

from typing import Any

from worker_init.errors import UNREACHABLE, UpstreamFailure
from worker_init.handshake import Version
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

LIMITS = Limits(max_size=3, acquisition_timeout=60.0, max_lifetime=3600.0, idle_timeout=300.0, liveness_check=60.0)
ANY = Route()
SEED = "seed:7687"


def refusal(why: str = "nobody listens") -> UpstreamFailure:
    return UpstreamFailure(UNREACHABLE, why)


def table(*, readers: tuple[str, ...] = (SEED,), writers: tuple[str, ...] = (SEED,), routers: tuple[str, ...] = (SEED,),
          database: str = "neo4j", ttl: float = 300.0) -> dict[str, Any]:
    """Return what a server answers to ROUTE."""
    roles = (("ROUTE", routers), ("READ", readers), ("WRITE", writers))
    return {"ttl": ttl, "db": database, "servers": [{"role": role, "addresses": [*who]} for role, who in roles]}


class World:
    """What the machine has decided, sorted; ``settle`` and ``end`` are what the event loop does by itself."""

    def __init__(self, *, is_routed: bool = False, **limits: Any) -> None:
        self.now = 1000.0
        self.machine = PoolMachine(LIMITS._replace(**limits), SEED, is_routed=is_routed, answer_seconds=15.0,
                                   choose=lambda places: places[0])
        self.opening: list[Link] = []
        self.checking: list[Link] = []
        self.asking: list[AskTable] = []
        self.ending: list[Link] = []
        self.said_goodbye: list[Link] = []
        self.granted: dict[str, Link] = {}
        self.served: set[str] = set()
        self.refused: dict[str, UpstreamFailure] = {}
        self.notes: list[str] = []
        self.opened = 0
        self.wake_at = float("inf")
        self.has_emptied = False
        self._settles = 0

    def collect(self) -> None:
        """Note what was decided."""
        while self.machine.actions:
            action = self.machine.actions.popleft()
            getattr(self, f"_{type(action).__name__.lower()}")(action)

    def _grant(self, action: Grant) -> None:
        assert action.borrower not in self.granted
        assert action.link.state is ConnectionState.LENT
        self.granted[action.borrower] = action.link
        self.served.add(action.borrower)

    def _refuse(self, action: Refuse) -> None:
        self.refused[action.borrower] = action.failure

    def _open(self, action: Open) -> None:
        self.opening.append(action.link)

    def _check(self, action: Check) -> None:
        self.checking.append(action.link)

    def _asktable(self, action: AskTable) -> None:
        self.asking.append(action)

    def _close(self, action: Close) -> None:
        self.said_goodbye.append(action.link)
        self.ending.append(action.link)

    def _abort(self, action: Abort) -> None:
        if action.link in self.opening:
            self.opening.remove(action.link)
        elif action.link not in self.ending:
            self.ending.append(action.link)

    def _settle(self, _: Settle) -> None:
        self._settles += 1

    def _wakeat(self, action: WakeAt) -> None:
        self.wake_at = action.at

    def _emptied(self, _: Emptied) -> None:
        self.has_emptied = True

    def _note(self, action: Note) -> None:
        self.notes.append(action.text)

    # What the test does

    def lend(self, borrower: str, route: Route = ANY, *, must_check: bool = False,
             version: Version | None = None) -> Link | None:
        link = self.machine.lend(borrower, route, self.now, must_check=must_check, version=version)
        if link:
            self.granted[borrower] = link
            self.served.add(borrower)
        self.collect()
        return link

    def give_back(self, borrower: str) -> Link:
        link = self.granted.pop(borrower)
        self.machine.give_back(link, self.now)
        self.collect()
        return link

    def leave(self, borrower: str) -> Link:
        """End a client within its transaction."""
        link = self.granted.pop(borrower)
        self.machine.reset(link, self.now)
        self.collect()
        return link

    def discard(self, borrower: str) -> Link:
        link = self.granted.pop(borrower)
        self.machine.discard(link, self.now)
        self.collect()
        return link

    def abandon(self, borrower: str) -> None:
        self.machine.abandon(borrower, self.now)
        self.collect()

    def open(self, at: int = 0) -> Link:
        """Let an attempt succeed."""
        link = self.opening.pop(at)
        self.opened += 1
        self.machine.opened(link, f"connection {self.opened}", self.now)
        self.collect()
        return link

    def fail(self, why: str = "nobody listens", at: int = 0, code: str = UNREACHABLE) -> Link:
        """Let an attempt fail."""
        link = self.opening.pop(at)
        self.machine.open_failed(link, UpstreamFailure(code, why), self.now)
        self.collect()
        return link

    def answer(self, at: int = 0) -> Link:
        """Let a RESET be answered."""
        link = self.checking.pop(at)
        self.machine.answered(link, self.now)
        self.collect()
        return link

    def route(self, answer: Any, at: int = 0, *, routes_itself: bool = True) -> Link:
        """Let a ROUTE be answered."""
        link = self.asking.pop(at).link
        self.machine.routed(link, answer, self.now, routes_itself=routes_itself)
        self.collect()
        return link

    def close_idle(self) -> None:
        self.machine.close_idle(self.now)
        self.collect()

    def reconnect(self) -> None:
        self.machine.reconnect(self.now)
        self.collect()

    def pause(self) -> None:
        self.machine.pause(self.now)
        self.collect()

    def resume(self) -> None:
        self.machine.resume(self.now)
        self.collect()

    def lose(self, link: Link) -> None:
        self.machine.lost(link, self.now)
        self.collect()

    def end(self) -> None:
        """Let connections that are being closed end."""
        while self.ending:
            self.lose(self.ending.pop())

    def settle(self) -> None:
        """Let all that has come be handled."""
        while self._settles:
            self.settle_earlier()

    def settle_earlier(self) -> None:
        """Let all be handled that had come when this was last asked for."""
        self._settles = 0
        self.machine.settled(self.now)
        self.collect()

    def tick(self, seconds: float, *, answers: bool = False) -> None:
        """Let time pass, with every wake-up on the way; with ``answers`` each RESET is answered."""
        until = self.now + seconds
        while self.wake_at <= until:
            self.now, self.wake_at = max(self.now, self.wake_at), float("inf")
            self.machine.tick(self.now)
            self.collect()
            while answers and self.checking:
                self.answer()
        self.now = until

    def ready(self, count: int = 1, route: Route = ANY) -> list[Link]:
        """Have so many idle connections."""
        names = [f"first {number}" for number in range(count)]
        for name in names:
            self.lend(name, route)
            self.settle()
        while self.opening:
            self.open()
        for name in names:
            self.give_back(name)
        return [link for link in self.machine.links if link.state is ConnectionState.IDLE]
