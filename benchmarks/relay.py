"""What the relay costs: the same work directly and through it, alternating within one run.

``python benchmarks/relay.py --uri bolt://127.0.0.1:7687 --user neo4j`` with the password in
``NEO4J_PASSWORD``. Only ratios mean something on a shared machine; every pair is measured within
milliseconds, in random order.
"""

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import neo4j

from tests.worker_init.servers import Serving, serving

Work = Callable[[], object]


class Pair(NamedTuple):
    """One kind of work, both ways. ``bar`` is the ratio that is asked for."""

    name: str
    bar: float
    repeats: int
    direct: Work
    relayed: Work


def one(driver: neo4j.Driver) -> None:
    """Run the smallest query in a session of its own."""
    with driver.session(database="neo4j") as session:
        session.run("RETURN 1").consume()


def rows(driver: neo4j.Driver) -> None:
    """Read 100,000 rows."""
    with driver.session(database="neo4j") as session:
        for _ in session.run("UNWIND range(1,100000) AS x RETURN x, 'abc'+x AS y"):
            pass


def fresh(uri: str, auth: tuple[str, str]) -> None:
    """Open a driver for one query."""
    with neo4j.GraphDatabase.driver(uri, auth=auth) as driver:
        one(driver)


def timed(work: Work) -> float:
    """Return how long the work takes, in milliseconds."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def measure(pair: Pair) -> str:
    """Alternate the two, and return a row of the table: medians in milliseconds and their ratio."""
    for _ in range(pair.repeats // 10):
        pair.direct()
        pair.relayed()
    direct, relayed = [], []
    for _ in range(pair.repeats):
        if random.random() < 0.5:  # noqa: S311
            direct.append(timed(pair.direct))
            relayed.append(timed(pair.relayed))
        else:
            relayed.append(timed(pair.relayed))
            direct.append(timed(pair.direct))
    ratio = statistics.median(relayed) / statistics.median(direct)
    return (f"{pair.name:24} {len(direct):6} {statistics.median(direct):10.3f} {statistics.median(relayed):10.3f} "
            f"{ratio:7.3f} {pair.bar:6.2f}")


def pairs(uri: str, auth: tuple[str, str], host: Serving, scale: float) -> Iterator[Pair]:
    """Yield what is compared; drivers that are kept are kept for the whole run."""
    with neo4j.GraphDatabase.driver(uri, auth=auth) as direct, host.driver() as relayed:
        yield Pair("RETURN 1, driver kept", 1.25, int(2000 * scale), lambda: one(direct), lambda: one(relayed))
        yield Pair("RETURN 1, new driver", 0.7, int(300 * scale), lambda: fresh(uri, auth),
                   lambda: fresh(host.uri, host.auth))
        yield Pair("100,000 rows", 1.05, max(3, int(10 * scale)), lambda: rows(direct), lambda: rows(relayed))


@contextmanager
def served(uri: str, auth: tuple[str, str]) -> Iterator[Serving]:
    """Run a host for the benchmark."""
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), uri, auth) as host:
        yield host


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uri", default="bolt://127.0.0.1:7687")
    parser.add_argument("--user", default="neo4j")
    parser.add_argument("--scale", type=float, default=1.0, help="0.1 for a tenth of the repeats")
    options = parser.parse_args()
    auth = (options.user, os.environ["NEO4J_PASSWORD"])
    print(f"{'':24} {'pairs':>6} {'direct ms':>10} {'relay ms':>10} {'ratio':>7} {'bar':>6}")
    with served(options.uri, auth) as host:
        for pair in pairs(options.uri, auth, host, options.scale):
            print(measure(pair), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
