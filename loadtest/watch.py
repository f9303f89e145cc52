"""What is seen of a deployment once a second: Neo4j's connections, Airflow's runs, the workers' drivers, the machine.

One process of a test looks, whatever their number. What cannot be seen is None, and the sample says why.
"""

import os
import time
from dataclasses import dataclass, field
from typing import Any

import gevent
import psutil

from loadtest.records import Count, Resources, WorkerDrivers
from loadtest.target import Target
from rig import flower
from rig.errors import RigError
from rig.probe import SERVER_ERRORS, Look, Probe, Watch, one_line
from rig.stack.processes import marked

EVERY = 1.0             # seconds between two samples
FLOWER_EVERY = 5.0
RESOURCES_EVERY = 10.0


@dataclass
class Seen:
    """What is known now; parts of it are older than others by as much as they are asked for less often."""

    look: Look | None = None
    states: dict[str, int] | None = None
    workers: dict[str, WorkerDrivers] | None = None
    resources: Resources | None = None
    troubles: dict[str, str] = field(default_factory=dict)

    @property
    def trouble(self) -> str | None:
        """What could not be seen, in one line; None where all was."""
        return "; ".join(self.troubles.values()) or None


class Watcher:
    """Looks at one deployment. Its greenlets live as long as the process."""

    def __init__(self, target: Target, dag_id: str) -> None:
        self.seen = Seen()
        self._target, self._dag_id = target, dag_id
        self._api = target.api()
        self._watch: Watch | None = None
        self._probe: Probe | None = None
        if target.flower:
            gevent.spawn(self._every, FLOWER_EVERY, "Flower", self._ask_flower)
        if target.stack:
            gevent.spawn(self._every, RESOURCES_EVERY, "processes", self._count_resources)
        gevent.spawn(self._every, 2 * EVERY, "Airflow", self._ask_airflow)

    @property
    def target(self) -> Target:
        """What is looked at."""
        return self._target

    @target.setter
    def target(self, target: Target) -> None:
        if target != self._target:
            self._api.close()
            self._target, self._api = target, target.api()

    def look(self) -> None:
        """Look at Neo4j now; the rest is looked at by itself."""
        try:
            self.seen.look = self._at_neo4j()
            self.seen.troubles.pop("Neo4j", None)
        except SERVER_ERRORS as error:
            self.seen.look = None
            self.seen.troubles["Neo4j"] = f"Neo4j: {one_line(error)}"

    def _at_neo4j(self) -> Look | None:
        if self._target.neo4j is None:
            self.seen.troubles["Neo4j"] = "Neo4j: not watched, NEO4J_URI and NEO4J_PASSWORD are not set"
            return None
        if self._probe is None:
            self._probe = Probe(self._target.neo4j, EVERY)
        if self._watch is None:
            self._watch = self._probe.watch()
        return self._watch.look()

    def _every(self, seconds: float, what: str, ask: Any) -> None:
        while True:
            try:
                ask()
                self.seen.troubles.pop(what, None)
            except RigError as error:
                self.seen.troubles[what] = error.what
            gevent.sleep(seconds)

    def _ask_airflow(self) -> None:
        self.seen.states = None
        self.seen.states = dict(self._api.active_states(self._dag_id))

    def _ask_flower(self) -> None:
        login = (self._target.username, self._target.flower_password.get_secret_value())
        self.seen.workers = None
        self.seen.workers = {name: drivers_of(section)
                             for name, section in flower.drivers(self._target.flower or "", login).items()}

    def _count_resources(self) -> None:
        self.seen.resources = resources_of(str(self._target.stack))


def drivers_of(section: dict[str, Any]) -> WorkerDrivers:
    """Return a worker's section of Flower's answer as sums; a worker without the hooks has no drivers."""
    drivers = section.get("drivers", [])
    return WorkerDrivers(
        processes=sum(len(driver["processes"]) for driver in drivers), drivers=len(drivers),
        **{name: sum(driver["connections"][name] for driver in drivers) for name in ("open", "in_use", "opened")})


def resources_of(stack: str) -> Resources:
    """Return what the processes of a native stack take; those that end meanwhile count for nothing."""
    count = descriptors = memory = 0
    for process in marked(stack):
        try:
            with process.oneshot():
                memory += process.memory_info().rss
                descriptors += process.num_fds()
                count += 1
        except psutil.Error:
            continue
    return Resources(processes=count, descriptors=descriptors, memory=memory)


def by_pattern(look: Look) -> dict[str, Count]:
    """Return the connections of a look by the pattern that they name."""
    found: dict[str, list[int]] = {}
    for number, pattern in look.pattern_of.items():
        found.setdefault(pattern, []).append(number)
    return {pattern: Count(open=len(numbers), running=len(look.running & set(numbers)))
            for pattern, numbers in sorted(found.items())}


class Share:
    """How much of the machine this process and its children have taken since it was made."""

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
