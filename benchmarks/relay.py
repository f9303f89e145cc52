"""The cost of the relay: the same work directly and through it, alternating within one run.

On a shared machine, whose load changes from second to second, only ratios mean something. Each pair is measured within
milliseconds, in random order. The result is the median of the ratios of short blocks (a block's ratio is that of its
medians), with their quartiles as ``spread``. The slow network is a hop that adds 5 ms in each direction and holds a new
connection back for one more round trip, as TCP's handshake does on a network. For TLS, a hop in front of the server
ends TLS.

``client`` and ``host`` are the processor time of one try, in milliseconds: of this process, without and with the relay,
and of the relay. The rest of the time is Neo4j's, the kernel's and the hop's.
"""

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import neo4j

from benchmarks import hop
from benchmarks.common import conditions, neo4j_of, parser, read_seconds, say, write
from rig.percentile import percentile
from testing.certificates import certificate
from testing.servers import Neo4jServer, Serving, serving
from worker_init.arguments import real, whole

Work = Callable[[], object]
_BLOCKS = 30
_DELAY = 0.005


class Pair(NamedTuple):
    """One kind of work, both ways. ``bar`` is the ratio that must not be exceeded."""

    name: str
    bar: float
    repeats: int
    direct: Work
    relayed: Work
    host: Serving


class Try(NamedTuple):
    """The cost of one try: elapsed time and processor time of this process, in milliseconds."""

    passed: float
    worked: float


class Way(NamedTuple):
    """A URI, and the credentials to log on there."""

    uri: str
    auth: tuple[str, str]

    def driver(self) -> neo4j.Driver:
        """Return a new driver."""
        return neo4j.GraphDatabase.driver(self.uri, auth=self.auth)


def one(driver: neo4j.Driver) -> None:
    """Run the smallest query in a new session."""
    with driver.session(database="neo4j") as session:
        session.run("RETURN 1").consume()


def rows(driver: neo4j.Driver, number: int, at_a_time: int) -> None:
    """Read ``number`` rows, with a PULL for each ``at_a_time`` of them; the driver's default is 1,000."""
    with driver.session(database="neo4j", fetch_size=at_a_time) as session:
        for _ in session.run("UNWIND range(1, $number) AS x RETURN x, 'abc' + x AS y", number=number):
            pass


def fresh(way: Way) -> None:
    """Open a driver for one query."""
    with way.driver() as driver:
        one(driver)


def timed(work: Work) -> Try:
    """Return how long the work takes."""
    began, worked = time.perf_counter(), time.process_time()
    work()
    return Try((time.perf_counter() - began) * 1000, (time.process_time() - worked) * 1000)


def measure(pair: Pair) -> dict[str, Any]:
    """Alternate the two; return medians and quartiles in milliseconds, the ratio, and every try."""
    for _ in range(pair.repeats // 10 + 1):
        pair.direct()
        pair.relayed()
    direct: list[Try] = []
    relayed: list[Try] = []
    host_worked = read_seconds(pair.host.process.pid)
    for _ in range(pair.repeats):
        both = [(direct, pair.direct), (relayed, pair.relayed)]
        for tries, work in random.sample(both, 2):
            tries.append(timed(work))
    host_worked = read_seconds(pair.host.process.pid) - host_worked
    times = {"direct": [each.passed for each in direct], "relay": [each.passed for each in relayed]}
    low, ratio, high = _quartiles(list(map(_ratio, _blocks(times["relay"]), _blocks(times["direct"]))))
    return {"name": pair.name, "pairs": pair.repeats, "direct_ms": _figures(times["direct"]),
            "relay_ms": _figures(times["relay"]), "ratio": round(ratio, 3), "spread": [round(low, 3), round(high, 3)],
            "ratio_of_medians": round(_ratio(times["relay"], times["direct"]), 3), "bar": pair.bar,
            "reached": ratio <= pair.bar,
            "processor_ms": {"client_direct": _mean(each.worked for each in direct),
                             "client_relay": _mean(each.worked for each in relayed),
                             "host": round(host_worked * 1000 / pair.repeats, 3)},
            "tries": times}


def _blocks(values: list[float]) -> list[list[float]]:
    size = max(1, len(values) // _BLOCKS)
    return [values[at:at + size] for at in range(0, len(values) - size + 1, size)]


def _ratio(relayed: list[float], direct: list[float]) -> float:
    return statistics.median(relayed) / statistics.median(direct)


def _mean(values: Iterable[float]) -> float:
    return round(statistics.fmean(values), 3)


def _quartiles(values: list[float]) -> list[float]:
    return [percentile(values, percent) for percent in (25, 50, 75)]


def _figures(values: list[float]) -> dict[str, Any]:
    low, median, high = _quartiles(values)
    return {"median": round(median, 3), "quartiles": [round(low, 3), round(high, 3)]}


def loopback(server: Neo4jServer, host: Serving, scale: float, number: int) -> Iterator[Pair]:
    """Yield the comparisons without a network in between; kept drivers are kept for the whole run."""
    with server.driver() as direct, host.driver() as relayed:
        yield Pair("RETURN 1, driver kept", 1.25, max(5, int(3000 * scale)), lambda: one(direct), lambda: one(relayed),
                   host)
        yield _new_driver("RETURN 1, new driver", 0.7, max(5, int(500 * scale)), Way(server.uri, server.auth), host)
        for name, at_a_time in ((f"{number:,} rows", 1000), ("… 10,000 at a time", 10_000)):
            yield Pair(name, 1.05, max(3, int(30 * scale)), partial(rows, direct, number, at_a_time),
                       partial(rows, relayed, number, at_a_time), host)


def _new_driver(name: str, bar: float, repeats: int, direct: Way, host: Serving) -> Pair:
    relayed = Way(host.uri, host.auth)
    return Pair(name, bar, repeats, lambda: fresh(direct), lambda: fresh(relayed), host)


def slow_network(server: Neo4jServer, folder: Path, scale: float) -> Iterator[Pair]:
    """Yield the comparisons with the server 10 ms away."""
    with (hop.running(server.port, delay=_DELAY, connecting=True) as port,
          _served(folder / "slow", f"bolt://127.0.0.1:{port}", server.auth) as host):
        yield _new_driver("… 10 ms round trip", 0.35, max(5, int(200 * scale)),
                          Way(f"bolt://127.0.0.1:{port}", server.auth), host)


def tls(server: Neo4jServer, folder: Path, scale: float) -> Iterator[Pair]:
    """Yield the comparisons with TLS."""
    with (hop.running(server.port, certificate=certificate(folder)) as port,
          _served(folder / "tls", f"bolt+ssc://127.0.0.1:{port}", server.auth) as host):
        yield _new_driver("… TLS", 0.45, max(5, int(300 * scale)),
                          Way(f"bolt+ssc://127.0.0.1:{port}", server.auth), host)


@contextmanager
def _served(folder: Path, uri: str, auth: tuple[str, str]) -> Iterator[Serving]:
    """Run a host that already has as many connections open as will be needed."""
    with serving(folder, uri, auth) as host:
        with host.driver() as driver:
            one(driver)
        yield host


def pairs(server: Neo4jServer, folder: Path, scale: float, number: int) -> Iterator[Pair]:
    """Yield every comparison."""
    with ExitStack() as stack:
        host = stack.enter_context(_served(folder / "loopback", server.uri, server.auth))
        yield from loopback(server, host, scale, number)
    yield from slow_network(server, folder, scale)
    yield from tls(server, folder, scale)


def table(cases: list[dict[str, Any]]) -> str:
    """Return the result as a text table, with times in milliseconds."""
    lines = [f"{'':24} {'pairs':>6} {'direct':>9} {'relay':>9} {'ratio':>7} {'spread':>15} {'bar':>6} "
             f"{'client':>17} {'host':>6}"]
    for case in cases:
        times = f"{case['direct_ms']['median']:9.3f} {case['relay_ms']['median']:9.3f}"
        ratios = "{:7.3f} {:>15} {:6.2f}".format(
            case["ratio"], "{:.3f}-{:.3f}".format(*case["spread"]), case["bar"])
        worked = "{client_direct:8.2f} {client_relay:8.2f} {host:6.2f}".format(**case["processor_ms"])
        lines.append(f"{case['name']:24} {case['pairs']:6} {times} {ratios} {worked}"
                     f"{'' if case['reached'] else '  missed'}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table, write the file."""
    options_of = parser(__doc__)
    options_of.add_argument("--scale", type=real(0.01), default=1.0, help="factor for the repeats: 0.1 for a tenth")
    options_of.add_argument("--rows", type=whole(1), default=100_000, help="rows of the large result")
    options_of.add_argument("--only", default="", help="measure only cases with this in their names")
    options = options_of.parse_args(arguments)
    began, cases = time.time(), []
    with neo4j_of(options) as server, tempfile.TemporaryDirectory() as folder:
        for pair in pairs(server, Path(folder), options.scale, options.rows):
            if options.only in pair.name:
                say(f"{pair.name}: {pair.repeats} pairs …")
                cases.append(measure(pair))
    print(table(cases))
    write(options.out, {"conditions": conditions(began), "cases": cases})
    return 0


if __name__ == "__main__":
    sys.exit(main())
