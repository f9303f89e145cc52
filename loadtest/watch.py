"""The view of a deployment, once a second: Neo4j's connections, Airflow's runs, the shared drivers, the machine.

Only one process of a test looks, however many there are. What cannot be seen is None, and the sample says why.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gevent
import psutil

from loadtest.target import Target
from patterns.server_errors import SERVER_ERRORS, one_line
from rig import flower
from rig.errors import RigError
from rig.experiment.profiles import is_nameless
from rig.load.records import Count, Resources, WorkerDrivers
from rig.probe import NAMELESS, Look, Probe, Watch
from rig.stack.processes import marked

EVERY = 1.0             # seconds between two samples
LOOKS = 4               # at Neo4j for each sample: a task's connection may live for less than a second
FLOWER_EVERY = 5.0
RESOURCES_EVERY = 10.0


class NotWatched(RigError):
    """Neo4j is not looked at. The text says why."""


@dataclass
class Seen:
    """What is known now. Parts that are asked for less often are older than others."""

    look: Look | None = None
    states: dict[str, int] | None = None
    workers: dict[str, WorkerDrivers] | None = None
    resources: Resources | None = None
    troubles: dict[str, str] = field(default_factory=dict)

    @property
    def trouble(self) -> str | None:
        """What could not be seen, in one line; None if everything was."""
        return "; ".join(self.troubles.values()) or None


class Watcher:
    """Looks at one deployment."""

    def __init__(self, target: Target, dag_id: str) -> None:
        self.seen = Seen()
        self._target, self._dag_id = target, dag_id
        self._api = target.api()
        self._tests = 0             # how many have begun
        self._nameless = False      # whether the connections of the tested pattern name the driver alone
        self._probe: Probe | None = None
        self._watch: Watch | None = None

    def start(self) -> None:
        """Ask for everything but Neo4j from now on, as long as the process lives."""
        if self._target.flower:
            gevent.spawn(self._every, FLOWER_EVERY, "workers", self._workers)
        if self._target.stack:
            gevent.spawn(self._every, RESOURCES_EVERY, "resources", self._resources)
        gevent.spawn(self._every, 2 * EVERY, "states", self._states)

    @property
    def target(self) -> Target:
        """The deployment that is watched."""
        return self._target

    def begin(self, target: Target, pattern: str) -> None:
        """Watch ``target`` for a test of a pattern from now on."""
        if target != self._target:
            self._api.close()
            self._target, self._api = target, target.api()
        self._tests, self._nameless = self._tests + 1, is_nameless(pattern, target.relay)

    def look(self) -> None:
        """Look at Neo4j until the next sample is due, and keep the look with the most open connections."""
        try:
            self.seen.look = self._fullest_look()
            self.seen.troubles.pop("look", None)
        except (NotWatched, *SERVER_ERRORS) as error:
            self.seen.look = None
            self.seen.troubles["look"] = f"Neo4j: {one_line(error)}"
            gevent.sleep(EVERY)

    def _fullest_look(self) -> Look:
        begun, looks = time.monotonic(), list[tuple[int, Look]]()
        for number in range(1, LOOKS + 1):
            gevent.sleep(max(0.0, begun + number * EVERY / LOOKS - time.monotonic()))
            looks.append((self._tests, self._look(count=number == LOOKS)))
        # A look from before the present test is none of it: that was asked for the connections of another pattern.
        own = [look for tests, look in looks if tests == self._tests]
        if not own:
            return self._fullest_look()
        fullest, last = max(own, key=lambda look: len(look.pattern_of)), own[-1]
        return fullest._replace(t=last.t, opened=last.opened, seen=last.seen,
                                others=frozenset[int]().union(*(look.others for look in own)))

    def _look(self, *, count: bool) -> Look:
        server = self._target.neo4j
        if server is None:
            raise NotWatched("not watched, NEO4J_URI and NEO4J_PASSWORD are not set")
        if self._nameless and not server.alone:
            raise NotWatched(NAMELESS)
        if self._watch is None:
            self._probe = self._probe or Probe(server, EVERY)
            self._watch = self._probe.watch()
        return self._watch.look(count=count, nameless=self._nameless)

    def _every(self, seconds: float, name: str, ask: Callable[[], Any]) -> None:
        """Keep one part of the view up to date. It is None from the moment on in which it is not available."""
        while True:
            try:
                setattr(self.seen, name, ask())
                self.seen.troubles.pop(name, None)
            except RigError as error:
                setattr(self.seen, name, None)
                self.seen.troubles[name] = error.what
            gevent.sleep(seconds)

    def _states(self) -> dict[str, int]:
        return dict(self._api.active_states(self._dag_id))

    def _workers(self) -> dict[str, WorkerDrivers]:
        login = (self._target.username, self._target.flower_password.get_secret_value())
        return {name: drivers_of(section)
                for name, section in flower.drivers(self._target.flower or "", login).items()}

    def _resources(self) -> Resources:
        return resources_of(str(self._target.stack))


def drivers_of(section: dict[str, Any]) -> WorkerDrivers:
    """Return a worker's section of Flower's answer as sums. A worker without the hooks has no drivers."""
    drivers = section.get("drivers", [])
    return WorkerDrivers(
        processes=sum(len(driver["processes"]) for driver in drivers), drivers=len(drivers),
        **{name: sum(driver["connections"][name] for driver in drivers) for name in ("open", "in_use", "opened")})


def resources_of(stack: str) -> Resources:
    """Return what the processes of a native stack use, without this process and its own.

    Processes that end meanwhile do not count.
    """
    count = descriptors = memory = 0
    shares: list[int | None] = []
    this = psutil.Process()
    own = {this.pid, *(child.pid for child in this.children(recursive=True))}
    for process in marked(stack):
        if process.pid in own:
            continue
        try:
            with process.oneshot():
                memory += process.memory_info().rss
                descriptors += process.num_fds()
                count += 1
        except psutil.Error:
            continue
        shares.append(_pss(process))
        gevent.sleep(0)     # the kernel adds it up page by page; between two processes, other greenlets get their turn
    known = [share for share in shares if share is not None]
    return Resources(processes=count, descriptors=descriptors, memory=memory,
                     pss=sum(known) if known and len(known) == len(shares) else None)


def _pss(process: psutil.Process) -> int | None:
    """Return a process's proportional set size in bytes: 0 if it has ended, None if it is not reported."""
    try:
        return getattr(process.memory_full_info(), "pss", None)     # only Linux has it
    except psutil.NoSuchProcess:
        return 0
    except psutil.Error:
        return None


def by_pattern(look: Look) -> dict[str, Count]:
    """Return the connections of a look by the pattern that they name."""
    found: dict[str, list[int]] = {}
    for number, pattern in look.pattern_of.items():
        found.setdefault(pattern, []).append(number)
    return {pattern: Count(open=len(numbers), running=len(look.running & set(numbers)))
            for pattern, numbers in sorted(found.items())}


class Tally:
    """What was seen at Neo4j since a test began, out of a watch that counts on and on."""

    def __init__(self) -> None:
        self._base: dict[str, int] = {}
        self._others: set[int] = set()

    def of(self, look: Look) -> dict[str, Any]:
        """Return the parts of a sample that a look gives."""
        self._others |= look.others
        return {"open": len(look.pattern_of), "running": len(look.running), "patterns": by_pattern(look),
                "opened": None if look.opened is None else self._since("opened", look.opened),
                "seen": self._since("seen", look.seen), "others": len(self._others)}

    def _since(self, what: str, counted: int) -> int:
        return counted - self._base.setdefault(what, counted)


class Share:
    """How much of the machine this process and its children have used since this object was created."""

    def __init__(self) -> None:
        self._cpu, self._since = _cpu_seconds(), time.monotonic()

    def now(self) -> float:
        """Return the share, 0 to 1, of all cores."""
        return (_cpu_seconds() - self._cpu) / max(0.001, time.monotonic() - self._since) / (os.cpu_count() or 1)


def _cpu_seconds() -> float:
    total = 0.0
    this = psutil.Process()
    for process in [this, *this.children(recursive=True)]:
        try:
            times = process.cpu_times()
            total += times.user + times.system
        except psutil.Error:
            continue
    return total
