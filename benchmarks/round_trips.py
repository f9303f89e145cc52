"""The time of a task's calls if the server is far away, with TLS and without, for each pattern.

On a loopback the patterns hardly differ in time, because they differ in how often they wait for a round trip. A hop in
front of the server delays each message by the round trip, and holds a new connection back for one more, as TCP's
handshake does. A second hop behind it ends TLS, so that the TLS handshake is delayed too::

    python -m benchmarks.round_trips --out round-trips.json

A task asks its pattern for a driver, runs a query and reads the result, three times; its time ends with the last
result. ``problematic``, ``improved`` and ``shared`` (a shared driver in a driver host with an open connection) take
turns in random order; one turn of all three is a block. Ratios are the geometric mean over the blocks, with the
interval of a paired t-test on their logarithms, corrected for the number of comparisons. This takes about two minutes.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path
from statistics import linear_regression, median
from typing import Any, NamedTuple
from unittest.mock import patch

from benchmarks import hop
from benchmarks.common import conditions, neo4j_of, parser, say, write
from patterns import kept_drivers, registry
from patterns.problematic import ProblematicDatabaseConnection
from rig.metrics import intervals
from testing.certificates import certificate
from testing.servers import Neo4jServer, serving
from worker_init.arguments import real, whole

PATTERN_OF = {"problematic": "problematic", "improved": "improved", "shared": "worker"}
COMPARED = (("improved", "problematic"), ("shared", "problematic"), ("shared", "improved"))
ROUND_TRIPS = (0.0, 10.0, 50.0)     # milliseconds
CALLS = 3


class Place(NamedTuple):
    """The server's distance: the round trip in milliseconds, and whether the connection uses TLS."""

    round_trip: float
    tls: bool

    def __str__(self) -> str:
        return f"{self.round_trip:g} ms{', TLS' if self.tls else ''}"


@contextmanager
def placed(server: Neo4jServer, place: Place, folder: Path) -> Iterator[dict[str, str]]:
    """Place the server there; yield the variables that lead tasks to it, or to a driver host at the same distance."""
    with ExitStack() as stack:
        port, scheme = server.port, "bolt"
        if place.tls:
            port, scheme = stack.enter_context(hop.running(port, certificate=certificate(folder))), "bolt+ssc"
        if place.round_trip:
            port = stack.enter_context(hop.running(port, delay=place.round_trip / 2000, connecting=True))
        uri = f"{scheme}://127.0.0.1:{port}"
        host = stack.enter_context(serving(folder / "host", uri, server.auth, scope="shared"))
        yield {"NEO4J_URI": uri, "NEO4J_USERNAME": server.username, "NEO4J_PASSWORD": server.password,
               "NEO4J_DATABASE": "neo4j", "NEO4J_WORKER_URI": host.uri, "NEO4J_WORKER_USERNAME": host.auth[0],
               "NEO4J_WORKER_PASSWORD": host.auth[1]}


def calls_of(kind: str, environment: Mapping[str, str]) -> float:
    """Return how long a task's calls take, in milliseconds. What the task leaves open is closed afterwards."""
    connection = registry.load(PATTERN_OF[kind])(environment)
    began = time.perf_counter()
    for _ in range(CALLS):
        with connection.get_driver().session(database="neo4j") as session:
            session.run("RETURN 1").consume()
    passed = (time.perf_counter() - began) * 1000
    kept_drivers.close_all()
    while ProblematicDatabaseConnection.kept:
        ProblematicDatabaseConnection.kept.pop().close()
    return passed


def measure(environment: Mapping[str, str], blocks: int, order: random.Random) -> dict[str, list[float]]:
    """Return the times of each kind of task, block by block, after a block that is not counted."""
    times: dict[str, list[float]] = {kind: [] for kind in PATTERN_OF}
    with patch.dict(os.environ, environment):       # the address of a shared driver is read from the environment
        for _ in range(blocks + 1):
            for kind in order.sample(list(times), len(times)):
                times[kind].append(calls_of(kind, environment))
    return {kind: found[1:] for kind, found in times.items()}


def contrasts(times: Mapping[str, Sequence[float]], level: float) -> Iterator[dict[str, Any]]:
    """Yield the comparisons of the kinds at one place."""
    for of, over in COMPARED:
        found = intervals.ratios(list(zip(times[of], times[over], strict=True))) or []
        ends = intervals.of_ratio(found, level)
        yield {"of": of, "over": over, "ratio": intervals.geometric_mean(found), "interval": ends,
               "verdict": intervals.verdict_of_ratio(ends).verdict if ends else intervals.too_few(len(found), "blocks")}


def of_an_opening(cases: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the cost of opening a connection and querying once: round trips, and milliseconds in addition.

    It is the line through the medians of ``problematic``, which opens a connection for each call, over the round trips.
    """
    found = {}
    for name, tls in (("without TLS", False), ("with TLS", True)):
        points = [(case["round_trip"], case["median_ms"]["problematic"] / CALLS) for case in cases
                  if case["tls"] == tls]
        if len({round_trip for round_trip, _ in points}) > 1:
            line = linear_regression(*zip(*points, strict=True))
            found[name] = {"round_trips": line.slope, "milliseconds": line.intercept}
    return found


def table(cases: Sequence[Mapping[str, Any]]) -> str:
    """Return the medians, in milliseconds, and the ratios as a text table."""
    lines = [f"{'':14}" + "".join(f"{kind:>13}" for kind in PATTERN_OF)
             + "".join(f"{f'{of} / {over}':>30}" for of, over in COMPARED)]
    for case in cases:
        ratios = [f"{one['ratio']:.3f}" + (" ({:.3f} to {:.3f})".format(*one["interval"]) if one["interval"] else "")
                  for one in case["contrasts"]]
        lines.append(f"{Place(case['round_trip'], case['tls'])!s:14}"
                     + "".join(f"{case['median_ms'][kind]:13.1f}" for kind in PATTERN_OF)
                     + "".join(f"{ratio:>30}" for ratio in ratios))
    return "\n".join(lines)


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    """Read the options. A wrong one ends the program with one line and exit code 2."""
    made = parser(__doc__)
    made.add_argument("--blocks", type=whole(1), default=12,
                      help="tasks of each pattern at each place; 6 at least for an interval (default: %(default)s)")
    made.add_argument("--round-trips-ms", type=real(0, 1000), nargs="+", default=ROUND_TRIPS, metavar="MS",
                      help="round trips to try (default: 0, 10 and 50)")
    made.add_argument("--seed", type=int, default=1, help="seed of the order of the turns (default: %(default)s)")
    return made.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table, write the file."""
    options = options_of(arguments)
    began, cases, order = time.time(), [], random.Random(options.seed)      # noqa: S311 - an order, not a secret
    places = [Place(round_trip, tls) for tls, round_trip in product((False, True), options.round_trips_ms)]
    level = intervals.corrected(len(places) * len(COMPARED))
    with neo4j_of(options) as server:
        for place in places:
            say(f"{place}: {options.blocks} blocks …")
            with tempfile.TemporaryDirectory() as folder, placed(server, place, Path(folder)) as environment:
                times = measure(environment, options.blocks, order)
            cases.append({"round_trip": place.round_trip, "tls": place.tls, "times_ms": times,
                          "median_ms": {kind: median(found) for kind, found in times.items()},
                          "contrasts": list(contrasts(times, level))})
    opening = of_an_opening(cases)
    print(table(cases), *(f"opening a connection and asking once, {name}: {cost['round_trips']:.1f} round trips and "
                          f"{cost['milliseconds']:.1f} ms" for name, cost in opening.items()), sep="\n")
    write(options.out, {"conditions": conditions(began), "seed": options.seed, "level": level, "cases": cases,
                        "opening": opening})
    return 0


if __name__ == "__main__":
    sys.exit(main())
